//! The consensus core of a member: inputs → raft → outputs, without any I/O, clock or randomness.
//!
//! It is the only owner of [`ketch_raft::Node`]. The shell around it (threads in production, the loop of the
//! simulation in tests) hands in every [`Input`] and carries out every output lane:
//!
//! | lane | output | comes back as |
//! | --- | --- | --- |
//! | persist | [`Outputs::persist`], in order | [`Input::Persisted`] |
//! | apply | [`Outputs::apply`], in order | [`Input::Applied`] |
//! | reads | [`Outputs::reads`]: tickets to wake once applied ≥ index | – |
//! | fetch | [`Outputs::fetch`] | [`Input::Fetched`] |
//! | send | [`Outputs::send`] | the peers' [`Input::Message`] |

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ketch_raft::{
    Apply, ApplyToken, Body, ChangeError, ConfChange, ConfState, Entry, Fault, FetchToken, Index, Message,
    Node, NodeId, Progress, ProgressState, ReadId, Ready, Refusal, Role, SnapshotMeta, Status, Storage,
    StorageError, Term,
};
use ketch_wal::Position;

use super::persist::{FetchJob, PersistJob, Persisted};
use super::storage::LogStorage;

/// How many proposals may wait for a leader before further ones are refused.
const PARKED_MAX: usize = 1024;
/// So many reads may wait for a leader; the oldest are forgotten, their clients have long given up.
const READS_MAX: usize = 1 << 20;
/// So many of the latest proposals are remembered, to be told of a leader that was lost with them.
const IN_FLIGHT_MAX: usize = 1 << 14;
/// An unanswered read is asked again after this many ticks: its request may be lost with a leader.
const READ_RETRY_TICKS: u64 = 5;

/// Whether peers still need the pinned view is looked at once in so many ticks.
const PIN_CHECK_TICKS: u64 = 20;
/// A pinned view that no peer seems to need is kept for so many ticks: one that was cut off resumes its transfer.
const PIN_IDLE_TICKS: u64 = 200;

/// So many entries are fetched from the log in one go at most, whatever their size.
const FETCH_ENTRIES: usize = 4096;

/// Everything that can happen to the consensus core.
#[derive(Debug)]
pub enum Input {
    /// One heartbeat interval went by.
    Tick,
    /// A client's command. Refusals are named by `id`.
    Propose {
        /// The waiter's name.
        id: u64,
        /// The encoded command.
        command: Bytes,
    },
    /// A linearizable read wants to know up to where it must wait.
    Read {
        /// The waiter's name.
        ticket: u64,
    },
    /// A peer's message.
    Message(Box<Message>),
    /// A persist batch is durable.
    Persisted(Persisted),
    /// An apply batch took effect in the store.
    Applied(Applied),
    /// Older entries were read from the log.
    Fetched {
        /// Raft's token of the request.
        token: FetchToken,
        /// The entries, or why there are none.
        entries: Result<Vec<Entry>, StorageError>,
    },
    /// The store is durable up to this index: the log may forget what lies before it.
    Purge(Index),
    /// A change of members. Refusals are named by `id`.
    Change {
        /// The waiter's name.
        id: u64,
        /// The change; its context names the member.
        change: ConfChange,
    },
    /// Leadership is to go to this voter.
    Transfer {
        /// Who shall lead.
        to: NodeId,
    },
    /// Messages to this peer were lost.
    Unreachable {
        /// The peer.
        to: NodeId,
    },
    /// How the transfer of a snapshot to a peer ended.
    SnapshotReport {
        /// The peer.
        to: NodeId,
        /// Whether it is staged over there, verified and durable.
        ok: bool,
    },
    /// A view of the store was pinned for peers that need a snapshot.
    Pinned(SnapshotMeta),
}

/// An apply batch that took effect.
#[derive(Debug)]
pub struct Applied {
    /// Raft's token of the batch.
    pub token: ApplyToken,
    /// The index of the last entry applied.
    pub index: Index,
    /// The membership changes among its entries that took effect, in their order.
    pub conf_changes: Vec<ConfChange>,
    /// The snapshot that was installed, if the batch was one.
    pub snapshot: Option<SnapshotMeta>,
}

