//! What can go wrong, and what the owner should do about it.
//!
//! * [`Refusal`]: a request was not taken; nothing changed.
//! * [`StepError`]: a message was not taken; nothing changed.
//! * [`Fault`]: this member's log, storage or peers contradict the protocol. The node stops for good, because
//!   going on could lose what was acknowledged.
//! * [`StorageError`]: what a [`Storage`](crate::Storage) answers.

use std::error::Error;
use std::fmt;

use crate::types::{Index, NodeId, Term};

/// An option out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// `id` is 0 or one of the two largest numbers.
    Id,
    /// `heartbeat_ticks` is 0.
    HeartbeatTicks,
    /// `election_ticks` is not above `heartbeat_ticks`, or absurd.
    ElectionTicks,
    /// `max_inflight_messages` is 0.
    InflightMessages,
    /// `max_inflight_bytes` is below `max_append_bytes`.
    InflightBytes,
    /// Lease reads without `check_quorum`.
    LeaseNeedsCheckQuorum,
    /// The drift bound is not below `election_ticks`.
    LeaseDrift,
    /// `applied` is absurd.
    Applied,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfigError::Id => "id must not be 0 or one of the two largest numbers",
            ConfigError::HeartbeatTicks => "heartbeat_ticks must be at least 1",
            ConfigError::ElectionTicks => "election_ticks must be greater than heartbeat_ticks",
            ConfigError::InflightMessages => "max_inflight_messages must be at least 1",
            ConfigError::InflightBytes => "max_inflight_bytes must be 0 or at least max_append_bytes",
            ConfigError::LeaseNeedsCheckQuorum => "lease reads need check_quorum",
            ConfigError::LeaseDrift => "max_drift_ticks must be less than election_ticks",
            ConfigError::Applied => "applied is beyond any index",
        })
    }
}

impl Error for ConfigError {}

/// A request was not taken. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No leader is known in this term: try again when [`SoftState`](crate::SoftState) names one.
    NoLeader {
        /// The current term.
        term: Term,
    },
    /// Only a leader can do this: ask `leader`.
    NotLeader {
        /// Who leads; 0 if nobody is known to.
        leader: NodeId,
    },
    /// This member does not pass proposals on: ask `leader`.
    ForwardingDisabled {
        /// Who leads.
        leader: NodeId,
    },
    /// Too much payload waits to be committed: try again when some of it is applied.
    TooMuchUncommitted {
        /// Payload bytes waiting.
        uncommitted_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// Leadership is being handed over: ask the next leader.
    Transferring {
        /// Who shall lead.
        to: NodeId,
    },
    /// The leader is no longer a member: ask the next leader.
    Removed,
    /// A change of members may be pending: try again once `index` is applied.
    ConfChangePending {
        /// Applied must reach this.
        index: Index,
        /// Applied is here.
        applied: Index,
    },
    /// A joint configuration must be left first.
    MustLeaveJoint,
    /// There is no joint configuration to leave.
    NotJoint,
    /// The change does not fit the current members.
    InvalidChange(ChangeError),
    /// `node` is not a member, so nothing can be handed to it.
    UnknownNode {
        /// Who.
        node: NodeId,
    },
    /// `node` is a learner and cannot lead.
    Learner {
        /// Who.
        node: NodeId,
    },
    /// This member cannot campaign: it is no voter, or a snapshot is being installed.
    NotPromotable,
    /// This member cannot campaign before it applied the changes of members that are committed.
    UnappliedConfChange {
        /// Applied is here.
        applied: Index,
        /// Committed is here.
        committed: Index,
    },
    /// Already the leader.
    AlreadyLeader,
    /// Reads may rely on a leader's lease: until an election timeout has passed since this member heard of a leader, or
    /// started, it neither forgets that leader nor campaigns. Wait for the timeout.
    LeaseReads,
    /// The node stopped for good: see [`Node::fault`](crate::Node::fault).
    Faulted,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoLeader { term } => write!(f, "no leader in term {term}; try again when one is known"),
            Refusal::NotLeader { leader: 0 } => f.write_str("not the leader, and none is known"),
            Refusal::NotLeader { leader } => write!(f, "not the leader; ask {leader:x}"),
            Refusal::ForwardingDisabled { leader } => {
                write!(f, "not the leader and forwarding is off; ask {leader:x}")
            }
            Refusal::TooMuchUncommitted { uncommitted_bytes, max_bytes } => {
                write!(
                    f,
                    "{uncommitted_bytes} bytes wait to be committed (limit {max_bytes}); try again later"
                )
            }
            Refusal::Transferring { to } => write!(f, "leadership is being handed to {to:x}; ask there"),
            Refusal::Removed => f.write_str("this leader is no longer a member; ask the next one"),
            Refusal::ConfChangePending { index, applied } => {
                write!(
                    f,
                    "a change of members may be pending up to index {index} (applied {applied}); try again then"
                )
            }
            Refusal::MustLeaveJoint => f.write_str("the joint configuration must be left first"),
            Refusal::NotJoint => f.write_str("there is no joint configuration to leave"),
            Refusal::InvalidChange(error) => write!(f, "the change does not fit the members: {error}"),
            Refusal::UnknownNode { node } => write!(f, "{node:x} is not a member"),
            Refusal::Learner { node } => write!(f, "{node:x} is a learner and cannot lead; promote it first"),
            Refusal::NotPromotable => {
                f.write_str("this member cannot campaign: no voter, or installing a snapshot")
            }
            Refusal::UnappliedConfChange { applied, committed } => {
                write!(f, "changes of members wait to be applied (applied {applied}, committed {committed})")
            }
            Refusal::AlreadyLeader => f.write_str("already the leader"),
            Refusal::LeaseReads => {
                f.write_str("reads may rely on a leader's lease: wait an election timeout")
            }
            Refusal::Faulted => f.write_str("the node stopped on a fault"),
        }
    }
}

