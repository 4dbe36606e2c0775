//! The administrator: one more client, who adds, promotes and removes members one at a time, so that the cluster has as
//! many as are wanted and none whose machine is gone; and the machines that come and go with them.

use ketch_raft::{ConfChange, ConfChangeKind, NodeId};

use super::ask::{self, Ask};
use super::node::{self, Node};
use super::queue::What;
use super::world::World;
use crate::apply::command::RequestId;
use crate::bootstrap::{First, Founding};
use crate::cluster::Context;
use crate::consensus::core::Input;
use crate::datadir::Identity;

/// The cluster is not grown beyond.
const MEMBERS_MAX: usize = 6;
/// A removed member lives on for so many ticks after it has learned that.
const REMOVED_TICKS: u64 = 10;

/// A change of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A new voter.
    Add(NodeId),
    /// A new learner.
    AddLearner(NodeId),
    /// A learner votes from now on.
    Promote(NodeId),
    /// Out.
    Remove(NodeId),
}

impl Change {
    /// A number for what is asked, whoever asks.
    pub(super) fn content(self) -> u64 {
        ask::digest(format!("{self:?}").as_bytes())
    }

    /// What was asked by a change in the log.
    pub(super) fn of(change: &ConfChange, context: &Context) -> Option<Change> {
        let single = change.changes.first()?;
        Some(match single.kind {
            ConfChangeKind::AddVoter if context.is_promote => Change::Promote(single.node),
            ConfChangeKind::AddVoter => Change::Add(single.node),
            ConfChangeKind::AddLearner => Change::AddLearner(single.node),
            ConfChangeKind::Remove => Change::Remove(single.node),
            ConfChangeKind::Update => return None,
        })
    }

    /// The change to put through raft on behalf of `request`.
    pub(super) fn command(self, request: RequestId) -> ConfChange {
        let (kind, id) = match self {
            Change::Add(id) | Change::Promote(id) => (ConfChangeKind::AddVoter, id),
            Change::AddLearner(id) => (ConfChangeKind::AddLearner, id),
            Change::Remove(id) => (ConfChangeKind::Remove, id),
        };
        let context = Context {
            request: Some(request),
            is_promote: matches!(self, Change::Promote(_)),
            ..Context::of(node::member(id, kind == ConfChangeKind::AddLearner))
        };
        ConfChange { context: context.to_json().into(), ..ConfChange::single(kind, id) }
    }
}

impl World {
    /// What the administrator wants now, if anything.
    pub(super) fn administrate(&mut self) -> Option<Change> {
        let members = self.truth.members();
        let count = members.now().len();
        let gone = |id: &NodeId| self.nodes.iter().any(|node| node.id == *id && node.gone);
        let dead = members.now().keys().copied().find(gone);
        let learner = members.now().iter().find(|(_, learner)| **learner).map(|(id, _)| *id);
        let caught_up = learner.filter(|id| {
            let applied = self.nodes.iter().find(|node| node.id == *id).map_or(0, Node::applied);
            applied * 10 >= self.truth.applied() * 9
        });
        if let Some(id) = dead {
            return Some(self.removal(id));
        }
        if let Some(id) = caught_up.filter(|_| self.healed || self.random.one_in(3)) {
            return Some(Change::Promote(id));
        }
        if count < self.wanted {
            self.ids += 1;
            let id = self.ids;
            return Some(if self.random.one_in(3) { Change::Add(id) } else { Change::AddLearner(id) });
        }
        if count > self.wanted {
            return self.surplus();
        }
        (!self.healed && self.options.weights.change > 0 && self.random.one_in(6)).then(|| self.odd())
    }

    /// Somebody who can be spared: the one whose removal was asked for and may still come, or anybody.
    fn surplus(&mut self) -> Option<Change> {
        let members = self.truth.members();
        let asked = self.leaving.iter().copied().find(|id| members.now().contains_key(id));
        let spare = |id: &NodeId| members.voters() > 2 || members.now()[id];
        let ids: Vec<NodeId> = members.now().keys().copied().filter(spare).collect();
        let id = asked.or_else(|| ids.get(self.random.below(ids.len().max(1) as u64) as usize).copied())?;
        Some(self.removal(id))
    }

    fn removal(&mut self, id: NodeId) -> Change {
        self.leaving.insert(id);
        Change::Remove(id)
    }

    /// A change that is refused, most of the time.
    fn odd(&mut self) -> Change {
        let id = 1 + self.random.below(self.ids + 2);
        match self.random.below(3) {
            0 => Change::Promote(id),
            1 if id <= self.ids => Change::Add(id),
            _ if id <= self.ids => Change::AddLearner(id),
            _ => Change::Remove(id),
        }
    }

    /// The cluster shall have one member more or less.
    pub(super) fn resize(&mut self) {
        let grow = self.wanted < 3 || (self.wanted < MEMBERS_MAX && self.random.one_in(2));
        let spare = self.truth.members().voters() > 2 && self.nobody_is_missing() && !self.is_rotten();
        match grow {
            true => self.wanted += 1,
            false if spare => self.wanted -= 1,
            false => {}
        }
    }

