//! Taking entries, commits and snapshots from a leader; passing requests on to it.

use crate::core::{Core, Halt, trace};
use crate::error::{Fault, Refusal};
use crate::membership::{ConfState, restore};
use crate::message::{Body, Message, NO_ROUND, Rejection};
use crate::planted::Bug;
use crate::ready::ReadState;
use crate::storage::Storage;
use crate::tick::ignore_refusal;
use crate::trace::Event;
use crate::types::{Entry, EntryId, Index, NO_NODE, NodeId, Role, SnapshotMeta};
use crate::unstable::Appended;

impl<S: Storage> Core<S> {
    pub(crate) fn step_follower(&mut self, from: NodeId, body: Body) -> Result<(), Halt> {
        match body {
            Body::Propose { entries } => self.forward_proposal(entries),
            Body::Append { index, log_term, entries, commit } => {
                self.heard_of(from);
                let before = EntryId { term: log_term, index };
                Ok(self.handle_append(from, before, entries, commit)?)
            }
            Body::Heartbeat { commit, round } => {
                self.heard_of(from);
                self.log.commit_to(commit)?;
                if round != NO_ROUND {
                    self.send(from, Body::HeartbeatAnswer { round });
                }
                Ok(())
            }
            Body::Snapshot { meta } => {
                self.heard_of(from);
                Ok(self.handle_snapshot(from, meta)?)
            }
            Body::TransferLeader => self.forward_transfer(from),
            Body::TimeoutNow => {
                trace!(self, Event::TimeoutNowReceived { from });
                let outcome = self.hup(true);
                Ok(ignore_refusal(outcome)?)
            }
            Body::ReadIndex { id } => {
                if self.leader == NO_NODE {
                    trace!(self, Event::NotForwarded { what: "read_index" });
                    return Err(Refusal::NoLeader { term: self.term }.into());
                }
                // The asker's name stays on it: the leader answers there.
                let (to, body) = (self.leader, Body::ReadIndex { id });
                self.queue(Message { from, to, term: 0, body });
                Ok(())
            }
            Body::ReadIndexAnswer { id, index } => {
                if id.node == self.id {
                    self.read_states.push(ReadState { id, index });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn heard_of(&mut self, leader: NodeId) {
        self.election_elapsed = 0;
        self.promised_until = self.ticks + u64::from(self.config.election_ticks);
        self.leader = leader;
    }

    fn forward_proposal(&mut self, entries: Vec<Entry>) -> Result<(), Halt> {
        let refusal = if self.leader == NO_NODE {
            Refusal::NoLeader { term: self.term }
        } else if self.config.disable_forwarding {
            Refusal::ForwardingDisabled { leader: self.leader }
        } else {
            self.send(self.leader, Body::Propose { entries });
            return Ok(());
        };
        trace!(self, Event::ProposalRefused { refusal: refusal.clone() });
        Err(refusal.into())
    }

    fn forward_transfer(&mut self, to_lead: NodeId) -> Result<(), Halt> {
        if self.leader == NO_NODE {
            trace!(self, Event::NotForwarded { what: "transfer_leader" });
            return Err(Refusal::NoLeader { term: self.term }.into());
        }
        self.queue(Message { from: to_lead, to: self.leader, term: self.term, body: Body::TransferLeader });
        Ok(())
    }

    /// The append rule (paper, §5.3): take entries only after a pair both logs hold; replace what conflicts, and
    /// nothing else, so that late and repeated appends do no harm.
    fn handle_append(
        &mut self,
        from: NodeId,
        before: EntryId,
        mut entries: Vec<Entry>,
        commit: Index,
    ) -> Result<(), Fault> {
        if before.index < self.log.committed {
            let index = self.log.committed;
            self.send(from, Body::AppendAnswer { index, rejection: None });
            return Ok(());
        }
        if !self.log.matches(before)? {
            return self.refuse_append(from, before);
        }
        let last_new = before.index + entries.len() as u64;
        if self.bug(Bug::DuplicateTruncates) && !entries.is_empty() && before.index >= self.log.committed {
            self.log.append(std::mem::take(&mut entries), before.index + 1)?;
        }
        if let Some(at) = self.log.first_new(&entries)? {
            let first = entries[at].id();
            if first.index <= self.log.last_index() {
                let existing = self.log.term(first.index)?.unwrap_or(0);
                trace!(self, Event::Conflict { index: first.index, existing, conflicting: first.term });
            }
            match self.log.append(entries.drain(at..), first.index)? {
                Appended::AtEnd => {}
                Appended::ReplacedAll(index) => trace!(self, Event::UnstableReplaced { index, all: true }),
                Appended::ReplacedFrom(index) => trace!(self, Event::UnstableReplaced { index, all: false }),
            }
        }
        self.log.commit_to(commit.min(last_new))?;
        self.send(from, Body::AppendAnswer { index: last_new, rejection: None });
        Ok(())
    }

    /// Answers with the best guess where the logs still match, skipping whole terms.
    fn refuse_append(&mut self, from: NodeId, asked: EntryId) -> Result<(), Fault> {
        let held = self.log.term(asked.index)?.unwrap_or(0);
        trace!(self, Event::AppendRefused { to: from, asked, held });
        let (hint, log_term) =
            self.log.conflict_by_term(asked.index.min(self.log.last_index()), asked.term)?;
        let rejection = Some(Rejection { hint, log_term });
        self.send(from, Body::AppendAnswer { index: asked.index, rejection });
        Ok(())
    }

    fn handle_snapshot(&mut self, from: NodeId, meta: SnapshotMeta) -> Result<(), Fault> {
        let snapshot = meta.id();
        let restored = self.restore_snapshot(meta)?;
        trace!(self, Event::SnapshotAnswered { commit: self.log.committed, snapshot, restored });
        let index = if restored { self.log.last_index() } else { self.log.committed };
        self.send(from, Body::AppendAnswer { index, rejection: None });
        Ok(())
    }

    /// Takes a snapshot in place of the log, unless the log is ahead of it or holds its last entry.
    fn restore_snapshot(&mut self, meta: SnapshotMeta) -> Result<bool, Fault> {
        let snapshot = meta.id();
        if meta.index <= self.log.committed || self.role != Role::Follower {
            return Ok(false);
        }
        let ConfState { voters, voters_outgoing, learners, .. } = &meta.conf_state;
        if ![voters, voters_outgoing, learners].iter().any(|list| list.contains(&self.id)) {
            trace!(self, Event::SnapshotForeign { members: meta.conf_state.clone() });
            return Ok(false);
        }
        let last = self.log.last_id()?;
        if self.log.matches(snapshot)? {
            trace!(self, Event::SnapshotFastForward { commit: self.log.committed, last, snapshot });
            self.log.commit_to(meta.index)?;
            return Ok(false);
        }
        let tracker = restore(&self.tracker.emptied(), meta.index, &meta.conf_state)
            .map_err(Fault::InvalidConfState)?;
        trace!(self, Event::SnapshotRestoring { log: self.log.summary(), snapshot });
        self.log.restore(meta);
        self.fetched.clear();
        let before = std::mem::take(&mut self.tracker);
        self.applier_members.get_or_insert(before);
        self.switch_to(tracker)?;
        let last = self.log.last_id()?;
        trace!(self, Event::SnapshotRestored { commit: self.log.committed, last, snapshot });
        Ok(true)
    }
}

impl<S: Storage> Core<S> {
    /// See [`Node::forget_leader`](crate::Node::forget_leader).
    pub(crate) fn forget_leader(&mut self) -> Result<(), Halt> {
        if self.role != Role::Follower {
            return Ok(());
        }
        if self.lease_reads().is_some() {
            trace!(self, Event::ForgetRefused);
            return Err(Refusal::LeaseReads.into());
        }
        if self.leader != NO_NODE {
            trace!(self, Event::LeaderForgotten { leader: self.leader });
            self.leader = NO_NODE;
        }
        Ok(())
    }
}
