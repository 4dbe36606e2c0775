//! What must hold between members.

use std::collections::BTreeMap;

use super::StateMachine;
use super::cluster::Simulation;
use super::machine::hash;
use crate::membership::ConfState;
use crate::message::{Body, Message};
use crate::planted::Bug;
use crate::progress::ProgressState;
use crate::quorum::{Joint, Majority, VoteResult};
use crate::ready::{Apply, ReadState};
use crate::storage::Storage;
use crate::storage_memory::MemoryStorage;
use crate::types::{Entry, HardState, Index, NodeId, Payload, Role, Term};

/// What everybody must agree on.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Who led.
    leaders: BTreeMap<Term, NodeId>,
    /// Term and content of each applied entry; index 1 first.
    applied: Vec<(Term, u64)>,
    /// Content and predecessor's term of each entry ever written to a disk.
    written: BTreeMap<(Index, Term), (u64, Term)>,
    /// The highest index committed by the leader of each term.
    commits: BTreeMap<Term, Index>,
    /// The highest index committed anywhere.
    pub(crate) committed: Index,
}

fn content(entry: &Entry) -> u64 {
    match &entry.payload {
        Payload::Normal(data) => data.iter().fold(1, |digest, byte| hash(digest ^ u64::from(*byte))),
        Payload::ConfChange(change) => {
            let steps = change.changes.iter();
            steps.fold(2, |digest, step| hash(digest ^ step.node ^ ((step.kind as u64) << 32)))
        }
    }
}

impl History {
    /// Everybody applies the same entries in the same order. True when nobody had applied this one.
    pub(crate) fn note_applied(&mut self, id: NodeId, before: Index, entry: &Entry) -> Result<bool, String> {
        if entry.index != before + 1 {
            return Err(format!("{id} applies {} after {before}", entry.index));
        }
        let new = (entry.term, content(entry));
        match self.applied.get(before as usize) {
            None => {
                self.applied.push(new);
                Ok(true)
            }
            Some(old) if *old == new => Ok(false),
            Some(old) => Err(format!(
                "{id} applies another entry at {}: term {} instead of {}",
                entry.index, new.0, old.0
            )),
        }
    }

    /// Log matching (paper, §5.3), by induction over single entries.
    pub(crate) fn note_entries(
        &mut self,
        id: NodeId,
        entries: &[Entry],
        log: &MemoryStorage,
    ) -> Result<(), String> {
        let Some(first) = entries.first() else { return Ok(()) };
        let mut before = log.term(first.index - 1).unwrap_or(0);
        for entry in entries {
            let new = (content(entry), before);
            let old = *self.written.entry((entry.index, entry.term)).or_insert(new);
            if old != new && entry.index > first.index {
                return Err(format!("{id} wrote another entry {} of term {}", entry.index, entry.term));
            }
            if old.0 != new.0 {
                return Err(format!("{id} wrote other content at {} of term {}", entry.index, entry.term));
            }
            before = entry.term;
        }
        Ok(())
    }
}

impl<M: StateMachine> Simulation<M> {
    fn planted(&self, bug: Bug) -> bool {
        bug.is_planted(&self.options.config)
    }

    /// After each step of a member.
    pub(crate) fn check_member(&mut self, id: NodeId) -> Result<(), String> {
        let at = self.at(id);
        let Some(node) = &self.members[at].node else { return Ok(()) };
        if let Some(fault) = node.fault() {
            return Err(format!("{id}: {fault}"));
        }
        let core = &node.core;
        let (term, commit, role) = (core.term, core.log.committed, core.role);
        let member = &self.members[at];
        if term < member.seen_term || commit < member.seen_commit {
            return Err(format!("{id} went back to term {term}, commit {commit}"));
        }
        if core.log.applied > member.live.applied {
            return Err(format!(
                "{id} counts {} as applied, but its state is at {}",
                core.log.applied, member.live.applied
            ));
        }
        let new_commit = commit > member.seen_commit;
        let member = &mut self.members[at];
        (member.seen_term, member.seen_commit) = (term, commit);
        if role == Role::Leader {
            self.check_leader(id, term)?;
        }
        if new_commit && commit > self.history.committed {
            self.check_commit(id, commit)?;
            self.history.committed = commit;
            self.history.commits.insert(term, commit);
        }
        Ok(())
    }

    /// Election safety, and leader completeness (paper, §5.2, §5.4).
    fn check_leader(&mut self, id: NodeId, term: Term) -> Result<(), String> {
        match self.history.leaders.get(&term) {
            Some(leader) if *leader == id => return Ok(()),
            Some(leader) => return Err(format!("{leader} and {id} both lead term {term}")),
            None => {}
        }
        self.history.leaders.insert(term, id);
        self.stats.elections += 1;
        // One who wins late, when a newer term has already committed, need not hold what that committed.
        let committed = self.history.commits.range(..term).map(|(_, index)| *index).max().unwrap_or(0);
        let Some(node) = self.node(id) else { return Ok(()) };
        let held = node.core.log.term(committed).ok().flatten();
        let expected = self.history.applied.get(committed.wrapping_sub(1) as usize).map(|entry| entry.0);
        let complete = committed == 0
            || committed + 1 == node.core.log.first_index()
            || (held.is_some() && (expected.is_none() || held == expected))
            || node.core.log.first_index() > committed;
        if complete {
            Ok(())
        } else {
            Err(format!("{id} leads term {term} without entry {committed}, which is committed"))
        }
    }

