//! The public face: requests in, lanes out, reports back.

use bytes::Bytes;

use crate::config::Config;
use crate::core::{Core, Halt};
use crate::error::{Fault, Refusal, StepError, StorageError};
use crate::lanes::{Applying, Batch, Install, Lanes};
use crate::membership::{ConfChange, ConfState, carry_out};
use crate::message::Message;
use crate::planted::Bug;
use crate::ready::{ApplyToken, FetchToken, PersistToken};
use crate::status::Status;
use crate::storage::Storage;
use crate::trace::Tracer;
use crate::types::{HardState, NO_NODE, NodeId, Payload, ReadId, Role, SnapshotMeta, SoftState};

/// One member of a raft group. See the [crate's manual](crate) for what its owner owes it.
pub struct Node<S> {
    pub(crate) core: Core<S>,
    pub(crate) lanes: Lanes,
    pub(crate) told_soft: SoftState,
    pub(crate) told_hard: HardState,
    fault: Option<Fault>,
}

impl<S: Storage> Node<S> {
    /// Starts a member from what its storage holds.
    ///
    /// # Errors
    /// Options out of range, or a storage that contradicts itself.
    pub fn new(config: Config, storage: S) -> Result<Node<S>, Fault> {
        Node::build(config, storage, None)
    }

    /// As [`Node::new`], with somebody who listens to events from the start.
    ///
    /// # Errors
    /// As [`Node::new`].
    pub fn with_tracer(config: Config, storage: S, tracer: Box<dyn Tracer>) -> Result<Node<S>, Fault> {
        Node::build(config, storage, Some(tracer))
    }

    fn build(config: Config, storage: S, tracer: Option<Box<dyn Tracer>>) -> Result<Node<S>, Fault> {
        let core = Core::new(config, storage, tracer)?;
        let (told_soft, told_hard) = (core.soft_state(), core.hard_state());
        Ok(Node { core, lanes: Lanes::default(), told_soft, told_hard, fault: None })
    }

    /// The storage.
    pub fn storage(&self) -> &S {
        &self.core.log.storage
    }

