//! The world: members, network, clients and time, and the loop that lets one thing happen after another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::client::Clients;
use super::network::Network;
use super::node::{self, Node};
use super::options::Options;
use super::queue::{Queue, What, Who};
use super::snapshot::Transfer;
use super::stats::Stats;
use super::trace::Trace;
use super::truth::Truth;
use super::watchers::Watchers;
use crate::sim::Random;

/// A run that held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of the run.
    pub seed: u64,
    /// Stands for every event and its outcome, in order.
    pub digest: u64,
    /// What was exercised.
    pub stats: Stats,
}

/// A run that did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Reproduces it, with the scenario.
    pub seed: u64,
    /// The scenario.
    pub scenario: &'static str,
    /// When, in microseconds of virtual time.
    pub at_us: u64,
    /// What does not hold, and of whom.
    pub what: String,
    /// What was exercised until then.
    pub stats: Box<Stats>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, scenario, at_us, what, .. } = self;
        write!(
            f,
            "scenario {scenario}, seed {seed}, after {}.{:06} s: {what}",
            at_us / 1_000_000,
            at_us % 1_000_000
        )
    }
}

impl std::error::Error for Failure {}

/// A cluster of simulated members.
pub(super) struct World {
    pub(super) options: Options,
    pub(super) random: Random,
    /// Microseconds.
    pub(super) now: u64,
    pub(super) queue: Queue,
    pub(super) nodes: Vec<Node>,
    pub(super) lives: u64,
    pub(super) network: Network,
    pub(super) clients: Clients,
    pub(super) watchers: Watchers,
    pub(super) truth: Truth,
    /// Who led each term.
    pub(super) leaders: BTreeMap<u64, u64>,
    /// States by applied index: revision, hash and tables.
    pub(super) states: BTreeMap<u64, (i64, u64)>,
    /// Snapshots on their way.
    pub(super) on_the_way: BTreeMap<u64, Transfer>,
    pub(super) transfers: u64,
    /// How many members the cluster shall have.
    pub(super) wanted: usize,
    /// The highest member id so far.
    pub(super) ids: u64,
    /// Members whose removal was asked for.
    pub(super) leaving: BTreeSet<u64>,
    /// The version of the members that machines were last seen to.
    pub(super) members_seen: u64,
    /// All entries up to here were applied somewhere when the members changed last.
    pub(super) members_changed: u64,
    /// Since when there is no leader because the last one died.
    pub(super) vacancy: Option<u64>,
    pub(super) healed: bool,
    pub(super) heal_by: u64,
    pub(super) trace: Trace,
    pub(super) stats: Stats,
}

/// Runs one simulation.
///
/// # Errors
/// The first thing that does not hold.
pub fn run(options: &Options) -> Result<Report, Failure> {
    play(options, false).0
}

/// Runs one simulation and tells it in words.
///
/// # Errors
/// The first thing that does not hold; the words tell how it came to that.
pub fn play(options: &Options, words: bool) -> (Result<Report, Failure>, String) {
    let mut world = World::new(options.clone(), words);
    let verdict = world.play();
    let World { now, trace, mut stats, random: mut chance, .. } = world;
    stats.simulated_ms = now / 1000;
    let digest = trace.digest() ^ chance.next();
    let seed = options.seed;
    let verdict = match verdict {
        Ok(()) => Ok(Report { seed, digest, stats }),
        Err(what) => {
            let scenario = options.scenario;
            Err(Failure { seed, scenario, at_us: now, what, stats: Box::new(stats) })
        }
    };
    (verdict, trace.into_text())
}

impl World {
    fn new(options: Options, words: bool) -> World {
        let mut random = Random::new(options.seed);
        let founders = options.members as u64;
        let nodes = (1..=founders)
            .map(|id| {
                let (seed, tick_us) = (random.next(), skewed(&options, &mut random));
                Node::new(id, node::founding(id, founders), seed, tick_us)
            })
            .collect();
        World {
            clients: Clients::new(options.clients),
            network: Network::default(),
            watchers: Watchers::default(),
            random,
            now: 0,
            queue: Queue::default(),
            nodes,
            lives: 0,
            truth: Truth::default(),
            leaders: BTreeMap::new(),
            states: BTreeMap::new(),
            on_the_way: BTreeMap::new(),
            transfers: 0,
            wanted: options.members,
            ids: founders,
            leaving: BTreeSet::new(),
            members_seen: 0,
            members_changed: 0,
            vacancy: None,
            healed: false,
            heal_by: u64::MAX,
            trace: Trace::new(words),
            stats: Stats::default(),
            options,
        }
    }

