//! Two groups that must both agree (thesis, §4.3).

use super::{Majority, VoteResult};
use crate::types::{Index, NodeId};

/// The incoming and the outgoing majority. Outside a joint configuration the second is empty.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Joint {
    /// Decides now and afterwards.
    pub incoming: Majority,
    /// Decides as well until the joint configuration is left.
    pub outgoing: Majority,
}

impl Joint {
    /// True while two groups decide.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Exactly one voter decides.
    pub fn is_singleton(&self) -> bool {
        self.incoming.len() == 1 && self.outgoing.is_empty()
    }

    /// Is `id` in either group?
    pub fn contains(&self, id: NodeId) -> bool {
        self.incoming.contains(id) || self.outgoing.contains(id)
    }

    /// Everybody with a vote, sorted, each once.
    pub fn ids(&self) -> Vec<NodeId> {
        if self.outgoing.is_empty() {
            return self.incoming.ids().to_vec();
        }
        let mut ids = [self.incoming.ids(), self.outgoing.ids()].concat();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The largest index that quorums of both groups acknowledged.
    pub fn committed_index(&self, acked: impl Fn(NodeId) -> Option<Index>) -> Index {
        self.incoming.committed_index(&acked).min(self.outgoing.committed_index(&acked))
    }

    /// Won when both are won, lost when either is lost.
    pub fn vote_result(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        match (self.incoming.vote_result(&vote), self.outgoing.vote_result(&vote)) {
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            _ => VoteResult::Pending,
        }
    }
}
