//! All peers of a leader with the members they come from, and the votes of a candidate.

use super::{Inflights, Peer, Progress};
use crate::membership::ConfState;
use crate::quorum::{Joint, VoteResult};
use crate::types::{Index, NodeId};

/// The members in force, what is known of each, and the votes counted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tracker {
    pub(crate) voters: Joint,
    /// Sorted.
    pub(crate) learners: Vec<NodeId>,
    /// Sorted; outgoing voters that become learners.
    pub(crate) learners_next: Vec<NodeId>,
    pub(crate) auto_leave: bool,
    /// Sorted by id; one for every id above.
    pub(crate) peers: Vec<Peer>,
    votes: Vec<(NodeId, bool)>,
    max_inflight_messages: usize,
    max_inflight_bytes: u64,
}

impl Tracker {
    /// Nobody.
    pub fn new(max_inflight_messages: usize, max_inflight_bytes: u64) -> Tracker {
        Tracker { max_inflight_messages, max_inflight_bytes, ..Tracker::default() }
    }

    /// Nobody, with the same limits.
    pub(crate) fn emptied(&self) -> Tracker {
        Tracker::new(self.max_inflight_messages, self.max_inflight_bytes)
    }

    /// An empty window with this tracker's limits.
    pub(crate) fn inflights(&self) -> Inflights {
        Inflights::new(self.max_inflight_messages, self.max_inflight_bytes)
    }

    /// What is known of `id`.
    pub fn get(&self, id: NodeId) -> Option<&Progress> {
        self.position(id).map(|at| &self.peers[at].1)
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut Progress> {
        self.position(id).map(|at| &mut self.peers[at].1)
    }

    fn position(&self, id: NodeId) -> Option<usize> {
        self.peers.binary_search_by_key(&id, |peer| peer.0).ok()
    }

    pub(crate) fn insert(&mut self, id: NodeId, progress: Progress) {
        match self.peers.binary_search_by_key(&id, |peer| peer.0) {
            Ok(at) => self.peers[at].1 = progress,
            Err(at) => self.peers.insert(at, (id, progress)),
        }
    }

    pub(crate) fn remove(&mut self, id: NodeId) {
        if let Some(at) = self.position(id) {
            self.peers.remove(at);
        }
    }

    /// The members in force.
    pub fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.voters.incoming.ids().to_vec(),
            voters_outgoing: self.voters.outgoing.ids().to_vec(),
            learners: self.learners.clone(),
            learners_next: self.learners_next.clone(),
            auto_leave: self.auto_leave,
        }
    }

    /// The largest index durable on a quorum (on quorums of both halves of a joint configuration).
    pub fn committed(&self) -> Index {
        self.voters.committed_index(|id| self.get(id).map(|progress| progress.match_index))
    }

    /// A planted bug: as many acknowledgements as a quorum of voters has members, whoever gave them.
    pub(crate) fn committed_with_learners(&self) -> Index {
        let mut acks: Vec<Index> = self.peers.iter().map(|(_, progress)| progress.match_index).collect();
        acks.sort_unstable_by(|a, b| b.cmp(a));
        acks.get(self.voters.incoming.quorum() - 1).copied().unwrap_or(0)
    }

    /// The newest heartbeat round that a quorum answered.
    pub(crate) fn confirmed_round(&self) -> u64 {
        self.voters.committed_index(|id| self.get(id).map(|progress| progress.acked_round))
    }

    /// A quorum was heard of since the last check.
    pub fn quorum_active(&self) -> bool {
        let active = |id| self.get(id).map(|progress| progress.recent_active && !progress.is_learner);
        self.voters.vote_result(active) == VoteResult::Won
    }

    pub(crate) fn reset_votes(&mut self) {
        self.votes.clear();
    }

    /// Counts a vote; the first of each voter stands.
    pub(crate) fn record_vote(&mut self, id: NodeId, granted: bool) {
        if !self.votes.iter().any(|vote| vote.0 == id) {
            self.votes.push((id, granted));
        }
    }

    /// Granted and refused votes of voters, and what follows.
    pub(crate) fn tally(&self) -> (usize, usize, VoteResult) {
        let vote = |id| self.votes.iter().find(|vote| vote.0 == id).map(|vote| vote.1);
        let (mut granted, mut refused) = (0, 0);
        for (id, progress) in &self.peers {
            match vote(*id) {
                Some(true) if !progress.is_learner => granted += 1,
                Some(false) if !progress.is_learner => refused += 1,
                _ => {}
            }
        }
        (granted, refused, self.voters.vote_result(vote))
    }
}
