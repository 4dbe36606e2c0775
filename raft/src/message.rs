//! What members say to each other: one variant per call and answer, documented to the field.

use crate::types::{Entry, EntryId, Index, NodeId, ReadId, SnapshotMeta, Term, payload_bytes};

/// The round of a heartbeat that only tells of the commit index and wants no answer.
pub const NO_ROUND: u64 = 0;

/// An envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Message {
    /// Who says it. In a forwarded [`Body::TransferLeader`] the member that shall lead.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// The sender's term, except: pre-votes and their grants carry the term of the election they ask about;
    /// [`Body::Propose`] and [`Body::ReadIndex`] carry 0, since they mean whoever leads.
    pub term: Term,
    /// What.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Body {
    /// Follower to leader: append these. Not answered; the proposer sees its entry committed, or not.
    Propose {
        /// Terms and indexes are 0.
        entries: Vec<Entry>,
    },
    /// Leader to follower: the entries after `index`. Answered by [`Body::AppendAnswer`].
    Append {
        /// The entry just before the first of `entries`.
        index: Index,
        /// That entry's term.
        log_term: Term,
        /// Consecutive from `index + 1`; empty to tell of `commit` or to probe.
        entries: Vec<Entry>,
        /// The leader's commit index, which may lie beyond `entries`.
        commit: Index,
    },
    /// Follower to leader, also after a snapshot. Sent only once what it acknowledges is durable.
    AppendAnswer {
        /// Accepted: the log matches the leader's up to here. Rejected: the `index` of the refused append.
        /// 0 when a member at a newer term only wants to be heard.
        index: Index,
        /// Why not.
        rejection: Option<Rejection>,
    },
    /// Candidate to voter. Sent only once the candidate's term, own vote and log are durable.
    Vote {
        /// The candidate's last entry.
        index: Index,
        /// That entry's term.
        log_term: Term,
        /// The leader asked for this election: voters ignore their lease.
        transfer: bool,
        /// The last entry the candidate knows to be committed, so that a voter who holds it learns so too: it may be
        /// the one who has to win, and not know yet that it is a voter.
        commit: EntryId,
    },
    /// Voter to candidate. Sent only once the vote is durable.
    VoteAnswer {
        /// True: no vote for you.
        reject: bool,
        /// With a refusal: the last entry the voter knows to be committed, so that a candidate who holds it learns so
        /// too. (A removed member may be the only one who knows that it was removed, and in the way until then.)
        /// Zero with a grant.
        commit: EntryId,
    },
    /// As [`Body::Vote`], asked about `term` before entering it. Binds nobody.
    PreVote {
        /// The asker's last entry.
        index: Index,
        /// That entry's term.
        log_term: Term,
        /// As in [`Body::Vote`].
        commit: EntryId,
    },
    /// Carries the asked term when granted, the voter's own when not.
    PreVoteAnswer {
        /// True: you would not get my vote.
        reject: bool,
        /// As in [`Body::VoteAnswer`].
        commit: EntryId,
    },
    /// Leader to all.
    Heartbeat {
        /// The leader's commit index, at most what it knows to match on the receiver.
        commit: Index,
        /// Numbers the broadcasts of a leader's life; an answer to it proves leadership at its sending.
        /// [`NO_ROUND`]: only tells of `commit`, and is not answered.
        round: u64,
    },
    /// Follower to leader.
    HeartbeatAnswer {
        /// The heartbeat's `round`.
        round: u64,
    },
    /// Leader to a follower that needs entries the leader's log no longer holds. The payload travels outside;
    /// the receiver's owner stages, verifies and syncs it before stepping this. Answered by [`Body::AppendAnswer`].
    Snapshot {
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// To the leader: hand leadership to `from`.
    TransferLeader,
    /// Leader to the member that shall lead: campaign now.
    TimeoutNow,
    /// Follower to leader: from which index on may this read be served?
    ReadIndex {
        /// The read.
        id: ReadId,
    },
    /// Leader to the follower that asked.
    ReadIndexAnswer {
        /// The read.
        id: ReadId,
        /// Serve it once this is applied.
        index: Index,
    },
}

/// A refused append, with the best guess where the logs still match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rejection {
    /// The highest index that may match.
    pub hint: Index,
    /// The follower's term at `hint`; 0 when it does not know.
    pub log_term: Term,
}

/// So many proposals go together at most.
const ABSORBED_MAX: usize = 128;

impl Message {
    /// Says what `next` says as well, if one message can: of two acknowledgements to one peer the later one is enough, and
    /// proposals passed on to one leader go together, up to `bytes_max` of payload. False: they stay two.
    pub(crate) fn absorb(&mut self, next: &Message, bytes_max: u64) -> bool {
        if (self.from, self.to, self.term) != (next.from, next.to, next.term) {
            return false;
        }
        match (&mut self.body, &next.body) {
            (
                Body::AppendAnswer { index, rejection: None },
                Body::AppendAnswer { index: later, rejection: None },
            ) => {
                *index = (*index).max(*later);
                true
            }
            (Body::Propose { entries }, Body::Propose { entries: more }) => {
                let plain = !entries.iter().chain(more).any(Entry::is_conf_change);
                let fits = entries.len() + more.len() <= ABSORBED_MAX
                    && payload_bytes(entries) + payload_bytes(more) <= bytes_max;
                if !plain || !fits {
                    return false;
                }
                entries.extend_from_slice(more);
                true
            }
            _ => false,
        }
    }
}

impl Body {
    /// The name for traces and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Body::Propose { .. } => "propose",
            Body::Append { .. } => "append",
            Body::AppendAnswer { .. } => "append_answer",
            Body::Vote { .. } => "vote",
            Body::VoteAnswer { .. } => "vote_answer",
            Body::PreVote { .. } => "pre_vote",
            Body::PreVoteAnswer { .. } => "pre_vote_answer",
            Body::Heartbeat { .. } => "heartbeat",
            Body::HeartbeatAnswer { .. } => "heartbeat_answer",
            Body::Snapshot { .. } => "snapshot",
            Body::TransferLeader => "transfer_leader",
            Body::TimeoutNow => "timeout_now",
            Body::ReadIndex { .. } => "read_index",
            Body::ReadIndexAnswer { .. } => "read_index_answer",
        }
    }

    /// Answers rest on what the sender holds durably: they wait for the persist lane.
    pub(crate) fn is_promise(&self) -> bool {
        matches!(self, Body::AppendAnswer { .. } | Body::VoteAnswer { .. } | Body::PreVoteAnswer { .. })
    }

    /// Only members the receiver tracks may answer it.
    pub(crate) fn is_answer(&self) -> bool {
        self.is_promise() || matches!(self, Body::HeartbeatAnswer { .. } | Body::ReadIndexAnswer { .. })
    }
}