/// What the core wants done; the shell empties it after each call.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Messages to peers.
    pub send: Vec<Message>,
    /// Batches for the log, in order.
    pub persist: Vec<PersistJob>,
    /// Batches for the applier, in order.
    pub apply: Vec<Apply>,
    /// Tickets of reads that are confirmed at an index.
    pub reads: Vec<(Index, Vec<u64>)>,
    /// Requests for a read index that raft refused, or that were under way when the leader changed.
    pub reads_failed: u64,
    /// Proposals that were refused.
    pub refused: Vec<(u64, Refused)>,
    /// Older entries wanted from the log.
    pub fetch: Vec<FetchJob>,
    /// The log may be purged before this place.
    pub purge: Option<Position>,
    /// A peer needs a snapshot: a view of the store is to be pinned and reported as [`Input::Pinned`].
    pub pin: bool,
    /// No peer needs the pinned view any more.
    pub unpin: bool,
    /// Received snapshots that raft did not take: of an older term, or of what is here by now. Nobody is going to install them.
    pub turned_away: Vec<SnapshotMeta>,
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many commands wait to be committed.
    TooMany,
    /// Leadership is being handed over, or the leader went away.
    LeaderChanged,
    /// A leader of a later term began without it: it was lost with the leader before, unless it is still on its way.
    Lost,
    /// Another change of members is under way.
    ChangePending,
    /// The change does not fit the members.
    InvalidChange(ChangeError),
}

/// What others may know of the core without asking it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The current term.
    pub term: Term,
    /// The leader, 0 if none is known.
    pub leader: NodeId,
    /// The commit index.
    pub commit: Index,
    /// Whether this member is a learner.
    pub is_learner: bool,
    /// Whether this member leads, is the only voter and has committed an entry of its term: nothing can be committed
    /// anywhere that is not committed here.
    pub alone: bool,
    /// How often the leader changed since the start.
    pub leader_changes: u64,
    /// Proposals that wait for a leader to take them.
    pub parked: u64,
}

/// The consensus core; see the module's documentation.
pub struct ConsensusCore {
    node: Node<LogStorage>,
    id: NodeId,
    boot: u64,
    ticks: u64,
    reads: PendingReads,
    parked: VecDeque<(u64, Bytes)>,
    in_flight: InFlight,
    standing: Standing,
    members: ConfState,
    campaigned: bool,
    /// The tick at which it was last looked whether a pinned view is still needed.
    pin_checked: u64,
    /// The tick at which a peer was last seen to need it.
    pin_needed: u64,
}

#[derive(Debug, Default)]
struct PendingReads {
    counter: u64,
    /// Tickets that no request covers yet.
    fresh: Vec<u64>,
    /// Requests on their way, by counter: whom they serve. The answer to one serves those of all earlier ones, whose
    /// readers came before it was asked.
    asked: BTreeMap<u64, Vec<u64>>,
    /// The tick of the last request.
    asked_at: u64,
    /// Whether the requests on their way are to be repeated.
    repeat: bool,
    /// The tick at which raft refused a request, if it was the last.
    refused_at: Option<u64>,
    /// Refused, or under way when the leader changed, and not told yet.
    failed: u64,
}

impl PendingReads {
    fn take(&mut self, ticket: u64) {
        if self.fresh.len() >= READS_MAX {
            self.fresh.drain(..READS_MAX / 2);
        }
        self.fresh.push(ticket);
    }

    /// Whether there is something to ask at tick `now`. Readers that come while a request is on its way share the next one, which
    /// leaves when the answer is there, or at the next tick if none comes.
    fn wants_to_ask(&self, now: u64) -> bool {
        let under_way = !self.asked.is_empty() && now <= self.asked_at;
        self.repeat || (!self.fresh.is_empty() && !under_way)
    }

