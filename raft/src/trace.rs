//! What happened inside, as data: for logs, metrics and tests. No subscriber is needed, and nothing is built
//! when nobody listens.

use crate::error::Refusal;
use crate::membership::{ConfChange, ConfState};
use crate::message::Message;
use crate::progress::Progress;
use crate::types::{EntryId, Index, NodeId, Role, Term};

/// Takes events as they happen, in order, on the thread that drives the node.
pub trait Tracer: Send {
    /// One event of member `id`, which is in `term` now.
    fn event(&mut self, id: NodeId, term: Term, event: &Event);
}

/// A vote or the question before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteKind {
    /// Asked before the term is raised.
    PreVote,
    /// Binding.
    Vote,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The node starts.
    Started {
        /// Voters.
        voters: Vec<NodeId>,
        /// Commit index.
        commit: Index,
        /// Applied index.
        applied: Index,
        /// End of the log.
        last: EntryId,
    },
    /// A message was queued; when it leaves is the lanes' business.
    Sent {
        /// The message.
        message: Message,
    },
    /// The role changed, or was taken anew in another term.
    Became {
        /// The role.
        role: Role,
    },
    /// An election begins.
    ElectionStarting,
    /// An election was refused.
    CampaignRefused {
        /// Why.
        refusal: Refusal,
    },
    /// A vote is asked for.
    VoteRequested {
        /// Which.
        kind: VoteKind,
        /// From whom.
        to: NodeId,
        /// End of the own log.
        last: EntryId,
    },
    /// A vote arrived.
    VoteReceived {
        /// Which.
        kind: VoteKind,
        /// From whom.
        from: NodeId,
        /// Granted.
        granted: bool,
    },
    /// Votes counted so far.
    VotesCounted {
        /// Which.
        kind: VoteKind,
        /// For.
        granted: usize,
        /// Against.
        refused: usize,
    },
    /// Somebody's request for a vote was granted.
    VoteGranted {
        /// Which.
        kind: VoteKind,
        /// To whom.
        to: NodeId,
        /// End of the own log.
        last: EntryId,
        /// Own vote before.
        vote: NodeId,
        /// End of the candidate's log.
        theirs: EntryId,
    },
    /// Somebody's request for a vote was refused.
    VoteRefused {
        /// Which.
        kind: VoteKind,
        /// To whom.
        to: NodeId,
        /// End of the own log.
        last: EntryId,
        /// Own vote.
        vote: NodeId,
        /// End of the candidate's log.
        theirs: EntryId,
    },
    /// A request for a vote was ignored: a leader was heard of recently.
    VoteIgnoredInLease {
        /// Which.
        kind: VoteKind,
        /// From whom.
        from: NodeId,
        /// End of the own log.
        last: EntryId,
        /// Own vote.
        vote: NodeId,
        /// End of the candidate's log.
        theirs: EntryId,
        /// Ticks until it would be considered.
        remaining_ticks: u32,
    },
    /// A newer term was heard of.
    HigherTerm {
        /// By.
        message: Message,
    },
    /// A message of an older term was ignored.
    LowerTermIgnored {
        /// Which.
        message: Message,
    },
    /// A durable report was ignored because the term changed since.
    StaleStableIgnored {
        /// Term of the report.
        report_term: Term,
    },
    /// A durable report did not match the log in memory.
    StableMismatch {
        /// The report.
        reported: EntryId,
        /// The term in memory; `None` when the entry is not there, 0 when it is a snapshot.
        held: Option<Term>,
    },
    /// A leader lost its quorum.
    QuorumLost,
    /// A proposal was refused.
    ProposalRefused {
        /// Why.
        refusal: Refusal,
    },
    /// A change of members was refused.
    ChangeRefused {
        /// The change.
        change: ConfChange,
        /// Members in force.
        members: ConfState,
        /// Why.
        refusal: Refusal,
    },
    /// An answer came from somebody who is not tracked.
    UnknownPeer {
        /// Who.
        from: NodeId,
    },
    /// A follower refused an append.
    AppendRejected {
        /// Who.
        from: NodeId,
        /// The refused index.
        index: Index,
        /// Where it may match.
        hint: EntryId,
    },
    /// This follower refused an append.
    AppendRefused {
        /// To whom.
        to: NodeId,
        /// The pair asked for.
        asked: EntryId,
        /// The own term there; 0 if none.
        held: Term,
    },
    /// Sending to a peer goes on from further back.
    ProgressDecreased {
        /// Who.
        peer: NodeId,
        /// Afterwards.
        progress: Progress,
    },
    /// A snapshot is sent.
    SnapshotSent {
        /// To.
        to: NodeId,
        /// First index held.
        first_index: Index,
        /// Commit index.
        commit: Index,
        /// The snapshot.
        snapshot: EntryId,
        /// Before.
        before: Progress,
        /// Afterwards.
        after: Progress,
    },
    /// No snapshot is sent: the peer was not heard of recently.
    SnapshotSkippedInactive {
        /// Who.
        to: NodeId,
    },
    /// No snapshot is sent: none is ready.
    SnapshotUnavailable {
        /// Who.
        to: NodeId,
    },
    /// A peer no longer needs a snapshot.
    SnapshotRecovered {
        /// Who.
        peer: NodeId,
        /// Before.
        progress: Progress,
    },
    /// The owner reported how a snapshot fared.
    SnapshotReported {
        /// Who.
        peer: NodeId,
        /// It arrived.
        ok: bool,
        /// Afterwards.
        progress: Progress,
    },
    /// The owner reported a peer unreachable.
    Unreachable {
        /// Who.
        peer: NodeId,
        /// Afterwards.
        progress: Progress,
    },
    /// A request to hand leadership over was not taken.
    TransferIgnored {
        /// Who.
        to: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// A transfer to this peer runs already.
    TransferRepeated {
        /// Who.
        to: NodeId,
    },
    /// A transfer was given up for another.
    TransferAborted {
        /// Who.
        to: NodeId,
    },
    /// A transfer begins.
    TransferStarted {
        /// Who.
        to: NodeId,
    },
    /// The next leader was told to campaign.
    TimeoutNowSent {
        /// Who.
        to: NodeId,
        /// At once, because its log was complete.
        immediately: bool,
    },
    /// Told to campaign.
    TimeoutNowReceived {
        /// By.
        from: NodeId,
    },
    /// Told to campaign while campaigning.
    TimeoutNowIgnored {
        /// By.
        from: NodeId,
        /// The role.
        role: Role,
    },
    /// A transfer or read could not be passed on.
    NotForwarded {
        /// What.
        what: &'static str,
    },
    /// The leader was forgotten on request.
    LeaderForgotten {
        /// Who.
        leader: NodeId,
    },
    /// A leader was not forgotten: lease reads rely on it.
    ForgetRefused,
    /// Entries will be replaced.
    Conflict {
        /// From here.
        index: Index,
        /// Own term.
        existing: Term,
        /// The leader's.
        conflicting: Term,
    },
    /// Entries not yet durable were replaced, all of them or from an index on.
    UnstableReplaced {
        /// From here.
        index: Index,
        /// All of them.
        all: bool,
    },
    /// A snapshot takes the place of the log.
    SnapshotRestoring {
        /// The log before.
        log: LogSummary,
        /// The snapshot.
        snapshot: EntryId,
    },
    /// It did.
    SnapshotRestored {
        /// Commit index.
        commit: Index,
        /// End of the log.
        last: EntryId,
        /// The snapshot.
        snapshot: EntryId,
    },
    /// A snapshot message was answered.
    SnapshotAnswered {
        /// Commit index.
        commit: Index,
        /// The snapshot.
        snapshot: EntryId,
        /// It took the place of the log.
        restored: bool,
    },
    /// A snapshot is not for this member.
    SnapshotForeign {
        /// Its members.
        members: ConfState,
    },
    /// It only told of a commit index.
    SnapshotFastForward {
        /// Commit index before.
        commit: Index,
        /// End of the log.
        last: EntryId,
        /// The snapshot.
        snapshot: EntryId,
    },
    /// Other members are in force.
    MembersSwitched {
        /// Which.
        members: ConfState,
    },
    /// A joint configuration is being left by itself.
    AutoLeave {
        /// Members in force.
        members: ConfState,
        /// Why not, if not.
        refusal: Option<Refusal>,
    },
}

/// A log in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSummary {
    /// Commit index.
    pub committed: Index,
    /// Reported applied.
    pub applied: Index,
    /// Handed out for applying.
    pub applying: Index,
    /// First entry not durable.
    pub unstable_offset: Index,
    /// First entry not handed out for persisting.
    pub unstable_in_progress: Index,
    /// Entries not durable.
    pub unstable_len: usize,
}
