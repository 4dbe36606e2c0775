//! The two local threads of a node with asynchronous storage, as work items, and what travels between nodes.

use ketch_raft::testing::Report;
use ketch_raft::{ApplyToken, Entry, HardState, Message, NodeId, PersistToken, SnapshotMeta};

use crate::describe::{Fields, message, target};

/// Something on its way to a node.
#[derive(Debug)]
pub(crate) enum Letter {
    /// From a peer, or a promise to the node itself.
    Peer(Message),
    /// The append thread is done with a batch.
    Appended { to: NodeId, report: Report },
    /// The apply thread is done with a batch.
    Applied { to: NodeId, entries: Vec<Entry>, token: ApplyToken },
}

impl Letter {
    pub(crate) fn to(&self) -> NodeId {
        match self {
            Letter::Peer(message) => message.to,
            Letter::Appended { to, .. } | Letter::Applied { to, .. } => *to,
        }
    }

    /// Never dropped.
    pub(crate) fn is_local(&self) -> bool {
        !matches!(self, Letter::Peer(message) if message.from != message.to)
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Letter::Peer(message) => crate::describe::message_type(&message.body),
            Letter::Appended { .. } => "MsgStorageAppendResp",
            Letter::Applied { .. } => "MsgStorageApplyResp",
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Letter::Peer(letter) => message(letter),
            Letter::Appended { to, report } => {
                let last = report.last.unwrap_or_default();
                let snapshot = report.snapshot_meta();
                Fields {
                    from: "AppendThread".to_string(),
                    to: target(*to),
                    kind: self.kind(),
                    term: report.term,
                    log_term: last.term,
                    index: last.index,
                    snapshot,
                    ..Fields::default()
                }
                .text()
            }
            Letter::Applied { to, entries, .. } => Fields {
                from: "ApplyThread".to_string(),
                to: target(*to),
                kind: self.kind(),
                entries,
                ..Fields::default()
            }
            .text(),
        }
    }
}

/// A batch for the append thread.
#[derive(Debug)]
pub(crate) struct AppendWork {
    pub(crate) node: NodeId,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) responses: Vec<Letter>,
    pub(crate) token: PersistToken,
}

impl AppendWork {
    pub(crate) fn text(&self, with_responses: bool) -> String {
        let hard = self.hard_state.unwrap_or_default();
        Fields {
            from: target(self.node),
            to: "AppendThread".to_string(),
            kind: "MsgStorageAppend",
            term: hard.term,
            commit: hard.commit,
            vote: hard.vote,
            entries: &self.entries,
            snapshot: self.snapshot.as_ref(),
            responses: if with_responses {
                self.responses.iter().map(Letter::text).collect()
            } else {
                Vec::new()
            },
            ..Fields::default()
        }
        .text()
    }
}

/// A batch for the apply thread.
#[derive(Debug)]
pub(crate) struct ApplyWork {
    pub(crate) response: Letter,
}

impl ApplyWork {
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.response {
            Letter::Applied { entries, .. } => entries,
            _ => &[],
        }
    }

    pub(crate) fn text(&self, with_responses: bool) -> String {
        Fields {
            from: target(self.response.to()),
            to: "ApplyThread".to_string(),
            kind: "MsgStorageApply",
            entries: self.entries(),
            responses: if with_responses { vec![self.response.text()] } else { Vec::new() },
            ..Fields::default()
        }
        .text()
    }
}