    /// The tickets that the answer to request `counter` serves; `None` if they are served already.
    fn answered(&mut self, counter: u64) -> Option<Vec<u64>> {
        let later = self.asked.split_off(&(counter + 1));
        let served = std::mem::replace(&mut self.asked, later);
        (!served.is_empty()).then(|| served.into_values().flatten().collect())
    }
}

/// The latest proposals, by the term in which they were made. A new leader's first entry closes the log of its
/// predecessors: what is not applied with it was lost, and whoever waits is told so instead of waiting for a timeout.
#[derive(Debug, Default)]
struct InFlight {
    proposals: VecDeque<(Term, u64)>,
}

impl InFlight {
    fn note(&mut self, term: Term, id: u64) {
        if self.proposals.len() >= IN_FLIGHT_MAX {
            self.proposals.pop_front();
        }
        self.proposals.push_back((term, id));
    }

    /// Those from before the term of the entry applied last. Most of them were answered long ago.
    fn lost(&mut self, applied: Term) -> impl Iterator<Item = u64> + '_ {
        let lost = self.proposals.partition_point(|&(term, _)| term < applied);
        self.proposals.drain(..lost).map(|(_, id)| id)
    }
}

impl ConsensusCore {
    /// A core around a raft node that was just started, in the life numbered `boot` of member `id`.
    #[must_use]
    pub fn new(node: Node<LogStorage>, id: NodeId, boot: u64) -> ConsensusCore {
        let members = node.storage().initial_state().map(|(_, members)| members).unwrap_or_default();
        ConsensusCore {
            node,
            id,
            boot,
            ticks: 0,
            reads: PendingReads::default(),
            parked: VecDeque::new(),
            in_flight: InFlight::default(),
            standing: Standing::default(),
            members,
            campaigned: false,
            pin_checked: 0,
            pin_needed: 0,
        }
    }

    /// What others may know of the core.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// What an operator sees of raft.
    #[must_use]
    pub fn status(&self) -> Status {
        self.node.status()
    }

    /// The raft node, to look at.
    #[must_use]
    pub fn node(&self) -> &Node<LogStorage> {
        &self.node
    }

    /// See [`LogStorage::keep_in_memory`].
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn keep_in_memory(&mut self, bytes: usize) {
        self.node.storage_mut().keep_in_memory(bytes);
    }

    /// Says whether more proposals are at hand, which the next calls bring: see [`Node::expect_proposals`].
    pub fn expect_proposals(&mut self, expected: bool) {
        self.node.expect_proposals(expected);
    }

    /// Takes all of `inputs`, in their order, then drains raft's Ready into `out`.
    ///
    /// # Errors
    /// A fault of raft: the member must stop.
    pub fn handle(&mut self, inputs: &mut Vec<Input>, out: &mut Outputs) -> Result<(), Fault> {
        for input in inputs.drain(..) {
            self.take(input, out)?;
        }
        loop {
            self.ask_for_reads();
            while self.node.has_ready() {
                let ready = self.node.ready();
                self.route(ready, out);
                if let Some(fault) = self.node.fault() {
                    return Err(fault.clone());
                }
            }
            self.note_standing();
            out.reads_failed += std::mem::take(&mut self.reads.failed);
            self.mind_the_pin(out);
            let refused = self.reads.refused_at == Some(self.ticks);
            let asks = self.standing.leader != 0 && self.reads.wants_to_ask(self.ticks) && !refused;
            if !asks && !self.campaign_if_alone() && !self.propose_parked(out) {
                return Ok(());
            }
        }
    }

