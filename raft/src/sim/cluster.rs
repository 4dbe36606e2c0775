//! The cluster and its event loop.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;

use super::checks::History;
use super::machine::hash;
use super::member::{Member, Store};
use super::{Options, Rng, StateMachine, Stats};
use crate::membership::ConfState;
use crate::message::Message;
use crate::ready::Fetch;
use crate::types::{Index, NodeId, ReadId};

/// A run that held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of the run.
    pub seed: u64,
    /// Stands for every event and its outcome, in order.
    pub digest: u64,
    /// Simulated milliseconds until everybody had converged.
    pub end_ms: u64,
    /// What was exercised.
    pub stats: Stats,
}

/// A run that did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Reproduces it.
    pub seed: u64,
    /// Simulated milliseconds.
    pub at_ms: u64,
    /// What does not hold, and of whom.
    pub what: String,
    /// What was exercised until then.
    pub stats: Box<Stats>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} at {} ms: {}", self.seed, self.at_ms, self.what)
    }
}

impl std::error::Error for Failure {}

/// What happens at a point in time.
pub(crate) enum What<M> {
    Tick { id: NodeId, boot: u64 },
    Arrive(Box<Parcel<M>>),
    SyncDone { id: NodeId, boot: u64, batches: usize },
    ApplyDone { id: NodeId, boot: u64 },
    FetchDone { id: NodeId, boot: u64, fetch: Fetch },
    Restart { id: NodeId },
    Mend { partition: u64 },
    Act,
    Heal,
}

/// A message on its way, with the boot number of the receiver that the connection was made to.
pub(crate) struct Parcel<M> {
    pub(crate) message: Message,
    pub(crate) to_boot: u64,
    /// A snapshot's payload.
    pub(crate) payload: Option<Store<M>>,
}

struct Scheduled<M> {
    at: u64,
    number: u64,
    what: What<M>,
}

impl<M> PartialEq for Scheduled<M> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<M> Eq for Scheduled<M> {}

impl<M> PartialOrd for Scheduled<M> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<M> Ord for Scheduled<M> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A cluster of simulated members. Times inside are microseconds.
pub struct Simulation<M> {
    pub(crate) seed: u64,
    pub(crate) options: Options,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    pub(crate) members: Vec<Member<M>>,
    queue: BinaryHeap<Reverse<Scheduled<M>>>,
    scheduled: u64,
    /// `(partition, from, to)`: cut off.
    pub(crate) cuts: Vec<(u64, NodeId, NodeId)>,
    pub(crate) partitions: u64,
    pub(crate) healed: bool,
    pub(crate) history: History,
    /// Reads asked and not answered, with what was committed anywhere then.
    pub(crate) reads: BTreeMap<ReadId, Index>,
    pub(crate) counter: u64,
    pub(crate) digest: u64,
    pub(crate) stats: Stats,
}