impl Error for Refusal {}

/// A message was not taken. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepError {
    /// An answer from somebody who is no member (any more): drop it.
    UnknownPeer {
        /// Who sent it.
        from: NodeId,
    },
    /// It names no sender, this member as sender, or another receiver: a bug in the transport.
    Misaddressed,
    /// It contradicts itself: a bug in the sender or the transport.
    Malformed(&'static str),
    /// A forwarded request that this member does not take.
    Refused(Refusal),
    /// The node stopped for good, now or earlier: see [`Node::fault`](crate::Node::fault).
    Faulted,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::UnknownPeer { from } => write!(f, "answer from {from:x}, which is no member"),
            StepError::Misaddressed => f.write_str("message with a wrong sender or receiver"),
            StepError::Malformed(why) => write!(f, "message contradicts itself: {why}"),
            StepError::Refused(refusal) => refusal.fmt(f),
            StepError::Faulted => f.write_str("the node stopped on a fault"),
        }
    }
}

impl Error for StepError {}

/// Why a change of members cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// A joint configuration is entered while in one.
    AlreadyJoint,
    /// A joint configuration is entered without any voter.
    NoVoters,
    /// A joint configuration is left while not in one.
    NotJoint,
    /// A simple change while in a joint configuration.
    SimpleWhileJoint,
    /// A simple change of more than one voter.
    TooManyVoters,
    /// Nobody could vote afterwards.
    RemovesAllVoters,
    /// The members contradict themselves.
    Inconsistent(&'static str, NodeId),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::AlreadyJoint => f.write_str("config is already joint"),
            ChangeError::NoVoters => f.write_str("can't make a zero-voter config joint"),
            ChangeError::NotJoint => f.write_str("can't leave a non-joint config"),
            ChangeError::SimpleWhileJoint => f.write_str("can't apply simple config change in joint config"),
            ChangeError::TooManyVoters => {
                f.write_str("more than one voter changed without entering joint config")
            }
            ChangeError::RemovesAllVoters => f.write_str("removed all voters"),
            ChangeError::Inconsistent(what, node) => write!(f, "{node:x} {what}"),
        }
    }
}