    /// Whether all members have machines, and no removal is under way.
    fn nobody_is_missing(&self) -> bool {
        let members = self.truth.members();
        let there = |id: &NodeId| self.nodes.iter().any(|node| node.id == *id && !node.gone);
        let leaving = self.leaving.iter().any(|id| members.now().contains_key(id));
        !leaving && members.now().keys().all(there)
    }

    /// Whether the cluster can go on without the machine `at` for good: of three voters two are left, they are a
    /// majority, and only they can remove the third. All of them must know for good that there are three: a change of
    /// members takes effect where it is applied, so one that has not applied it would wait for a majority of the earlier
    /// members, which the lost machine may have been needed for.
    pub(super) fn may_burn(&self, at: usize) -> bool {
        let members = self.truth.members();
        let votes = members.now().get(&self.nodes[at].id) == Some(&false);
        let surplus = self.wanted < members.now().len();
        !self.healed
            && votes
            && members.voters() > 2
            && self.nobody_is_missing()
            && !surplus
            && !self.is_rotten()
            && self.others_know_the_members(at)
    }

    fn others_know_the_members(&self, at: usize) -> bool {
        let members = self.truth.members();
        let others = self.nodes.iter().filter(|node| node.id != self.nodes[at].id);
        let mut voters = others.filter(|node| members.now().get(&node.id) == Some(&false));
        voters.all(|node| node.durable >= self.members_changed)
    }

    /// Whether some machine may be lost any time.
    fn is_rotten(&self) -> bool {
        self.nodes.iter().any(|node| node.rotten && !node.gone)
    }

    /// A machine burns down. It is replaced by a new member.
    pub(super) fn burn(&mut self, at: usize) {
        if self.may_burn(at) {
            self.lose(at);
        }
    }

    /// A machine is lost for good.
    pub(super) fn lose(&mut self, at: usize) {
        let id = self.nodes[at].id;
        self.leaving.insert(id);
        self.stats.replacements += 1;
        self.note(id, || format!("the machine of {id:x} is lost for good"));
        self.watchers.disconnect(at);
        self.nodes[at].kill();
        self.nodes[at].gone = true;
    }

    /// The members have changed: new ones get machines, those of removed ones are switched off.
    pub(super) fn mind_members(&mut self) {
        if std::mem::replace(&mut self.members_seen, self.truth.members().version) == self.members_seen {
            return;
        }
        self.members_changed = self.truth.applied();
        let known: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let new: Vec<NodeId> =
            self.truth.members().now().keys().copied().filter(|id| !known.contains(id)).collect();
        new.into_iter().for_each(|id| self.join(id));
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            if !node.gone && !node.retiring && self.truth.members().removed().contains(&node.id) {
                self.nodes[at].retiring = true;
                let us = self.options.tick_us * REMOVED_TICKS + self.up_to(self.options.tick_us * 60);
                self.after(us, What::Retire(at));
            }
        }
    }

    fn join(&mut self, id: NodeId) {
        let members = self.truth.members().now().iter().map(|(id, learner)| node::member(*id, *learner));
        let identity = Identity { cluster_id: node::CLUSTER_ID, member_id: id };
        let first = First::Join(Founding { identity, members: members.collect() });
        let (seed, tick_us) = (self.random.next(), self.tick_us());
        self.nodes.push(Node::new(id, first, seed, tick_us));
        self.stats.members_added += 1;
        let us = self.up_to(self.options.tick_us * 20);
        self.after(us, What::Start(self.nodes.len() - 1));
    }

    /// A removed member's machine is switched off.
    pub(super) fn retire(&mut self, at: usize) {
        let id = self.nodes[at].id;
        self.stats.members_removed += 1;
        self.note(id, || format!("{id:x} is switched off"));
        self.watchers.disconnect(at);
        self.nodes[at].kill();
        self.nodes[at].gone = true;
    }

    /// Whether the members are as many as wanted, all of them with machines.
    pub(super) fn is_complete(&self) -> bool {
        let members = self.truth.members();
        let there = |id: &NodeId| self.nodes.iter().any(|node| node.id == *id && !node.gone);
        let retired = |node: &Node| node.gone || !members.removed().contains(&node.id);
        members.now().len() == self.wanted
            && members.now().keys().all(there)
            && self.nodes.iter().all(retired)
    }

    /// Hands a change to the member on machine `at`.
    pub(super) fn request_change(&mut self, at: usize, operation: u64, change: Change) {
        let id = self.next_id(at);
        let Some(live) = &mut self.nodes[at].live else { return };
        live.waiters.insert(id.serial, operation);
        self.input(at, Input::Change { id: id.serial, change: change.command(id) });
    }

    /// The administrator as a client: asks if there is something to ask.
    pub(super) fn admin_ask(&mut self) -> Option<Ask> {
        let weights = self.options.weights;
        let has_work = weights.change + weights.replace + weights.bit_rot > 0;
        has_work.then(|| self.administrate()).flatten().map(Ask::Change)
    }
}
