//! Messages, entries and states as the scripts print them.

use std::fmt::Write;

use ketch_raft::{
    Body, ConfChange, ConfChangeKind, ConfState, Entry, HardState, Message, NodeId, Payload, Role,
    SnapshotMeta, SoftState, Transition,
};

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "StateFollower",
        Role::PreCandidate => "StatePreCandidate",
        Role::Candidate => "StateCandidate",
        Role::Leader => "StateLeader",
    }
}

pub(crate) fn message_type(body: &Body) -> &'static str {
    match body {
        Body::Propose { .. } => "MsgProp",
        Body::Append { .. } => "MsgApp",
        Body::AppendAnswer { .. } => "MsgAppResp",
        Body::Vote { .. } => "MsgVote",
        Body::VoteAnswer { .. } => "MsgVoteResp",
        Body::PreVote { .. } => "MsgPreVote",
        Body::PreVoteAnswer { .. } => "MsgPreVoteResp",
        Body::Heartbeat { .. } => "MsgHeartbeat",
        Body::HeartbeatAnswer { .. } => "MsgHeartbeatResp",
        Body::Snapshot { .. } => "MsgSnap",
        Body::TransferLeader => "MsgTransferLeader",
        Body::TimeoutNow => "MsgTimeoutNow",
        Body::ReadIndex { .. } => "MsgReadIndex",
        Body::ReadIndexAnswer { .. } => "MsgReadIndexResp",
    }
}

/// The fields of a message that are printed; storage messages have them too.
#[derive(Default)]
pub(crate) struct Fields<'a> {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) kind: &'static str,
    pub(crate) term: u64,
    pub(crate) log_term: u64,
    pub(crate) index: u64,
    pub(crate) rejected: Option<u64>,
    pub(crate) commit: u64,
    pub(crate) vote: NodeId,
    pub(crate) entries: &'a [Entry],
    pub(crate) snapshot: Option<&'a SnapshotMeta>,
    pub(crate) responses: Vec<String>,
}

impl Fields<'_> {
    /// One line, or several with entries, a snapshot or responses.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{}->{} {} Term:{} Log:{}/{}",
            self.from, self.to, self.kind, self.term, self.log_term, self.index
        );
        if let Some(hint) = self.rejected {
            let _ = write!(text, " Rejected (Hint: {hint})");
        }
        if self.commit != 0 {
            let _ = write!(text, " Commit:{}", self.commit);
        }
        if self.vote != 0 {
            let _ = write!(text, " Vote:{}", self.vote);
        }
        match self.entries {
            [] => {}
            [one] => {
                let _ = write!(text, " Entries:[{}]", entry(one));
            }
            several => {
                text.push_str(" Entries:[");
                for one in several {
                    let _ = write!(text, "\n  {}", entry(one));
                }
                text.push_str("\n]");
            }
        }
        if let Some(meta) = self.snapshot.filter(|meta| meta.index != 0) {
            let _ = write!(text, "\n  Snapshot: {}", snapshot(meta));
        }
        if !self.responses.is_empty() {
            text.push_str(" Responses:[");
            for response in &self.responses {
                for line in response.lines() {
                    let _ = write!(text, "\n  {line}");
                }
            }
            text.push_str("\n]");
        }
        text
    }
}

pub(crate) fn target(id: NodeId) -> String {
    if id == 0 { "None".to_string() } else { format!("{id:x}") }
}