    /// What is committed is on the disks of a quorum.
    fn check_commit(&self, id: NodeId, commit: Index) -> Result<(), String> {
        let Some(node) = self.node(id) else { return Ok(()) };
        if node.core.role != Role::Leader {
            return Err(format!("{id} is no leader and knows of commit {commit} before anybody else"));
        }
        let term = node.core.log.term(commit).ok().flatten();
        if term != Some(node.core.term) {
            return Err(format!("{id} leads term {} and commits {commit} of term {term:?}", node.core.term));
        }
        let Some(members) = self.members_of(id) else { return Ok(()) };
        let ConfState { voters, voters_outgoing, .. } = members;
        let joint = Joint { incoming: Majority::new(voters), outgoing: Majority::new(voters_outgoing) };
        let holds = |voter: NodeId| {
            let member = self.members.get(voter as usize - 1)?;
            let disk = &member.disk.synced;
            Some(disk.first_index() > commit || disk.term(commit).ok() == term)
        };
        if joint.vote_result(holds) == VoteResult::Won {
            Ok(())
        } else {
            Err(format!("{id} committed {commit}, which is not on the disks of a quorum"))
        }
    }

    /// What a member says must rest on what its disk holds.
    pub(crate) fn check_rests_on_disk(&self, id: NodeId, message: &Message) -> Result<(), String> {
        let member = &self.members[self.at(id)];
        let disk = &member.disk.synced;
        let hard = disk.hard_state();
        let name = message.body.name();
        let term = message.term;
        let held = match &message.body {
            Body::AppendAnswer { index, rejection: None } => (
                hard.term > term || *index <= disk.last_index(),
                "its disk does not hold what it acknowledges",
            ),
            Body::VoteAnswer { reject: false, .. } => {
                (rests(hard, term, message.to), "its disk does not know of the vote")
            }
            Body::Vote { index, log_term, .. } if !self.planted(Bug::EarlierBootAccepted) => {
                let last = disk.last_index();
                let complete = (disk.term(last).unwrap_or(0), last) >= (*log_term, *index);
                (complete && rests(hard, term, id), "its disk does not know of the candidacy")
            }
            Body::Append { .. } => (!self.was_paused(id, message), "the receiver waits for a snapshot"),
            _ => (true, ""),
        };
        if held.0 {
            Ok(())
        } else {
            Err(format!("{id} sent {name} of term {term} to {}: {}", message.to, held.1))
        }
    }

    /// Said by the present leader to a member that waits for a snapshot, and not before the snapshot was sent.
    fn was_paused(&self, id: NodeId, message: &Message) -> bool {
        let leads = |core: &crate::core::Core<_>| core.term == message.term && core.role == Role::Leader;
        let Some(core) = self.node(id).map(|node| &node.core).filter(|core| leads(core)) else {
            return false;
        };
        let Some(peer) = core.tracker.get(message.to) else { return false };
        let after = matches!(&message.body, Body::Append { index, .. } if *index >= peer.pending_snapshot);
        peer.state == ProgressState::Snapshot && after
    }

    /// Nothing is applied before it is durable here.
    pub(crate) fn check_durable(&self, id: NodeId, apply: &Apply) -> Result<(), String> {
        let disk = &self.members[self.at(id)].disk.synced;
        let Some(last) = apply.entries.last() else { return Ok(()) };
        if disk.first_index() > last.index || disk.term(last.index) == Ok(last.term) {
            return Ok(());
        }
        Err(format!("{id} is to apply {} before its disk holds it", last.index))
    }

    /// A read sees everything that was committed anywhere when it was asked.
    pub(crate) fn check_read(&mut self, id: NodeId, read: ReadState) -> Result<(), String> {
        self.mix(read.index);
        if let Some(floor) = self.reads.remove(&read.id) {
            self.stats.reads_checked += 1;
            if read.index < floor {
                return Err(format!(
                    "{id} may serve a read at {} though {floor} was committed before",
                    read.index
                ));
            }
        }
        Ok(())
    }

    /// A leader that committed in its term, and everybody it knows of has applied the same.
    pub(crate) fn has_converged(&mut self) -> Result<bool, String> {
        let leads = |node: &&crate::Node<_>| node.core.role == Role::Leader;
        let Some(leader) = self
            .members
            .iter()
            .filter_map(|member| member.node.as_ref())
            .filter(leads)
            .max_by_key(|n| n.core.term)
        else {
            return Ok(false);
        };
        let log = &leader.core.log;
        let settled = log.committed == log.last_index() && log.applied == log.committed;
        let own = log.term(log.committed).ok().flatten() == Some(leader.core.term);
        let members = leader.core.tracker.conf_state();
        let answered = leader.core.reads.pending() == 0;
        if !settled || !own || !answered || members.is_joint() {
            return Ok(false);
        }
        let applied = log.applied;
        let digest = self.members[self.at(leader.core.id)].live.machine.digest();
        for id in members.voters.iter().chain(&members.learners) {
            let member = &self.members[self.at(*id)];
            if member.node.is_none() || member.live.applied != applied {
                return Ok(false);
            }
            if member.live.machine.digest() != digest {
                return Err(format!("{id} applied the same entries and has another state"));
            }
        }
        Ok(true)
    }
}

/// The disk knows of the vote for `vote` in `term`, or of a later term.
fn rests(hard: HardState, term: Term, vote: NodeId) -> bool {
    hard.term > term || (hard.term == term && hard.vote == vote)
}