impl<M: StateMachine> Simulation<M> {
    /// A cluster in the world of `options`, every member starting with a clone of `machine`.
    pub fn new(seed: u64, options: Options, machine: M) -> Simulation<M> {
        let mut rng = Rng::new(seed);
        let founders = ConfState::of_voters((1..=options.voters).collect::<Vec<_>>());
        let members = (1..=options.members)
            .map(|id| {
                let skew = rng.between(1000 - options.skew_per_mille, 1000 + options.skew_per_mille);
                Member::new(id, machine.clone(), founders.clone(), options.tick_ms * skew)
            })
            .collect();
        Simulation {
            seed,
            options,
            rng,
            now: 0,
            members,
            queue: BinaryHeap::new(),
            scheduled: 0,
            cuts: Vec::new(),
            partitions: 0,
            healed: false,
            history: History::default(),
            reads: BTreeMap::new(),
            counter: 0,
            digest: seed,
            stats: Stats::default(),
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn run(mut self) -> Result<Report, Failure> {
        match self.play() {
            Ok(()) => Ok(Report {
                seed: self.seed,
                digest: self.digest,
                end_ms: self.now / 1000,
                stats: self.stats,
            }),
            Err(what) => {
                Err(Failure { seed: self.seed, at_ms: self.now / 1000, what, stats: Box::new(self.stats) })
            }
        }
    }

    fn play(&mut self) -> Result<(), String> {
        for id in 1..=self.options.members {
            self.start(id)?;
        }
        self.after_ms(1, What::Act);
        self.after_ms(self.options.chaos_ms, What::Heal);
        let end = (self.options.chaos_ms + self.options.heal_ms) * 1000;
        while let Some(Reverse(next)) = self.queue.pop() {
            self.now = next.at;
            if self.now > end {
                return Err(format!(
                    "healed for {} ms and not converged: {}",
                    self.options.heal_ms,
                    self.describe()
                ));
            }
            self.stats.events += 1;
            self.mix(next.at);
            self.happen(next.what)?;
            if self.healed && self.has_converged()? {
                return Ok(());
            }
        }
        Err("time stood still".to_string())
    }

    fn happen(&mut self, what: What<M>) -> Result<(), String> {
        match what {
            What::Tick { id, boot } => self.tick(id, boot),
            What::Arrive(parcel) => self.arrive(*parcel),
            What::SyncDone { id, boot, batches } => self.sync_done(id, boot, batches),
            What::ApplyDone { id, boot } => self.apply_done(id, boot),
            What::FetchDone { id, boot, fetch } => self.fetch_done(id, boot, fetch),
            What::Restart { id } => self.start(id),
            What::Mend { partition } => {
                self.cuts.retain(|cut| cut.0 != partition);
                Ok(())
            }
            What::Act => self.act(),
            What::Heal => self.heal(),
        }
    }

    pub(crate) fn mix(&mut self, word: u64) {
        self.digest = hash(self.digest ^ word);
    }

    pub(crate) fn after_ms(&mut self, ms: u64, what: What<M>) {
        self.after_us(ms * 1000, what);
    }

    pub(crate) fn after_us(&mut self, us: u64, what: What<M>) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled { at: self.now + us, number: self.scheduled, what }));
    }

    pub(crate) fn at(&self, id: NodeId) -> usize {
        (id - 1) as usize
    }

    /// In this life?
    pub(crate) fn is_alive(&self, id: NodeId, boot: u64) -> bool {
        let member = &self.members[self.at(id)];
        member.boot == boot && member.node.is_some()
    }

    pub(crate) fn start(&mut self, id: NodeId) -> Result<(), String> {
        let at = self.at(id);
        if self.members[at].node.is_some() {
            return Ok(());
        }
        let seed = self.rng.next_u64();
        let rolled = self.members[at]
            .start(&self.options, seed)
            .map_err(|fault| format!("{id} cannot start: {fault}"))?;
        self.stats.rolled_forward += u64::from(rolled);
        let (boot, tick) = (self.members[at].boot, self.members[at].tick_micros);
        let first = self.rng.below(tick);
        self.after_us(first, What::Tick { id, boot });
        self.drain(id)
    }

    fn tick(&mut self, id: NodeId, boot: u64) -> Result<(), String> {
        if !self.is_alive(id, boot) {
            return Ok(());
        }
        let at = self.at(id);
        let member = &mut self.members[at];
        let tick = member.tick_micros;
        if member.paused_until <= self.now
            && let Some(node) = &mut member.node
        {
            node.tick();
        }
        self.after_us(tick, What::Tick { id, boot });
        self.drain(id)
    }

    /// Who is up, who leads, how far everybody is.
    pub(crate) fn describe(&self) -> String {
        let describe = |member: &Member<M>| match &member.node {
            None => format!("{} down", member.id),
            Some(node) => {
                let status = node.status();
                format!(
                    "{} {:?} term {} leader {} commit {} applied {} last {} {}{}",
                    member.id,
                    status.role,
                    status.term,
                    status.leader,
                    status.commit,
                    status.applied,
                    status.last_index,
                    status.conf_state,
                    status.progress.iter().map(|(id, peer)| format!(" [{id}: {peer}]")).collect::<String>()
                )
            }
        };
        self.members.iter().map(describe).collect::<Vec<_>>().join("; ")
    }
}
