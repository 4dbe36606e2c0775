//! What an operator sees.

use crate::membership::ConfState;
use crate::progress::Progress;
use crate::types::{Index, NodeId, Role, Term};

/// A member's view of itself and, on a leader, of its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: NodeId,
    /// The newest term it heard of.
    pub term: Term,
    /// Who got its vote in that term; 0 for nobody.
    pub vote: NodeId,
    /// Who leads; 0 if unknown.
    pub leader: NodeId,
    /// What it is.
    pub role: Role,
    /// The highest index known to be committed.
    pub commit: Index,
    /// The highest index reported applied.
    pub applied: Index,
    /// The first entry the log holds.
    pub first_index: Index,
    /// The last entry of the log, durable or not.
    pub last_index: Index,
    /// The last entry durable here.
    pub persisted: Index,
    /// Payload bytes appended by this leader and not yet applied.
    pub uncommitted_bytes: u64,
    /// The members in force.
    pub conf_state: ConfState,
    /// A change of members may be pending up to here, when above `applied`.
    pub pending_change_index: Index,
    /// Who shall lead; 0 when no transfer runs.
    pub transferring_to: NodeId,
    /// Reads waiting for confirmation.
    pub pending_reads: usize,
    /// On a leader: what it knows of each member, itself included, sorted by id. Empty elsewhere.
    pub progress: Vec<(NodeId, Progress)>,
}
