//! One group in which more than half decide.

use super::VoteResult;
use crate::types::{Index, NodeId};

/// Groups up to this size are counted without an allocation.
const SMALL: usize = 9;

/// A sorted set of members in which more than half decide. The empty one agrees to everything, so that half
/// of a joint configuration can be absent.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Majority {
    ids: Vec<NodeId>,
}

impl Majority {
    /// A group of `ids`, in any order, with repetitions.
    pub fn new(ids: impl Into<Vec<NodeId>>) -> Majority {
        let mut ids = ids.into();
        ids.sort_unstable();
        ids.dedup();
        Majority { ids }
    }

    /// The members, sorted.
    pub fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// How many members.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Nobody.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Is `id` a member?
    pub fn contains(&self, id: NodeId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Adds a member.
    pub fn insert(&mut self, id: NodeId) {
        if let Err(at) = self.ids.binary_search(&id) {
            self.ids.insert(at, id);
        }
    }

    /// Drops a member.
    pub fn remove(&mut self, id: NodeId) {
        if let Ok(at) = self.ids.binary_search(&id) {
            self.ids.remove(at);
        }
    }

    /// How many make a quorum.
    pub fn quorum(&self) -> usize {
        self.ids.len() / 2 + 1
    }

    /// The largest index that a quorum acknowledged. A member of whom nothing is known acknowledged 0.
    /// `Index::MAX` for the empty group.
    pub fn committed_index(&self, acked: impl Fn(NodeId) -> Option<Index>) -> Index {
        let len = self.ids.len();
        if len == 0 {
            return Index::MAX;
        }
        let mut small = [0; SMALL];
        let mut large = Vec::new();
        let acks: &mut [Index] = if len <= SMALL {
            &mut small[..len]
        } else {
            large.resize(len, 0);
            &mut large
        };
        for (ack, id) in acks.iter_mut().zip(&self.ids) {
            *ack = acked(*id).unwrap_or(0);
        }
        acks.sort_unstable();
        acks[len - self.quorum()]
    }

    /// Counts votes; `None` for those not cast yet.
    pub fn vote_result(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        if self.ids.is_empty() {
            return VoteResult::Won;
        }
        let (mut yes, mut missing) = (0, 0);
        for id in &self.ids {
            match vote(*id) {
                Some(true) => yes += 1,
                Some(false) => {}
                None => missing += 1,
            }
        }
        if yes >= self.quorum() {
            VoteResult::Won
        } else if yes + missing >= self.quorum() {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }
}
