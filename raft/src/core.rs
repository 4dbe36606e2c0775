//! The state all roles share, and the only place where term, vote, leader and role change.

use std::collections::VecDeque;

use crate::config::{ApplyTiming, Config, Pacing, ReadMode};
use crate::error::{Fault, Refusal};
use crate::log::Log;
use crate::membership::{ConfState, restore};
use crate::message::{Body, Message};
use crate::planted::Bug;
use crate::progress::{Progress, Tracker};
use crate::read_index::Reads;
use crate::ready::{Fetch, Life, ReadState};
use crate::storage::Storage;
use crate::trace::{Event, Tracer};
use crate::types::{
    Entry, HardState, Index, LIMIT, NO_NODE, NodeId, Payload, Role, SoftState, Term, payload_bytes,
};

/// Builds the event only when somebody listens.
macro_rules! trace {
    ($core:expr, $event:expr) => {
        if $core.tracer.is_some() {
            let event = $event;
            $core.emit(&event);
        }
    };
}
pub(crate) use trace;

/// Why a step ends early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// For good.
    Fault(Fault),
    /// This request is not taken.
    Refuse(Refusal),
    /// This message makes no sense.
    Malformed(&'static str),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Halt {
        Halt::Fault(fault)
    }
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Halt {
        Halt::Refuse(refusal)
    }
}

pub(crate) struct Core<S> {
    pub(crate) config: Config,
    pub(crate) id: NodeId,
    pub(crate) life: Life,
    pub(crate) term: Term,
    pub(crate) vote: NodeId,
    pub(crate) leader: NodeId,
    pub(crate) role: Role,
    pub(crate) log: Log<S>,
    pub(crate) tracker: Tracker,
    /// While a received snapshot waits to be installed: the members where the applier is. Batches handed out
    /// before still bring changes, which must not touch the snapshot's members.
    pub(crate) applier_members: Option<Tracker>,
    /// Messages in the order they were said. What may leave at once and what must wait is decided by the lanes.
    pub(crate) outbox: Vec<Message>,
    /// Promises in the order they were made, also those to this member itself: they rest on the log.
    pub(crate) promises: Vec<Message>,
    pub(crate) reads: Reads,
    pub(crate) read_states: Vec<ReadState>,
    pub(crate) fetches: Vec<Fetch>,
    /// Committed entries the owner fetched for the apply lane.
    pub(crate) fetched: VecDeque<Entry>,
    pub(crate) fetching_apply: bool,
    /// Numbers what is fetched for followers.
    pub(crate) fetch_number: u64,
    /// Gathered pacing: appends are to be sent before the next Ready.
    pub(crate) broadcast_due: bool,
    /// Gathered pacing: somebody may not have been told of the newest commit.
    pub(crate) commit_due: bool,
    /// The owner is about to propose more: commits ride with it.
    pub(crate) expects_proposals: bool,
    /// Who shall lead.
    pub(crate) transferee: NodeId,
    /// Changes of members are taken only when applied has reached this: at most one is pending (thesis, §4.1).
    pub(crate) pending_change_index: Index,
    /// Payload appended by this leader and not applied yet.
    pub(crate) uncommitted_bytes: u64,
    /// Ticks since the leader was heard of, or since this role began.
    pub(crate) election_elapsed: u32,
    pub(crate) heartbeat_elapsed: u32,
    /// Drawn anew with each role change.
    pub(crate) election_wait: u32,
    /// No votes before this tick, where reads rely on a leader's lease. At a start a member has to assume that it
    /// heard of a leader just before, even with an empty log: it may have crashed before its first write.
    pub(crate) promised_until: u64,
    /// Ticks of this node's life.
    pub(crate) ticks: u64,
    random: u64,
    pub(crate) tracer: Option<Box<dyn Tracer>>,
}