    fn play(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            self.start(at)?;
        }
        // The last one is the administrator.
        for client in 0..=self.options.clients {
            self.after(self.options.tick_us, What::Client(client));
        }
        self.after(self.options.tick_us, What::Watch);
        self.after(self.options.fault_every_us, What::Chaos);
        self.after(self.options.chaos_us, What::Heal);
        while let Some((at, what)) = self.queue.pop() {
            self.now = at;
            self.stats.events += 1;
            if self.healed && at > self.heal_by {
                return Err(format!("liveness: healed for long and not converged: {}", self.describe()));
            }
            if self.happen(what)? {
                return self.finish();
            }
        }
        Err("time stood still".into())
    }

    /// True when everything is over.
    fn happen(&mut self, what: What) -> Result<bool, String> {
        match what {
            What::Tick(who) => self.in_life(who, what, World::tick)?,
            What::Wake(who) => self.in_life(who, what, World::wake)?,
            What::Synced(who) => self.in_life(who, what, World::synced)?,
            What::Applied(who) => self.in_life(who, what, World::applied)?,
            What::Upkeep(who) => self.in_life(who, what, World::upkeep)?,
            What::Fetched(who, job) if self.is_up(who) => self.fetched(who.node, *job)?,
            What::Request(who, request) if self.is_up(who) => self.request(who.node, *request)?,
            What::Fetched(who, _) | What::Request(who, _) => self.defer(who, what),
            What::Arrive(parcel) => self.arrive(parcel)?,
            What::Chunk(transfer) => self.chunk(transfer)?,
            What::Answer(operation, told) => self.answered(operation, *told)?,
            What::Timeout(operation) => self.timed_out(operation),
            What::Client(client) => self.client(client),
            What::Watch => self.watch()?,
            What::Start(at) => self.start(at)?,
            What::Retire(at) => self.retire(at),
            What::Resume(who) => self.resume(who),
            What::Unstick(who) => self.unstick(who),
            What::Mend(cut) => self.mend(cut),
            What::Roll(at) => self.roll(at),
            What::Room(at) => self.room(at),
            What::Chaos => self.chaos()?,
            What::Heal => self.heal()?,
            What::Look => return self.look(),
        }
        Ok(false)
    }

    /// Lets `act` happen in the life it was meant for; later if the process is stopped.
    fn in_life(
        &mut self,
        who: Who,
        what: What,
        act: fn(&mut World, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.is_up(who) {
            return act(self, who.node);
        }
        self.defer(who, what);
        Ok(())
    }

    pub(super) fn is_up(&self, who: Who) -> bool {
        let node = &self.nodes[who.node];
        node.deferred.is_none() && node.live.as_ref().is_some_and(|live| live.life == who.life)
    }

    pub(super) fn defer(&mut self, who: Who, what: What) {
        let node = &mut self.nodes[who.node];
        if node.live.as_ref().is_some_and(|live| live.life == who.life)
            && let Some(deferred) = &mut node.deferred
        {
            deferred.push(what);
        }
    }

    /// A heartbeat interval by some clock.
    pub(super) fn tick_us(&mut self) -> u64 {
        skewed(&self.options, &mut self.random)
    }

    pub(super) fn after(&mut self, us: u64, what: What) {
        self.queue.push(self.now + us, what);
    }

    /// Up to `us`, at least 1.
    pub(super) fn up_to(&mut self, us: u64) -> u64 {
        1 + self.random.below(us.max(1))
    }

    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.random.below(1000) < per_mille
    }

    pub(super) fn who(&self, at: usize) -> Option<Who> {
        self.nodes[at].live.as_ref().map(|live| Who { node: at, life: live.life })
    }

    pub(super) fn note(&mut self, number: u64, words: impl FnOnce() -> String) {
        self.trace.note(self.now, number, words);
    }

    /// Where each member is.
    pub(super) fn describe(&self) -> String {
        let describe = |node: &Node| match &node.live {
            None => format!("{:x} down", node.id),
            Some(live) => {
                let status = live.core.status();
                format!(
                    "{:x} {:?} term {} leader {:x} commit {} applied {} last {} {}",
                    node.id,
                    status.role,
                    status.term,
                    status.leader,
                    status.commit,
                    live.applier.store().applied().index,
                    status.last_index,
                    status.conf_state,
                )
            }
        };
        self.nodes.iter().filter(|node| !node.gone).map(describe).collect::<Vec<_>>().join("; ")
    }
}

fn skewed(options: &Options, random: &mut Random) -> u64 {
    options.tick_us * (1000 - options.skew + random.below(2 * options.skew + 1)) / 1000
}