pub(crate) fn message(message: &Message) -> String {
    let mut fields = Fields {
        from: target(message.from),
        to: target(message.to),
        kind: message_type(&message.body),
        term: message.term,
        ..Fields::default()
    };
    match &message.body {
        Body::Propose { entries } => fields.entries = entries,
        Body::Append { index, log_term, entries, commit } => {
            (fields.index, fields.log_term, fields.entries, fields.commit) =
                (*index, *log_term, entries, *commit);
        }
        Body::AppendAnswer { index, rejection } => {
            fields.index = *index;
            if let Some(rejection) = rejection {
                fields.log_term = rejection.log_term;
                fields.rejected = Some(rejection.hint);
            }
        }
        Body::Vote { index, log_term, .. } | Body::PreVote { index, log_term, .. } => {
            (fields.index, fields.log_term) = (*index, *log_term);
        }
        Body::VoteAnswer { reject, .. } | Body::PreVoteAnswer { reject, .. } => {
            fields.rejected = reject.then_some(0);
        }
        Body::Heartbeat { commit, .. } => fields.commit = *commit,
        Body::Snapshot { meta } => fields.snapshot = Some(meta),
        Body::ReadIndexAnswer { index, .. } => fields.index = *index,
        Body::HeartbeatAnswer { .. } | Body::TransferLeader | Body::TimeoutNow | Body::ReadIndex { .. } => {}
    }
    fields.text()
}

pub(crate) fn entry(entry: &Entry) -> String {
    let what = match &entry.payload {
        Payload::Normal(data) => format!("EntryNormal {}", quoted(data)),
        Payload::ConfChange(change) => {
            let kind = if change.v1 { "EntryConfChange" } else { "EntryConfChangeV2" };
            let steps: String =
                change.changes.iter().map(|step| format!(" {}{}", letter(step.kind), step.node)).collect();
            format!("{kind}{steps}")
        }
    };
    format!("{}/{} {what}", entry.term, entry.index)
}

pub(crate) fn entries(entries: &[Entry]) -> String {
    entries.iter().map(|one| entry(one) + "\n").collect()
}

fn letter(kind: ConfChangeKind) -> char {
    match kind {
        ConfChangeKind::AddVoter => 'v',
        ConfChangeKind::AddLearner => 'l',
        ConfChangeKind::Remove => 'r',
        ConfChangeKind::Update => 'u',
    }
}

fn quoted(data: &[u8]) -> String {
    let mut text = String::from("\"");
    for c in String::from_utf8_lossy(data).chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(text, "\\x{:02x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

pub(crate) fn change(change: &ConfChange) -> String {
    let transition = match change.transition {
        Transition::Auto => "ConfChangeTransitionAuto",
        Transition::Implicit => "ConfChangeTransitionJointImplicit",
        Transition::Explicit => "ConfChangeTransitionJointExplicit",
    };
    let mut text = format!("transition:{transition}");
    for step in &change.changes {
        let kind = match step.kind {
            ConfChangeKind::AddVoter => "ConfChangeAddNode",
            ConfChangeKind::AddLearner => "ConfChangeAddLearnerNode",
            ConfChangeKind::Remove => "ConfChangeRemoveNode",
            ConfChangeKind::Update => "ConfChangeUpdateNode",
        };
        let _ = write!(text, " changes:{{type:{kind} node_id:{}}}", step.node);
    }
    if !change.context.is_empty() {
        let _ = write!(text, " context:{}", quoted(&change.context));
    }
    text
}

fn list(ids: &[NodeId]) -> String {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    format!("[{}]", ids.join(" "))
}

pub(crate) fn snapshot(meta: &SnapshotMeta) -> String {
    let ConfState { voters, voters_outgoing, learners, learners_next, auto_leave } = &meta.conf_state;
    format!(
        "Index:{} Term:{} ConfState:Voters:{} VotersOutgoing:{} Learners:{} LearnersNext:{} AutoLeave:{auto_leave}",
        meta.index,
        meta.term,
        list(voters),
        list(voters_outgoing),
        list(learners),
        list(learners_next)
    )
}

pub(crate) fn soft_state(soft: SoftState) -> String {
    format!("Lead:{} State:{}", soft.leader, role(soft.role))
}

pub(crate) fn hard_state(hard: HardState) -> String {
    let vote = if hard.vote == 0 { String::new() } else { format!(" Vote:{}", hard.vote) };
    format!("Term:{}{vote} Commit:{}", hard.term, hard.commit)
}
