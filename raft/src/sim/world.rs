//! What the world does: requests, faults, changes, and in the end the healing.

use bytes::Bytes;

use super::StateMachine;
use super::cluster::{Simulation, What};
use crate::membership::{ConfChange, ConfChangeKind, ConfChangeSingle, Transition};
use crate::types::{NodeId, ReadId, Role};

impl<M: StateMachine> Simulation<M> {
    /// One request or fault, and the time of the next.
    pub(crate) fn act(&mut self) -> Result<(), String> {
        let pause = self.rng.between(1, self.options.action_ms * 2);
        self.after_ms(pause, What::Act);
        let id = self.rng.between(1, self.options.members);
        if self.healed {
            return self.act_healed(id);
        }
        match self.rng.below(100) {
            0..40 => self.propose(id),
            40..55 => self.ask_read(id),
            55..58 => self.crash(id),
            58..61 => {
                self.partition(id);
                Ok(())
            }
            61..63 => {
                self.cuts.clear();
                Ok(())
            }
            63..69 => self.change(),
            69..73 => self.transfer(id),
            73..75 => self.campaign(id),
            75..76 => self.forget(id),
            76..86 => self.checkpoint(id),
            86..96 => self.compact(id),
            _ => {
                self.stop_clock(id);
                Ok(())
            }
        }
    }

    /// Work goes on in every other world, and all is quiet in the rest: nothing may depend on a later proposal. Whoever
    /// started a joint configuration that does not leave by itself leaves it.
    fn act_healed(&mut self, id: NodeId) -> Result<(), String> {
        if self.seed.is_multiple_of(2) && self.rng.chance(20) {
            self.propose(id)?;
        }
        let Some((leader, members)) = self.a_leader().and_then(|id| Some((id, self.members_of(id)?))) else {
            return Ok(());
        };
        if !members.is_voter(leader) {
            // Configured to stay on after its removal, it takes no proposals: hand over.
            let to = members.voters[self.rng.below(members.voters.len() as u64) as usize];
            self.with(leader, |node| node.transfer_leader(to).is_ok())?;
        } else if members.is_joint() && !members.auto_leave {
            self.with(leader, |node| node.propose_conf_change(ConfChange::leave()).is_ok())?;
        }
        Ok(())
    }

    fn with(
        &mut self,
        id: NodeId,
        act: impl FnOnce(&mut crate::Node<super::disk::SimStorage>) -> bool,
    ) -> Result<bool, String> {
        let at = self.at(id);
        let Some(node) = &mut self.members[at].node else { return Ok(false) };
        let taken = act(node);
        self.mix(u64::from(taken));
        self.drain(id)?;
        Ok(taken)
    }

    fn a_leader(&self) -> Option<NodeId> {
        let nodes = self.members.iter().filter_map(|member| member.node.as_ref());
        nodes
            .filter(|node| node.core.role == Role::Leader)
            .max_by_key(|node| node.core.term)
            .map(super::super::node::Node::id)
    }

    fn propose(&mut self, id: NodeId) -> Result<(), String> {
        self.counter += 1;
        let data = Bytes::from(format!("{:x}.{}", self.counter, "x".repeat(self.rng.below(20) as usize)));
        let taken = self.with(id, |node| node.propose(data).is_ok())?;
        self.stats.proposals += u64::from(taken);
        self.stats.refused += u64::from(!taken);
        Ok(())
    }

    fn ask_read(&mut self, id: NodeId) -> Result<(), String> {
        self.counter += 1;
        let read = ReadId { node: id, boot: self.members[self.at(id)].boot, counter: self.counter };
        // What was committed before the read was asked; afterwards would be asking too much.
        self.reads.insert(read, self.history.committed);
        if self.with(id, |node| node.read_index(read).is_ok())? {
            self.stats.reads_asked += 1;
        } else {
            self.reads.remove(&read);
        }
        Ok(())
    }

    fn crash(&mut self, id: NodeId) -> Result<(), String> {
        let at = self.at(id);
        if self.members[at].node.is_none() {
            return Ok(());
        }
        let pending = self.members[at].disk.queue.len() + self.members[at].disk.riding.len();
        let kept = self.rng.below(pending as u64 + 1) as usize;
        let (batches, entries) = self.members[at].crash(kept).map_err(|fault| format!("{id}: {fault}"))?;
        self.stats.crashes += 1;
        self.stats.lost_batches += batches;
        self.stats.lost_entries += entries;
        let down = if self.rng.chance(500) { self.rng.between(1, 20) } else { self.rng.between(1, 1500) };
        self.after_ms(down, What::Restart { id });
        Ok(())
    }