impl Error for ChangeError {}

/// What a storage answers instead of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageError {
    /// Below the first index: a snapshot stands for it.
    Compacted,
    /// Beyond the last index, or a snapshot that is not ready yet.
    Unavailable,
    /// Anything else; the node stops with [`Fault::Storage`].
    Failed(String),
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageError::Compacted => f.write_str("compacted"),
            StorageError::Unavailable => f.write_str("unavailable"),
            StorageError::Failed(why) => f.write_str(why),
        }
    }
}

impl Error for StorageError {}

/// This member cannot go on. Its `Display` says what the owner should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The options are out of range.
    Config(ConfigError),
    /// The storage failed. Stop the process; restart when the storage is well.
    Storage(String),
    /// The storage contradicts itself or what it was told to keep. Replace the member with a fresh one.
    StorageInconsistent(&'static str),
    /// A leader holds this member to have entries that it does not have: its log was truncated or lost.
    /// Remove the member and add it again with an empty log.
    CommitBeyondLog {
        /// Said to be committed.
        commit: Index,
        /// The log ends here.
        last_index: Index,
    },
    /// A leader sent another entry for an index that is committed here: two histories. Stop; compare the logs.
    ConflictBelowCommit {
        /// Where.
        index: Index,
        /// Committed here.
        committed: Index,
    },
    /// Two leaders in one term: two histories. Stop; compare the logs.
    TwoLeaders {
        /// The term.
        term: Term,
        /// The leader known here.
        known: NodeId,
        /// The other.
        other: NodeId,
    },
    /// The owner's applied index lies beyond the log. The store and the log do not belong together:
    /// restore both, or add the member again with nothing.
    AppliedBeyondLog {
        /// The owner's.
        applied: Index,
        /// The log ends here.
        last_index: Index,
    },
    /// A committed change of members does not fit the members. Only possible with validation switched off, or
    /// when a change was not handed to `apply_conf_change`.
    InvalidConfChange(ChangeError),
    /// A snapshot's members contradict themselves.
    InvalidConfState(ChangeError),
    /// A token was handed back that is not the oldest outstanding one of this node in this life: a bug in the owner.
    WrongToken(&'static str),
    /// An invariant of the protocol does not hold (checked in debug builds and tests).
    Invariant(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Config(error) => write!(f, "configuration: {error}"),
            Fault::Storage(why) => write!(f, "storage failed: {why}; restart when it is well"),
            Fault::StorageInconsistent(why) => {
                write!(f, "storage is inconsistent: {why}; replace this member")
            }
            Fault::CommitBeyondLog { commit, last_index } => write!(
                f,
                "index {commit} is committed but the log ends at {last_index}: entries were lost here; \
                 remove this member and add it again with an empty log"
            ),
            Fault::ConflictBelowCommit { index, committed } => write!(
                f,
                "another entry {index} was sent although everything up to {committed} is committed; stop and compare logs"
            ),
            Fault::TwoLeaders { term, known, other } => {
                write!(f, "{known:x} and {other:x} both lead term {term}; stop and compare logs")
            }
            Fault::AppliedBeyondLog { applied, last_index } => write!(
                f,
                "index {applied} is applied but the log ends at {last_index}: they do not belong together; restore both"
            ),
            Fault::InvalidConfChange(error) => {
                write!(f, "a committed change of members cannot be applied: {error}")
            }
            Fault::InvalidConfState(error) => write!(f, "stored members contradict themselves: {error}"),
            Fault::WrongToken(which) => write!(f, "{which} token handed back out of order"),
            Fault::Invariant(which) => write!(f, "invariant violated: {which}"),
        }
    }
}

impl Error for Fault {}

impl From<ConfigError> for Fault {
    fn from(error: ConfigError) -> Fault {
        Fault::Config(error)
    }
}
