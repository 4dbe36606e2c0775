//! Options, with units and dangers.

use crate::error::ConfigError;
use crate::types::{Index, LIMIT, NodeId};

/// How a member is set up. `Config { id, ..Config::default() }` is a sound start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This member. Never 0, never reused by another member of the same cluster.
    pub id: NodeId,
    /// Ticks without a leader before an election; the actual wait is drawn from
    /// `election_ticks..2 * election_ticks` anew for each. More than `heartbeat_ticks`; ten times it is usual.
    pub election_ticks: u32,
    /// Ticks between a leader's heartbeats. At least 1.
    pub heartbeat_ticks: u32,
    /// Ask whether an election could be won before raising the term, so a member that was cut off does not
    /// disturb the others when it returns (thesis, §9.6).
    pub pre_vote: bool,
    /// A leader that hears from no quorum for an election timeout steps down, and members that heard from
    /// a leader within one refuse votes (thesis, §6.2). Lease reads need it.
    pub check_quorum: bool,
    /// The owner's last applied index at a restart: entries up to it are not handed out again. With 0, everything the
    /// storage no longer holds counts as applied (as in etcd): an owner that keeps its applied index must not start with 0
    /// over a log that was compacted, since that means that its state is lost.
    pub applied: Index,
    /// Seeds the election timeouts. Give each member another one.
    pub seed: u64,
    /// Bytes of entries in one append message. 0 sends one entry at a time.
    pub max_append_bytes: u64,
    /// Bytes of entries handed to the apply lane and not yet reported applied; at least one entry is always handed out.
    pub max_applying_bytes: u64,
    /// Bytes of payload a leader takes in beyond the applied ones before it refuses proposals. 0: no limit.
    pub max_uncommitted_bytes: u64,
    /// Append messages in flight to one follower. At least 1.
    pub max_inflight_messages: usize,
    /// Bytes of payload in flight to one follower. 0: no limit; otherwise at least `max_append_bytes`.
    pub max_inflight_bytes: u64,
    /// How reads are confirmed.
    pub reads: ReadMode,
    /// When committed entries may be applied here.
    pub apply: ApplyTiming,
    /// How much is done at a time.
    pub pacing: Pacing,
    /// What a leader does with an untimely change of members.
    pub refused_change: RefusedChange,
    /// A follower refuses proposals instead of passing them on.
    pub disable_forwarding: bool,
    /// Danger: skip the checks of a proposed change against the current members. An invalid change that is
    /// applied is a fault on every member.
    pub disable_change_validation: bool,
    /// A leader that is removed or demoted steps down when it applies that. Off, it goes on replicating
    /// without counting itself.
    pub step_down_on_removal: bool,
    /// A bug to plant, so that the tests can show they would find it.
    #[cfg(feature = "planted")]
    pub planted: Option<crate::planted::Bug>,
}

/// How a leader makes sure that it still leads before it serves a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// A heartbeat round answered by a quorum. Right under any clock.
    #[default]
    Quorum,
    /// While a quorum answered a heartbeat sent less than `election_ticks - max_drift_ticks` ago, serve at once;
    /// otherwise as [`ReadMode::Quorum`]. Danger: reads may be stale if, within one election timeout, clocks
    /// of two members drift apart by more than `max_drift_ticks`, or if a voter runs without this mode: it keeps no
    /// promise over a restart or a newer term. Switch all voters first, and wait an election timeout. Nobody votes or
    /// campaigns within an election timeout of its start, not even a sole voter. Needs `check_quorum`.
    Lease {
        /// Ticks by which clocks may drift apart during one election timeout. Less than `election_ticks`.
        max_drift_ticks: u32,
    },
}

/// When committed entries may be applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ApplyTiming {
    /// Only once they are durable here, so recovery never has to un-apply.
    #[default]
    AfterPersist,
    /// In the Ready that also persists them. Danger: the owner must persist a Ready before it applies it, as
    /// [`drive`](crate::drive::drive) does by construction.
    WithPersist,
}

/// How much is done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pacing {
    /// What is stepped between two Readys leaves together: one append a follower, one heartbeat round for all
    /// reads; answers that rest on nothing still being written leave at once.
    #[default]
    Gathered,
    /// Every proposal is sent by itself and every answer passes through the persist lane, as in etcd.
    Stepwise,
}

/// What a leader does with a change of members that is proposed while another is pending, or that does not
/// fit the current members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RefusedChange {
    /// Refuse it; nothing changes.
    #[default]
    Refuse,
    /// Append an empty entry in its place, as etcd does, so that a remote proposer sees something commit.
    AppendEmpty,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            id: 0,
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            check_quorum: true,
            applied: 0,
            seed: 0,
            max_append_bytes: 1 << 20,
            max_applying_bytes: 64 << 20,
            max_uncommitted_bytes: 1 << 30,
            max_inflight_messages: 512,
            max_inflight_bytes: 0,
            reads: ReadMode::Quorum,
            apply: ApplyTiming::AfterPersist,
            pacing: Pacing::Gathered,
            refused_change: RefusedChange::Refuse,
            disable_forwarding: false,
            disable_change_validation: false,
            step_down_on_removal: true,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}

impl Config {
    /// Checks what [`Node::new`](crate::Node::new) would refuse.
    ///
    /// # Errors
    /// The first option out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.id == 0 || self.id > u64::MAX - 2 {
            return Err(ConfigError::Id);
        }
        if self.heartbeat_ticks == 0 {
            return Err(ConfigError::HeartbeatTicks);
        }
        if self.election_ticks <= self.heartbeat_ticks || self.election_ticks > u32::MAX / 4 {
            return Err(ConfigError::ElectionTicks);
        }
        if self.max_inflight_messages == 0 {
            return Err(ConfigError::InflightMessages);
        }
        if self.max_inflight_bytes != 0 && self.max_inflight_bytes < self.max_append_bytes {
            return Err(ConfigError::InflightBytes);
        }
        if let ReadMode::Lease { max_drift_ticks } = self.reads {
            if !self.check_quorum {
                return Err(ConfigError::LeaseNeedsCheckQuorum);
            }
            if max_drift_ticks >= self.election_ticks {
                return Err(ConfigError::LeaseDrift);
            }
        }
        if self.applied > LIMIT {
            return Err(ConfigError::Applied);
        }
        Ok(())
    }
}