    fn partition(&mut self, id: NodeId) {
        self.partitions += 1;
        self.stats.partitions += 1;
        let (partition, members) = (self.partitions, self.options.members);
        let kind = self.rng.below(4);
        let side = self.rng.next_u64();
        let cut = |from: NodeId, to: NodeId| match kind {
            0 => from == id || to == id,
            1 => from == id,
            2 => to == id,
            _ => (side >> from & 1) != (side >> to & 1),
        };
        for from in 1..=members {
            for to in (1..=members).filter(|to| *to != from && cut(from, *to)) {
                self.cuts.push((partition, from, to));
            }
        }
        let ms = self.rng.between(10, 1500);
        self.after_ms(ms, What::Mend { partition });
    }

    /// Random steps; what makes no sense is refused by the leader.
    fn change(&mut self) -> Result<(), String> {
        let Some(leader) = self.a_leader() else { return Ok(()) };
        if self.members_of(leader).is_some_and(|members| members.is_joint()) && self.rng.chance(600) {
            self.with(leader, |node| node.propose_conf_change(ConfChange::leave()).is_ok())?;
            return Ok(());
        }
        let count = [1, 1, 2, 3][self.rng.below(4) as usize];
        let steps: Vec<ConfChangeSingle> = (0..count)
            .map(|_| {
                let kinds = [
                    ConfChangeKind::AddVoter,
                    ConfChangeKind::AddVoter,
                    ConfChangeKind::AddLearner,
                    ConfChangeKind::Remove,
                ];
                let kind = kinds[self.rng.below(4) as usize];
                ConfChangeSingle { kind, node: self.rng.between(1, self.options.members) }
            })
            .collect();
        let transition =
            [Transition::Auto, Transition::Implicit, Transition::Explicit][self.rng.below(3) as usize];
        let change = ConfChange::new(transition, steps);
        self.with(leader, |node| node.propose_conf_change(change).is_ok())?;
        Ok(())
    }

    fn transfer(&mut self, id: NodeId) -> Result<(), String> {
        let to = self.rng.between(1, self.options.members);
        let on = if self.rng.chance(800) { self.a_leader().unwrap_or(id) } else { id };
        let begun = self.with(on, |node| node.transfer_leader(to).is_ok())?;
        self.stats.transfers += u64::from(begun);
        Ok(())
    }

    fn campaign(&mut self, id: NodeId) -> Result<(), String> {
        self.with(id, |node| node.campaign().is_ok()).map(|_| ())
    }

    fn forget(&mut self, id: NodeId) -> Result<(), String> {
        self.with(id, |node| node.forget_leader().is_ok()).map(|_| ())
    }

    fn checkpoint(&mut self, id: NodeId) -> Result<(), String> {
        let at = self.at(id);
        if self.members[at].node.is_some() && !self.members[at].applying {
            self.members[at].checkpoint().map_err(|fault| format!("{id}: {fault}"))?;
        }
        self.drain(id)
    }

    fn compact(&mut self, id: NodeId) -> Result<(), String> {
        let (at, keep) = (self.at(id), self.rng.below(4));
        if self.members[at].disk.queue.is_empty() && self.members[at].compact(keep) {
            self.stats.compactions += 1;
        }
        self.drain(id)
    }

    /// A stopped clock is drift without a bound: not where reads rely on a lease.
    fn stop_clock(&mut self, id: NodeId) {
        let ms = self.rng.between(10, 400);
        if self.options.config.reads == crate::ReadMode::Quorum {
            let at = self.at(id);
            self.members[at].paused_until = self.now + ms * 1000;
            self.stats.pauses += 1;
        }
    }

    pub(crate) fn heal(&mut self) -> Result<(), String> {
        self.healed = true;
        self.cuts.clear();
        for id in 1..=self.options.members {
            let at = self.at(id);
            self.members[at].paused_until = 0;
            self.start(id)?;
        }
        Ok(())
    }
}
