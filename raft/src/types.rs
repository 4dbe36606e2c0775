//! The words of the protocol: ids, terms, indexes, entries, and what a member must keep on disk.

use bytes::Bytes;

use crate::membership::{ConfChange, ConfState};

/// Names a member. 0 is nobody.
pub type NodeId = u64;
/// A leader's reign. 0 is before the first.
pub type Term = u64;
/// A place in the log. 0 is before the first entry.
pub type Index = u64;

/// Nobody.
pub const NO_NODE: NodeId = 0;

/// The largest term or index this crate accepts from outside. No honest cluster gets near it, and below it
/// no sum inside the crate can overflow.
pub(crate) const LIMIT: u64 = u64::MAX >> 2;

/// One command in the log.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// The reign of the leader that first appended it; never changes afterwards.
    pub term: Term,
    /// Its place; consecutive, the first is 1. Proposals on their way to a leader carry 0.
    pub index: Index,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Payload {
    /// The owner's bytes. Empty for the entry each new leader appends; a state machine ignores empty ones.
    Normal(Bytes),
    /// A change of members. Give it to [`Node::apply_conf_change`](crate::Node::apply_conf_change) when it is applied.
    ConfChange(ConfChange),
}

impl Default for Payload {
    fn default() -> Payload {
        Payload::Normal(Bytes::new())
    }
}

impl Entry {
    /// An entry of the owner's bytes.
    pub fn normal(term: Term, index: Index, data: Bytes) -> Entry {
        Entry { term, index, payload: Payload::Normal(data) }
    }

    /// True for a change of members.
    pub fn is_conf_change(&self) -> bool {
        matches!(self.payload, Payload::ConfChange(_))
    }

    /// Bytes that count against the limits on messages and apply batches: the payload plus a varint-sized
    /// header, which is what raftpb would put on the wire.
    pub fn wire_bytes(&self) -> u64 {
        let data = self.payload_bytes();
        let kind = if self.is_conf_change() { 2 } else { 0 };
        let data = if data == 0 { 0 } else { 1 + varint_bytes(data) + data };
        2 + kind + varint_bytes(self.term) + varint_bytes(self.index) + data
    }

    /// Bytes of the payload alone; they count against the limit on uncommitted data. Empty entries count nothing.
    pub fn payload_bytes(&self) -> u64 {
        match &self.payload {
            Payload::Normal(data) => data.len() as u64,
            Payload::ConfChange(change) => change.wire_bytes(),
        }
    }

    /// The pair that names it.
    pub fn id(&self) -> EntryId {
        EntryId { term: self.term, index: self.index }
    }
}

/// Bytes of `value` as a base-128 varint.
pub(crate) fn varint_bytes(value: u64) -> u64 {
    let bits = 64 - u64::from((value | 1).leading_zeros());
    bits.div_ceil(7)
}

/// Wire bytes of a run of entries.
pub(crate) fn wire_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::wire_bytes).sum()
}

/// Payload bytes of a run of entries.
pub(crate) fn payload_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::payload_bytes).sum()
}

/// How many leading entries fit into `max_bytes`: at least one when there is one.
pub(crate) fn fitting(entries: &[Entry], max_bytes: u64) -> usize {
    let mut total = 0u64;
    for (i, entry) in entries.iter().enumerate() {
        total = total.saturating_add(entry.wire_bytes());
        if total > max_bytes && i > 0 {
            return i;
        }
    }
    entries.len()
}

/// Term and index together: two logs that hold the same pair hold the same entries up to it (paper, §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EntryId {
    /// The entry's term.
    pub term: Term,
    /// The entry's index.
    pub index: Index,
}

/// What must survive a crash besides the log (paper, figure 2) and the commit index, which may lag behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HardState {
    /// The newest term heard of.
    pub term: Term,
    /// Who got this member's vote in that term; 0 for nobody.
    pub vote: NodeId,
    /// The highest index known to be committed when this was written.
    pub commit: Index,
}

impl HardState {
    /// True when nothing was ever stored.
    pub fn is_empty(&self) -> bool {
        *self == HardState::default()
    }
}

/// What need not survive a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SoftState {
    /// The leader of the current term as far as known; 0 for nobody.
    pub leader: NodeId,
    /// What this member is.
    pub role: Role,
}

/// What a member is in the current term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum Role {
    /// Takes entries from a leader, or waits for one. Learners are followers.
    #[default]
    Follower,
    /// Asks whether an election could be won, without raising its term (thesis, §9.6).
    PreCandidate,
    /// Asks for votes in a term of its own.
    Candidate,
    /// Orders the log.
    Leader,
}

/// What the core knows of a snapshot. Its payload travels outside.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SnapshotMeta {
    /// The last entry it stands for.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The members after that entry.
    pub conf_state: ConfState,
}

impl SnapshotMeta {
    /// The entry it ends with.
    pub fn id(&self) -> EntryId {
        EntryId { term: self.term, index: self.index }
    }
}

/// Names one linearizable read over the whole life of a cluster: no two reads share one, so an answer
/// can never reach the wrong reader, whatever leader or boot it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReadId {
    /// The member that asks.
    pub node: NodeId,
    /// Counts the starts of that member; persisted by the owner.
    pub boot: u64,
    /// Counts the reads of that boot.
    pub counter: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_widths() {
        for (value, bytes) in [(0, 1), (1, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)] {
            assert_eq!(varint_bytes(value), bytes, "{value}");
        }
    }

    #[test]
    fn at_least_one_entry_fits() {
        let entries: Vec<Entry> = (1..4).map(|i| Entry::normal(1, i, Bytes::from_static(b"x"))).collect();
        assert_eq!(fitting(&entries, 0), 1);
        assert_eq!(fitting(&entries, 14), 2);
        assert_eq!(fitting(&entries, u64::MAX), 3);
        assert_eq!(fitting(&[], 0), 0);
    }
}