    /// The storage, to write to. Only what the persist lane handed out, and compaction up to what is applied.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.core.log.storage
    }

    /// Why this node stopped for good; it then refuses everything and hands out empty Readys.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// One tick of the owner's clock.
    pub fn tick(&mut self) {
        self.act(Core::tick);
    }

    /// Begins an election now. (A sole voter needs not wait for a timeout, unless reads rely on leases: then nobody
    /// campaigns within an election timeout of having heard of a leader, or of a restart.)
    ///
    /// # Errors
    /// When this member cannot campaign, see [`Refusal`].
    pub fn campaign(&mut self) -> Result<(), Refusal> {
        self.request(|core| {
            if core.lease_reads().is_some() && core.in_lease() {
                return Err(Refusal::LeaseReads.into());
            }
            core.hup(false)
        })
    }

    /// Proposes bytes for the log. Taken means: appended here by the leader, or passed on to it. It may still be
    /// lost; the owner sees its entry committed, or not.
    ///
    /// # Errors
    /// When it is not taken, see [`Refusal`].
    pub fn propose(&mut self, data: Bytes) -> Result<(), Refusal> {
        self.request(|core| core.propose_here(Payload::Normal(data)))
    }

    /// Proposes a change of members.
    ///
    /// # Errors
    /// When it is not taken, see [`Refusal`]. A change passed on to a remote leader can still be refused there, silently.
    pub fn propose_conf_change(&mut self, change: ConfChange) -> Result<(), Refusal> {
        self.request(|core| core.propose_here(Payload::ConfChange(change)))
    }

    /// Says whether the owner is about to propose more: while it is, followers hear of commits by the appends to come and not by
    /// messages of their own. Whoever says yes must say no, or propose, soon. At the gathered pace only.
    pub fn expect_proposals(&mut self, expected: bool) {
        self.core.expects_proposals = expected;
    }

    /// Takes a message from a peer.
    ///
    /// # Errors
    /// When it is not taken; nothing changed then, except that a fault stops the node for good.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        if self.fault.is_some() {
            return Err(StepError::Faulted);
        }
        if message.to != self.core.id || message.from == self.core.id || message.from == NO_NODE {
            return Err(StepError::Misaddressed);
        }
        if message.body.is_answer() && self.core.tracker.get(message.from).is_none() {
            return Err(StepError::UnknownPeer { from: message.from });
        }
        let outcome = self.core.step(message);
        self.check();
        match outcome {
            Ok(()) => Ok(()),
            Err(Halt::Refuse(refusal)) => Err(StepError::Refused(refusal)),
            Err(Halt::Malformed(why)) => Err(StepError::Malformed(why)),
            Err(Halt::Fault(fault)) => {
                self.stop(fault);
                Err(StepError::Faulted)
            }
        }
    }

    /// Asks from which index on a linearizable read may be served; the answer comes in [`Ready::reads`](crate::Ready).
    /// It may get lost with the leader: ask again under a new id after a while.
    ///
    /// # Errors
    /// When no leader is known.
    pub fn read_index(&mut self, id: ReadId) -> Result<(), Refusal> {
        self.request(|core| core.read_here(id))
    }

    /// Hands leadership to `to`, here or by asking the leader. Given up after one election timeout.
    ///
    /// # Errors
    /// When it cannot be begun, see [`Refusal`].
    pub fn transfer_leader(&mut self, to: NodeId) -> Result<(), Refusal> {
        self.request(|core| core.transfer_here(to))
    }

    /// Forgets who leads, so that this member grants votes and campaigns without waiting; it still follows
    /// the leader if that makes itself heard. For owners who know that the leader is gone.
    ///
    /// # Errors
    /// While lease reads rely on it.
    pub fn forget_leader(&mut self) -> Result<(), Refusal> {
        self.request(Core::forget_leader)
    }

    /// A batch is durable. Messages that rested on it appear in the next [`Ready::send`](crate::Ready).
    ///
    /// # Errors
    /// The token is not the oldest outstanding one, or something in the batch turned out to be a fault.
    pub fn persisted(&mut self, token: PersistToken) -> Result<(), Fault> {
        self.healthy()?;
        if token.life != self.core.life || !self.lanes.note_persisted(token.number) {
            return Err(self.stop(Fault::WrongToken("persist")));
        }
        self.complete_batches()
    }

    fn complete_batches(&mut self) -> Result<(), Fault> {
        if self.core.bug(Bug::AppliedPastSnapshot)
            && let Some(batch) = self.lanes.batches.front().filter(|batch| batch.persisted)
            && let Some(index) = batch.snapshot.as_ref().map(|snapshot| snapshot.index)
        {
            self.core.installed(index)?;
        }
        while let Some(batch) = self.lanes.take_complete() {
            if let Err(fault) = self.complete(batch) {
                return Err(self.stop(fault));
            }
        }
        self.check();
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Own promises first: they find their entries still in memory.
    fn complete(&mut self, batch: Batch) -> Result<(), Fault> {
        self.keep_promises(batch.promises)?;
        if let Some(mark) = batch.mark
            && let Some(last) = mark.last
        {
            self.core.stable(mark.term, last);
        }
        Ok(())
    }

    /// The emptied vector serves the next promises.
    pub(crate) fn keep_promises(&mut self, mut promises: Vec<Message>) -> Result<(), Fault> {
        promises.drain(..).try_for_each(|promise| self.keep_promise(promise))?;
        if self.core.promises.capacity() == 0 {
            self.core.promises = promises;
        }
        Ok(())
    }

    /// A promise that came true: to this member itself it counts now, to others it leaves with the next Ready.
    pub(crate) fn keep_promise(&mut self, promise: Message) -> Result<(), Fault> {
        if promise.to != self.core.id {
            let gathers = self.core.gathers();
            let last = self.lanes.released.last_mut().filter(|_| gathers);
            if !last.is_some_and(|last| last.absorb(&promise, 0)) {
                self.lanes.released.push(promise);
            }
            return Ok(());
        }
        crate::tick::ignore_refusal(self.core.step(promise))
    }

    /// A batch is applied.
    ///
    /// # Errors
    /// The token is not the oldest outstanding one.
    pub fn applied(&mut self, token: ApplyToken) -> Result<(), Fault> {
        self.healthy()?;
        let oldest = self.lanes.applying.pop_front();
        let Some(batch) = oldest.filter(|batch| token.life == self.core.life && batch.number == token.number)
        else {
            return Err(self.stop(Fault::WrongToken("apply")));
        };
        let Applying { last, wire_bytes, payload_bytes, snapshot, .. } = batch;
        let outcome = if snapshot {
            self.lanes.install = Install::Done;
            self.core.installed(last)
        } else {
            self.core.applied_entries(last, wire_bytes, payload_bytes)
        };
        outcome.map_err(|fault| self.stop(fault))?;
        if snapshot { self.complete_batches() } else { self.finish() }
    }

    /// Puts a committed change of members in force. To be called when its entry is applied, for each such entry,
    /// before the batch is reported applied; answers the members to keep with the state.
    ///
    /// # Errors
    /// The change does not fit the members: only possible with validation switched off, or a skipped call.
    pub fn apply_conf_change(&mut self, change: &ConfChange) -> Result<ConfState, Fault> {
        self.healthy()?;
        let last = self.core.log.last_index();
        let outcome = match &mut self.core.applier_members {
            Some(behind) => carry_out(behind, last, change).map_err(Fault::InvalidConfChange).map(|next| {
                *behind = next;
                behind.conf_state()
            }),
            None => carry_out(&self.core.tracker, last, change)
                .map_err(Fault::InvalidConfChange)
                .and_then(|next| self.core.switch_to(next)),
        };
        match outcome {
            Ok(members) => self.finish().map(|()| members),
            Err(fault) => Err(self.stop(fault)),
        }
    }

    /// The entries a [`Fetch`](crate::Fetch) asked for, from its `low` on; or why there are none. What another node asked
    /// for is ignored.
    pub fn fetched(&mut self, token: FetchToken, entries: Result<Vec<crate::Entry>, StorageError>) {
        if token.life == self.core.life {
            self.act(|core| core.fetched(token, entries));
        }
    }

    /// The transport could not reach `id`.
    pub fn report_unreachable(&mut self, id: NodeId) {
        self.act(|core| {
            core.report_unreachable(id);
            Ok(())
        });
    }

    /// The transport delivered the snapshot to `id` (`ok`), or gave up.
    pub fn report_snapshot(&mut self, id: NodeId, ok: bool) {
        self.act(|core| {
            core.report_snapshot(id, ok);
            Ok(())
        });
    }

    /// What an operator sees.
    pub fn status(&self) -> Status {
        let core = &self.core;
        let progress = if core.role == Role::Leader { core.tracker.peers.clone() } else { Vec::new() };
        Status {
            id: core.id,
            term: core.term,
            vote: core.vote,
            leader: core.leader,
            role: core.role,
            commit: core.log.committed,
            applied: core.log.applied,
            first_index: core.log.first_index(),
            last_index: core.log.last_index(),
            persisted: core.log.persisted(),
            uncommitted_bytes: core.uncommitted_bytes,
            conf_state: core.tracker.conf_state(),
            pending_change_index: core.pending_change_index,
            transferring_to: core.transferee,
            pending_reads: core.reads.pending(),
            progress,
        }
    }

    /// This member.
    pub fn id(&self) -> NodeId {
        self.core.id
    }

    /// Who leads and what this member is; cheaper than [`Node::status`].
    pub fn soft_state(&self) -> SoftState {
        self.core.soft_state()
    }

    /// Term, vote and commit index as they are now, handed out or not.
    pub fn hard_state(&self) -> HardState {
        self.core.hard_state()
    }

    /// The snapshot that was taken in place of the log, until it is recorded and installed. One that was stepped and is not this one was
    /// turned away.
    pub fn pending_snapshot(&self) -> Option<&SnapshotMeta> {
        self.core.log.unstable.snapshot.as_ref()
    }

    /// Something that cannot be refused.
    pub(crate) fn act(&mut self, act: impl FnOnce(&mut Core<S>) -> Result<(), Fault>) {
        if self.fault.is_none() {
            match act(&mut self.core) {
                Ok(()) => self.check(),
                Err(fault) => {
                    self.stop(fault);
                }
            }
        }
    }

    fn request(&mut self, act: impl FnOnce(&mut Core<S>) -> Result<(), Halt>) -> Result<(), Refusal> {
        if self.fault.is_some() {
            return Err(Refusal::Faulted);
        }
        let outcome = act(&mut self.core);
        self.check();
        match outcome {
            Ok(()) => Ok(()),
            Err(Halt::Refuse(refusal)) => Err(refusal),
            Err(Halt::Malformed(_)) => Err(Refusal::Faulted),
            Err(Halt::Fault(fault)) => {
                self.stop(fault);
                Err(Refusal::Faulted)
            }
        }
    }

    fn healthy(&self) -> Result<(), Fault> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.check();
        self.healthy()
    }

    pub(crate) fn stop(&mut self, fault: Fault) -> Fault {
        self.fault.get_or_insert(fault).clone()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.fault.is_some()
    }

    /// After every step in debug builds, tests and simulation.
    pub(crate) fn check(&mut self) {
        if cfg!(any(debug_assertions, feature = "sim"))
            && self.fault.is_none()
            && let Err(which) = crate::invariants::check(&self.core, &self.lanes)
        {
            self.stop(Fault::Invariant(which));
        }
    }
}