impl<S: Storage> Core<S> {
    pub(crate) fn new(config: Config, storage: S, tracer: Option<Box<dyn Tracer>>) -> Result<Core<S>, Fault> {
        config.validate()?;
        let (hard_state, conf_state) =
            storage.initial_state().map_err(|error| Fault::Storage(error.to_string()))?;
        let timing =
            if Bug::ApplyBeforeDurable.is_planted(&config) { ApplyTiming::WithPersist } else { config.apply };
        let log = Log::new(storage, timing, config.max_applying_bytes.max(1))?;
        let tracker = Tracker::new(config.max_inflight_messages, config.max_inflight_bytes);
        let mut core = Core {
            id: config.id,
            life: Life::begin(),
            term: 0,
            vote: NO_NODE,
            leader: NO_NODE,
            role: Role::Follower,
            log,
            tracker,
            applier_members: None,
            outbox: Vec::new(),
            promises: Vec::new(),
            reads: Reads::default(),
            read_states: Vec::new(),
            fetches: Vec::new(),
            fetched: VecDeque::new(),
            fetching_apply: false,
            fetch_number: 0,
            broadcast_due: false,
            commit_due: false,
            expects_proposals: false,
            transferee: NO_NODE,
            pending_change_index: 0,
            uncommitted_bytes: 0,
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            election_wait: 0,
            promised_until: u64::from(config.election_ticks),
            ticks: 0,
            random: config.seed ^ config.id.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            tracer,
            config,
        };
        core.load(hard_state, &conf_state)?;
        Ok(core)
    }

    fn load(&mut self, hard_state: HardState, conf_state: &ConfState) -> Result<(), Fault> {
        let last = self.log.last_id()?;
        let empty = last.index < self.log.first_index() && hard_state.is_empty();
        if hard_state.term > LIMIT || (hard_state.term < last.term && !empty) {
            return Err(Fault::StorageInconsistent(
                "the stored term does not fit the log: term and vote were lost",
            ));
        }
        let tracker = restore(&self.tracker, last.index, conf_state).map_err(Fault::InvalidConfState)?;
        self.switch_to(tracker)?;
        let start = self.log.committed;
        let commit = hard_state.commit.max(self.config.applied).max(start);
        if self.config.applied > last.index {
            return Err(Fault::AppliedBeyondLog { applied: self.config.applied, last_index: last.index });
        }
        if commit > last.index {
            return Err(Fault::CommitBeyondLog { commit, last_index: last.index });
        }
        if self.config.applied != 0 && self.config.applied < start {
            return Err(Fault::StorageInconsistent("the log was compacted beyond what is applied"));
        }
        self.log.committed = commit;
        self.term = hard_state.term;
        self.vote = hard_state.vote;
        self.log.applied_to(self.config.applied.max(start), 0)?;
        self.become_follower(self.term, NO_NODE);
        trace!(
            self,
            Event::Started {
                voters: self.tracker.voters.ids(),
                commit: self.log.committed,
                applied: self.log.applied,
                last,
            }
        );
        Ok(())
    }