    fn take(&mut self, input: Input, out: &mut Outputs) -> Result<(), Fault> {
        match input {
            Input::Tick => self.tick(out),
            Input::Propose { id, command } => self.propose(id, command, out),
            Input::Read { ticket } => self.reads.take(ticket),
            Input::Message(message) => {
                let snapshot =
                    if let Body::Snapshot { meta } = &message.body { Some(meta.clone()) } else { None };
                // A refused message (of an unknown peer, of an older life) is the network's weather.
                let _refused = self.node.step(*message);
                let pending = self.node.pending_snapshot();
                out.turned_away.extend(snapshot.filter(|meta| pending != Some(meta)));
            }
            Input::Persisted(batch) => self.persisted(batch)?,
            Input::Applied(applied) => self.applied(applied)?,
            Input::Fetched { token, entries } => self.node.fetched(token, entries),
            Input::Purge(index) => {
                out.purge = self.node.storage_mut().purge_to(index).or(out.purge);
            }
            Input::Change { id, change } => self.change(id, change, out),
            Input::Transfer { to } => {
                // Refused where this member does not lead: it had nothing to hand over.
                let _refused = self.node.transfer_leader(to);
            }
            Input::Unreachable { to } => self.node.report_unreachable(to),
            Input::SnapshotReport { to, ok } => self.node.report_snapshot(to, ok),
            Input::Pinned(meta) => self.node.storage_mut().set_pinned(Some(meta)),
        }
        self.node.fault().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    fn tick(&mut self, out: &mut Outputs) {
        self.ticks += 1;
        self.node.tick();
        // What was applied before this tick has been answered by now.
        let storage = self.node.storage();
        let lost = self.in_flight.lost(storage.term(storage.applied()).unwrap_or_default());
        out.refused.extend(lost.map(|id| (id, Refused::Lost)));
        let reads = &mut self.reads;
        reads.repeat |= !reads.asked.is_empty() && self.ticks >= reads.asked_at + READ_RETRY_TICKS;
    }

    fn propose(&mut self, id: u64, command: Bytes, out: &mut Outputs) {
        if !self.parked.is_empty() {
            return self.park(id, command, out);
        }
        match self.node.propose(command.clone()) {
            Ok(()) => self.in_flight.note(self.node.hard_state().term, id),
            Err(Refusal::NoLeader { .. }) => self.park(id, command, out),
            Err(refusal) => out.refused.push((id, refused(&refusal))),
        }
    }

    /// A change of members does not wait for a leader: by then it may no longer be wanted.
    fn change(&mut self, id: u64, change: ConfChange, out: &mut Outputs) {
        match self.node.propose_conf_change(change) {
            Ok(()) => self.in_flight.note(self.node.hard_state().term, id),
            Err(refusal) => out.refused.push((id, refused(&refusal))),
        }
    }

    /// Proposals without a leader wait for one, as long as their clients do.
    fn park(&mut self, id: u64, command: Bytes, out: &mut Outputs) {
        if self.parked.len() >= PARKED_MAX {
            out.refused.push((id, Refused::TooMany));
        } else {
            self.parked.push_back((id, command));
        }
    }

    fn propose_parked(&mut self, out: &mut Outputs) -> bool {
        if self.parked.is_empty() || self.standing.leader == 0 {
            return false;
        }
        let before = self.parked.len();
        for (id, command) in std::mem::take(&mut self.parked) {
            self.propose(id, command, out);
        }
        self.parked.len() < before
    }

    /// One request covers every reader that came since the last one.
    fn ask_for_reads(&mut self) {
        if self.standing.leader == 0 || !self.reads.wants_to_ask(self.ticks) {
            return;
        }
        let reads = &mut self.reads;
        let id = ReadId { node: self.id, boot: self.boot, counter: reads.counter + 1 };
        // A member that cannot ask now has the next try at the next tick.
        reads.refused_at = if self.node.read_index(id).is_ok() {
            reads.counter = id.counter;
            reads.asked.insert(id.counter, std::mem::take(&mut reads.fresh));
            (reads.asked_at, reads.repeat) = (self.ticks, false);
            None
        } else {
            reads.failed += 1;
            Some(self.ticks)
        };
    }

    fn persisted(&mut self, batch: Persisted) -> Result<(), Fault> {
        let storage = self.node.storage_mut();
        if let Some(snapshot) = &batch.snapshot {
            storage.restart_at(snapshot);
        }
        if let Err(index) = storage.append(batch.entries, &batch.positions) {
            return Err(Fault::Storage(format!("entry {index} leaves a gap in the log")));
        }
        if let Some(state) = batch.hard_state {
            storage.set_hard_state(state);
        }
        self.node.persisted(batch.token)
    }

    fn applied(&mut self, applied: Applied) -> Result<(), Fault> {
        for change in &applied.conf_changes {
            self.members = self.node.apply_conf_change(change)?;
        }
        if let Some(snapshot) = applied.snapshot {
            self.members = snapshot.conf_state;
        }
        self.node.storage_mut().set_applied(applied.index);
        self.node.applied(applied.token)
    }

    fn route(&mut self, ready: Ready, out: &mut Outputs) {
        out.send.extend(ready.send);
        out.persist.extend(ready.persist);
        out.apply.extend(ready.apply);
        for read in ready.reads {
            if (read.id.node, read.id.boot) == (self.id, self.boot)
                && let Some(tickets) = self.reads.answered(read.id.counter)
            {
                out.reads.push((read.index, tickets));
            }
        }
        for fetch in ready.fetch {
            let storage = self.node.storage();
            let wanted = (fetch.low..fetch.high).take(FETCH_ENTRIES);
            let positions = wanted.map_while(|index| storage.position(index)).collect();
            out.fetch.push(FetchJob::new(fetch, positions));
        }
    }

    /// Asks for a view where a peer needs a snapshot, and lets go of one that nobody needs any more.
    fn mind_the_pin(&mut self, out: &mut Outputs) {
        let storage = self.node.storage_mut();
        if storage.take_snapshot_wanted() {
            out.pin = true;
            (self.pin_checked, self.pin_needed) = (self.ticks, self.ticks);
            return;
        }
        if storage.pinned().is_none() || self.ticks < self.pin_checked + PIN_CHECK_TICKS {
            return;
        }
        self.pin_checked = self.ticks;
        let behind = |(id, progress): &(NodeId, Progress)| {
            *id != self.id && progress.recent_active && progress.state != ProgressState::Replicate
        };
        if self.node.status().progress.iter().any(behind) {
            self.pin_needed = self.ticks;
        } else if self.ticks >= self.pin_needed + PIN_IDLE_TICKS {
            self.node.storage_mut().set_pinned(None);
            out.unpin = true;
        }
    }

    fn note_standing(&mut self) {
        let (soft, hard) = (self.node.soft_state(), self.node.hard_state());
        let changed = soft.leader != self.standing.leader && soft.leader != 0;
        if ![0, soft.leader].contains(&self.standing.leader) && !self.reads.asked.is_empty() {
            self.reads.failed += 1;
        }
        let alone = soft.role == Role::Leader && self.members.voters == [self.id] && !self.members.is_joint();
        let before = self.standing.alone && self.standing.term == hard.term;
        let alone = alone && (before || self.node.storage().term(hard.commit) == Ok(hard.term));
        self.standing = Standing {
            alone,
            term: hard.term,
            leader: soft.leader,
            commit: hard.commit,
            is_learner: self.members.learners.contains(&self.id),
            leader_changes: self.standing.leader_changes + u64::from(changed),
            parked: self.parked.len() as u64,
        };
    }

    /// The sole voter of a cluster need not wait for an election timeout: nobody else could be leader. It
    /// campaigns as every other candidate does.
    fn campaign_if_alone(&mut self) -> bool {
        let soft = self.node.soft_state();
        let alone = self.members.voters == [self.id] && !self.members.is_joint();
        // Once: if the campaign fails, the election timeout takes over.
        if self.campaigned || !alone || soft.role != Role::Follower || soft.leader != 0 {
            return false;
        }
        self.campaigned = self.node.campaign().is_ok();
        self.campaigned
    }
}

fn refused(refusal: &Refusal) -> Refused {
    match refusal {
        Refusal::TooMuchUncommitted { .. } => Refused::TooMany,
        Refusal::ConfChangePending { .. } | Refusal::MustLeaveJoint => Refused::ChangePending,
        Refusal::InvalidChange(error) => Refused::InvalidChange(*error),
        _ => Refused::LeaderChanged,
    }
}

#[cfg(test)]
mod tests;
