//! Linearizable reads without the log (thesis, §6.4).
//!
//! A read may be served at the commit index of a leader that (1) committed an entry of its own term, and
//! (2) proved after the read arrived that it still leads: by a heartbeat round begun afterwards and answered by a
//! quorum, or by a lease that such a round gave. Rounds are numbered over the node's whole life, so that an
//! answer can never be taken for one to a later leadership.

use std::collections::VecDeque;

use crate::core::Core;
use crate::error::{Fault, Refusal};
use crate::message::{Body, Message};
use crate::planted::Bug;
use crate::ready::ReadState;
use crate::storage::Storage;
use crate::types::{Index, NodeId, ReadId, Role};

/// Rounds remembered while nobody answers; forgetting one only costs the lease.
const SENT_MAX: usize = 1024;

/// A read that waits for a round.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    from: NodeId,
    id: ReadId,
    index: Index,
    /// Confirmed by this round or any later one. 0: no round begun since it arrived.
    round: u64,
}

/// The reads a leader has in hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    round: u64,
    /// When recent rounds were sent: (round, tick).
    sent: VecDeque<(u64, u64)>,
    waiting: VecDeque<Waiting>,
    /// Until the first commit of the own term.
    postponed: Vec<(NodeId, ReadId)>,
    lease_broken: bool,
}

impl Reads {
    /// Another leadership, or none. The round number goes on.
    pub(crate) fn reset(&mut self) {
        *self = Reads { round: self.round, ..Reads::default() };
    }

    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    pub(crate) fn begin_round(&mut self, tick: u64) -> u64 {
        self.round += 1;
        if self.sent.len() >= SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.round, tick));
        let round = self.round;
        for read in self.waiting.iter_mut().rev().take_while(|read| read.round == 0) {
            read.round = round;
        }
        round
    }

    pub(crate) fn break_lease(&mut self) {
        self.lease_broken = true;
    }

    pub(crate) fn pending(&self) -> usize {
        self.waiting.len() + self.postponed.len()
    }

    pub(crate) fn needs_round(&self) -> bool {
        self.waiting.back().is_some_and(|read| read.round == 0)
    }

    /// The tick at which the newest confirmed round was sent; forgets older ones.
    fn confirmed_at(&mut self, confirmed: u64) -> Option<u64> {
        while self.sent.get(1).is_some_and(|(round, _)| *round <= confirmed) {
            self.sent.pop_front();
        }
        self.sent.front().filter(|(round, _)| *round <= confirmed).map(|(_, tick)| *tick)
    }

    fn confirmed(&mut self, confirmed: u64) -> Option<Waiting> {
        let read = self.waiting.front().copied().filter(|read| read.round != 0 && read.round <= confirmed)?;
        self.waiting.pop_front();
        Some(read)
    }
}

impl<S: Storage> Core<S> {
    /// A read of this member's owner.
    pub(crate) fn read_here(&mut self, id: ReadId) -> Result<(), crate::core::Halt> {
        match self.role {
            Role::Leader => Ok(self.take_read(self.id, id)?),
            Role::Follower => self.step_follower(self.id, Body::ReadIndex { id }),
            _ => Err(Refusal::NoLeader { term: self.term }.into()),
        }
    }

    pub(crate) fn take_read(&mut self, from: NodeId, id: ReadId) -> Result<(), Fault> {
        if !self.committed_in_term()? {
            self.reads.postponed.push((from, id));
        } else {
            self.confirm_read(from, id);
        }
        Ok(())
    }

    fn committed_in_term(&self) -> Result<bool, Fault> {
        Ok(self.log.term(self.log.committed)? == Some(self.term))
    }

    fn confirm_read(&mut self, from: NodeId, id: ReadId) {
        let index = self.log.committed;
        if self.lease_holds() {
            return self.answer_read(from, id, index);
        }
        let round = if self.bug(Bug::StaleReadIndex) { self.reads.round() } else { 0 };
        self.reads.waiting.push_back(Waiting { from, id, index, round });
        if round != 0 {
            self.confirm_reads();
        }
        if !self.gathers() {
            self.start_read_round();
        }
    }

    /// One heartbeat round for all reads that wait for one.
    pub(crate) fn start_read_round(&mut self) {
        if self.reads.needs_round() {
            self.broadcast_heartbeat();
        }
    }

    /// Answers the reads whose round a quorum has answered.
    pub(crate) fn confirm_reads(&mut self) {
        let confirmed = self.tracker.confirmed_round();
        self.reads.confirmed_at(confirmed);
        while let Some(read) = self.reads.confirmed(confirmed) {
            self.answer_read(read.from, read.id, read.index);
        }
    }

    /// The first entry of the own term is committed: reads that came before it may be confirmed now.
    pub(crate) fn release_postponed_reads(&mut self) -> Result<(), Fault> {
        if self.reads.postponed.is_empty() || !self.committed_in_term()? {
            return Ok(());
        }
        for (from, id) in std::mem::take(&mut self.reads.postponed) {
            self.confirm_read(from, id);
        }
        Ok(())
    }

    /// A quorum answered a heartbeat recently enough that none of its members can have voted since. One tick is
    /// lost to rounding here and one at the voter.
    fn lease_holds(&mut self) -> bool {
        let Some(drift) = self.lease_reads() else { return false };
        if self.reads.lease_broken {
            return false;
        }
        let confirmed = self.tracker.confirmed_round();
        let Some(sent) = self.reads.confirmed_at(confirmed) else { return false };
        self.ticks - sent + u64::from(drift) + 2 <= u64::from(self.config.election_ticks)
    }

    fn answer_read(&mut self, from: NodeId, id: ReadId, index: Index) {
        if from == self.id {
            self.read_states.push(ReadState { id, index });
        } else {
            let body = Body::ReadIndexAnswer { id, index };
            self.queue(Message { from: self.id, to: from, term: self.term, body });
        }
    }
}