    pub(crate) fn emit(&mut self, event: &Event) {
        if let Some(tracer) = &mut self.tracer {
            tracer.event(self.id, self.term, event);
        }
    }

    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState { leader: self.leader, role: self.role }
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.committed }
    }

    pub(crate) fn gathers(&self) -> bool {
        self.config.pacing == Pacing::Gathered
    }

    pub(crate) fn lease_reads(&self) -> Option<u32> {
        match self.config.reads {
            ReadMode::Quorum => None,
            ReadMode::Lease { max_drift_ticks } => Some(max_drift_ticks),
        }
    }

    pub(crate) fn applies_with_persist(&self) -> bool {
        self.config.apply == ApplyTiming::WithPersist
    }

    /// Queues a message with the term it should carry. At the gathered pace one that says more takes the place of the last.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        let term = match body {
            Body::Propose { .. } | Body::ReadIndex { .. } => 0,
            _ => self.term,
        };
        self.queue(Message { from: self.id, to, term, body });
    }

    pub(crate) fn queue(&mut self, message: Message) {
        let gathers = self.gathers();
        let queue = if message.body.is_promise() { &mut self.promises } else { &mut self.outbox };
        if gathers
            && let Some(last) = queue.last_mut()
            && last.absorb(&message, self.config.max_append_bytes)
        {
            return;
        }
        queue.push(message);
        if let Some(message) = queue.last().filter(|_| self.tracer.is_some()).cloned() {
            self.emit(&Event::Sent { message });
        }
    }

    fn reset(&mut self, term: Term) {
        if self.term != term {
            self.term = term;
            self.vote = NO_NODE;
        }
        self.leader = NO_NODE;
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.draw_election_wait();
        self.transferee = NO_NODE;
        self.tracker.reset_votes();
        let last = self.log.last_index();
        let inflights = self.tracker.inflights();
        for (id, progress) in &mut self.tracker.peers {
            *progress = Progress::new(last + 1, inflights.clone(), progress.is_learner);
            if *id == self.id {
                progress.match_index = last;
            }
        }
        self.pending_change_index = 0;
        self.uncommitted_bytes = 0;
        (self.broadcast_due, self.commit_due) = (false, false);
        self.reads.reset();
    }

    fn draw_election_wait(&mut self) {
        // splitmix64: one step of a full-period generator is plenty to spread timeouts.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.random;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        self.election_wait = self.config.election_ticks + (x % u64::from(self.config.election_ticks)) as u32;
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: NodeId) {
        self.reset(term);
        self.leader = leader;
        self.role = Role::Follower;
        trace!(self, Event::Became { role: Role::Follower });
    }

    pub(crate) fn become_candidate(&mut self) {
        self.reset(self.term + 1);
        self.vote = self.id;
        self.role = Role::Candidate;
        trace!(self, Event::Became { role: Role::Candidate });
    }

    /// Raises no term and casts no vote.
    pub(crate) fn become_pre_candidate(&mut self) {
        self.tracker.reset_votes();
        self.leader = NO_NODE;
        self.role = Role::PreCandidate;
        trace!(self, Event::Became { role: Role::PreCandidate });
    }

    pub(crate) fn become_leader(&mut self) -> Result<(), Fault> {
        self.reset(self.term);
        self.leader = self.id;
        self.role = Role::Leader;
        let id = self.id;
        if let Some(own) = self.tracker.get_mut(id) {
            own.become_replicate();
            own.recent_active = true;
        }
        // There may be a change of members anywhere in the tail; waiting for all of it is simpler than a scan.
        self.pending_change_index = self.log.last_index();
        self.append_as_leader(&mut [Payload::default()])?;
        trace!(self, Event::Became { role: Role::Leader });
        Ok(())
    }

    /// Appends entries of the own term and promises itself that they will be durable.
    pub(crate) fn append_as_leader(&mut self, payloads: &mut [Payload]) -> Result<(), Fault> {
        let first = self.log.last_index() + 1;
        let term = self.term;
        let payloads = payloads.iter_mut().map(std::mem::take);
        let entries = payloads.zip(first..).map(|(payload, index)| Entry { term, index, payload });
        self.log.append(entries, first)?;
        let last = self.log.last_index();
        if self.gathers()
            && let Some(Message { to, term, body: Body::AppendAnswer { index, .. }, .. }) =
                self.promises.last_mut()
            && *to == self.id
            && *term == self.term
        {
            *index = last;
            return Ok(());
        }
        self.send(self.id, Body::AppendAnswer { index: last, rejection: None });
        Ok(())
    }

    /// Counts payload against the limit. Empty entries are never refused, and neither is the first of any size.
    pub(crate) fn take_uncommitted(&mut self, payloads: &[Payload]) -> Result<(), Refusal> {
        let bytes: u64 = payloads.iter().map(payload_len).sum();
        let max_bytes = self.config.max_uncommitted_bytes;
        let after = self.uncommitted_bytes.saturating_add(bytes);
        if max_bytes != 0 && self.uncommitted_bytes > 0 && bytes > 0 && after > max_bytes {
            return Err(Refusal::TooMuchUncommitted { uncommitted_bytes: self.uncommitted_bytes, max_bytes });
        }
        self.uncommitted_bytes = after;
        Ok(())
    }

    /// Puts other members in force. A leader that is no longer one of the voters steps down if so configured;
    /// one that stays sees whether the new quorum has committed more, and feeds the new members.
    pub(crate) fn switch_to(&mut self, tracker: Tracker) -> Result<ConfState, Fault> {
        self.tracker = tracker;
        let members = self.tracker.conf_state();
        trace!(self, Event::MembersSwitched { members: members.clone() });
        if self.role != Role::Leader {
            return Ok(members);
        }
        if self.tracker.get(self.id).is_none_or(|own| own.is_learner) {
            if self.config.step_down_on_removal {
                // The others shall hear of the commit that removes it.
                self.flush_everything()?;
                self.become_follower(self.term, NO_NODE);
            }
            return Ok(members);
        }
        if self.maybe_commit()? {
            self.release_postponed_reads()?;
            self.broadcast_append()?;
        } else {
            self.feed_all()?;
        }
        if self.transferee != NO_NODE && !self.tracker.voters.contains(self.transferee) {
            self.transferee = NO_NODE;
        }
        // Of a smaller quorum, everybody may have answered already.
        self.confirm_reads();
        Ok(members)
    }

    /// The applier reached `index`; a leader may now leave a joint configuration by itself.
    pub(crate) fn applied_to(&mut self, index: Index, bytes: u64) -> Result<(), Fault> {
        let index = index.max(self.log.applied);
        self.log.applied_to(index, bytes)?;
        self.leave_joint_if_due()
    }

    /// Leaves a joint configuration that asked for it. Refused while leadership is handed over: tried again when
    /// that is given up, since an idle group applies nothing that would remind it.
    pub(crate) fn leave_joint_if_due(&mut self) -> Result<(), Fault> {
        let due = self.tracker.auto_leave && self.log.applied >= self.pending_change_index;
        if self.role == Role::Leader && due {
            let members = self.tracker.conf_state();
            let refusal = match self.propose_leave() {
                Ok(()) => None,
                Err(Halt::Refuse(refusal)) => Some(refusal),
                Err(Halt::Fault(fault)) => return Err(fault),
                Err(Halt::Malformed(_)) => None,
            };
            trace!(self, Event::AutoLeave { members, refusal });
        }
        Ok(())
    }

    /// Entries the applier is done with no longer count as uncommitted.
    pub(crate) fn applied_entries(&mut self, last: Index, wire: u64, payload: u64) -> Result<(), Fault> {
        self.applied_to(last, wire)?;
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(payload);
        Ok(())
    }

    /// The snapshot at `index` is recorded and installed.
    pub(crate) fn installed(&mut self, index: Index) -> Result<(), Fault> {
        self.log.unstable.stable_snapshot(index);
        if self.log.unstable.snapshot.is_none() {
            self.applier_members = None;
        }
        self.applied_to(index, 0)
    }

    /// May this member campaign at all?
    pub(crate) fn promotable(&self) -> bool {
        self.tracker.get(self.id).is_some_and(|own| !own.is_learner) && self.log.unstable.snapshot.is_none()
    }

    /// Is this mistake to be made? Never, unless the tests ask for it.
    #[inline]
    pub(crate) fn bug(&self, bug: Bug) -> bool {
        bug.is_planted(&self.config)
    }
}

fn payload_len(payload: &Payload) -> u64 {
    match payload {
        Payload::Normal(data) => data.len() as u64,
        Payload::ConfChange(change) => change.wire_bytes(),
    }
}

/// Payload and wire bytes of a batch handed to the applier.
pub(crate) fn batch_bytes(entries: &[Entry]) -> (u64, u64) {
    (crate::types::wire_bytes(entries), payload_bytes(entries))
}
