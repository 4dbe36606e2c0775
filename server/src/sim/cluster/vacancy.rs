//! How soon a dead leader is followed by another one.
//!
//! Counted are deaths after which a majority of the voters is well and the network whole, as long as it stays so. Where the network
//! loses nothing, as connections between machines that are well do not, what is left to delay an election are clocks that differ and
//! votes that split. Raft asks for a vote once in an election timeout: where messages are lost or held back at random,
//! elections take longer, which is counted apart.

use ketch_raft::NodeId;

use super::world::World;

/// A leader should be followed within so many election timeouts.
const TIMEOUTS: u64 = 2;

impl World {
    /// The member on machine `at` dies.
    pub(super) fn begin_vacancy(&mut self, at: usize) {
        self.disturb_vacancy();
        if self.leader() == Some(at) && self.can_elect_without(at) {
            self.vacancy = Some(self.now);
        }
    }

    /// Something else goes wrong: who says how long it would have taken.
    pub(super) fn disturb_vacancy(&mut self) {
        self.vacancy = None;
    }

    /// There is a leader, or the run is over.
    pub(super) fn end_vacancy(&mut self) {
        let Some(since) = self.vacancy.take() else { return };
        let in_time =
            self.now - since <= TIMEOUTS * self.options.tick_us * u64::from(self.options.election_ticks);
        if self.options.drop + self.options.late == 0 {
            self.stats.leaders_lost += 1;
            self.stats.followed_within_two_timeouts += u64::from(in_time);
        } else {
            self.stats.leaders_lost_among_losses += 1;
            self.stats.followed_among_losses += u64::from(in_time);
        }
        let ms = (self.now - since) / 1000;
        self.note(ms, || format!("the dead leader is followed after {ms} ms"));
    }

    /// Whether the voters other than the one on machine `at` are a majority, well and connected.
    fn can_elect_without(&self, at: usize) -> bool {
        let Some(live) = &self.nodes[at].live else { return false };
        let voters: Vec<NodeId> = live.core.status().conf_state.voters;
        let is_well = |id: &&NodeId| {
            let nodes = self.nodes.iter().enumerate();
            let mut found = nodes.filter(|(other, node)| *other != at && node.id == **id);
            found.any(|(_, node)| node.is_up() && !node.stuck && !node.armed)
        };
        self.network.is_whole() && voters.iter().filter(is_well).count() * 2 > voters.len()
    }
}
