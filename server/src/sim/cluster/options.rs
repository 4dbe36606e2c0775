//! How rough the world is. Times are in microseconds of virtual time; chances are per mille.

use super::planted::Bug;
use crate::sim::Random;

/// What goes wrong, and how often: each is a weight among what the world does next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weights {
    /// A machine loses its power: what was not synced is lost or torn.
    pub crash: u64,
    /// A process dies, the machine lives on.
    pub kill: u64,
    /// The network is cut in two, or a member is cut off, in one direction or both.
    pub partition: u64,
    /// A process is stopped for a while and goes on as if nothing had been.
    pub pause: u64,
    /// Leadership is handed over.
    pub transfer: u64,
    /// One of the next writes or syncs of a disk fails.
    pub disk_fault: u64,
    /// A disk has no room for a while.
    pub full_disk: u64,
    /// A disk hangs for a while.
    pub stuck_disk: u64,
    /// All members are restarted, one after another.
    pub rolling: u64,
    /// A member is away for so long that the others' logs no longer reach back to where it was.
    pub absence: u64,
    /// A member is added, promoted or removed.
    pub change: u64,
    /// A member loses its disk and is replaced by another one.
    pub replace: u64,
    /// A bit on a disk flips.
    pub bit_rot: u64,
    /// The leader dies and stays away until there is another one for long.
    pub leader_death: u64,
}

impl Weights {
    /// In the order in which they are declared.
    pub(super) fn all(&self) -> [u64; 14] {
        [
            self.crash,
            self.kill,
            self.partition,
            self.pause,
            self.transfer,
            self.disk_fault,
            self.full_disk,
            self.stuck_disk,
            self.rolling,
            self.absence,
            self.change,
            self.replace,
            self.bit_rot,
            self.leader_death,
        ]
    }
}

/// The world of one simulation.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// The scenario's name.
    pub scenario: &'static str,
    /// How many members found the cluster.
    pub members: usize,
    /// How many clients there are; each asks one thing at a time.
    pub clients: usize,
    /// How many keys they use.
    pub keys: u64,
    /// How long a client rests between two requests, at most.
    pub rest_us: u64,
    /// After this a client gives up waiting.
    pub patience_us: u64,
    /// How long the world is rough.
    pub chaos_us: u64,
    /// How long a healed cluster may take to converge.
    pub heal_us: u64,
    /// Between two things that go wrong, on average.
    pub fault_every_us: u64,
    /// One heartbeat interval.
    pub tick_us: u64,
    /// Ticks without a leader until an election.
    pub election_ticks: u32,
    /// Clocks run this much too fast or too slow at most.
    pub skew: u64,
    /// A message takes up to this.
    pub delay_us: u64,
    /// A message is lost.
    pub drop: u64,
    /// A message arrives twice.
    pub duplicate: u64,
    /// A message is held back for up to `late_us`.
    pub late: u64,
    /// How long.
    pub late_us: u64,
    /// Messages between two members keep their order, as on the lanes of the real transport.
    pub ordered: bool,
    /// A sync takes up to this.
    pub sync_us: u64,
    /// Applying a batch takes up to this.
    pub apply_us: u64,
    /// Between two rounds of upkeep.
    pub upkeep_us: u64,
    /// Entries that the raft log keeps behind what is durable.
    pub keep: u64,
    /// Bytes of applied entries that stay in memory.
    pub memory_bytes: usize,
    /// Size of the segments of log and store in bytes.
    pub segment_bytes: u64,
    /// What goes wrong.
    pub weights: Weights,
    /// After one in so many pieces of a snapshot its sender dies, and another member is to go on; 0 for never.
    pub senders_die: u64,
    /// About how many bytes of a snapshot travel at once.
    pub chunk_bytes: usize,
    /// Whether clients use transactions; without them every key is an island for the second checker.
    pub transactions: bool,
    /// Whether clients compact.
    pub compactions: bool,
    /// Whether the alarm `NOSPACE` is raised and lowered.
    pub alarms: bool,
    /// A mistake that is made on purpose.
    pub planted: Option<Bug>,
}

/// Names of the scenarios, with what happens in them.
pub const SCENARIOS: [(&str, &str); 14] = [
    ("mixed", "everything, drawn from the seed"),
    ("calm", "work without faults"),
    ("network", "partitions of all kinds, lost, late and repeated messages"),
    ("crash", "machines lose power, processes die"),
    ("disk", "disks fail, fill up and hang"),
    ("pause", "processes are stopped and go on"),
    ("transfer", "leadership changes hands"),
    ("rolling", "restarts of all members, one after another"),
    ("snapshot", "members are away until they need a snapshot"),
    ("relay", "members die while they send a snapshot"),
    ("members", "members come and go"),
    ("replace", "members lose their disk and are replaced"),
    ("rot", "bits flip on disks"),
    ("failover", "leaders die, one after another"),
];

impl Options {
    /// The world of `scenario` for `seed`; `None` for a scenario that does not exist.
    #[must_use]
    pub fn of(scenario: &str, seed: u64) -> Option<Options> {
        let &(name, _) = SCENARIOS.iter().find(|(name, _)| *name == scenario)?;
        let mut random = Random::new(seed ^ 0x6b65_7463_6873_696d);
        let mut options = Options { seed, scenario: name, ..Options::rough(&mut random) };
        options.weights = weights(name, &mut random);
        if matches!(name, "calm" | "failover") {
            (options.drop, options.duplicate, options.late) = (0, 0, 0);
        }
        if name == "failover" {
            options.members = options.members.max(3);
            options.fault_every_us = options.tick_us * u64::from(options.election_ticks) * 10;
        }
        if name == "relay" {
            options.members = options.members.max(3);
            (options.senders_die, options.chunk_bytes) = (3, 400 + random.below(1200) as usize);
            options.alarms = true;
        }
        if matches!(name, "snapshot" | "relay" | "replace" | "members") || options.weights.absence > 0 {
            options.keep = 5 + random.below(40);
        }
        Some(options)
    }

    /// The same world for a shorter time.
    #[must_use]
    pub fn for_us(self, chaos_us: u64) -> Options {
        Options { chaos_us, ..self }
    }

    fn rough(random: &mut Random) -> Options {
        let pick = |random: &mut Random, from: &[u64]| from[random.below(from.len() as u64) as usize];
        let tick_us = pick(random, &[10_000, 20_000, 100_000]);
        let election_ticks = 10;
        let election_us = tick_us * election_ticks;
        Options {
            seed: 0,
            scenario: "mixed",
            members: pick(random, &[3, 3, 3, 3, 5, 1]) as usize,
            clients: pick(random, &[2, 4, 8]) as usize,
            keys: pick(random, &[3, 8, 24]),
            rest_us: tick_us * pick(random, &[1, 2, 5]),
            patience_us: election_us * pick(random, &[2, 5]),
            chaos_us: election_us * pick(random, &[30, 60, 100]),
            heal_us: election_us * 120,
            fault_every_us: election_us * pick(random, &[1, 2, 4]),
            tick_us,
            election_ticks: election_ticks as u32,
            skew: pick(random, &[0, 20, 100]),
            delay_us: tick_us * pick(random, &[2, 10, 60]) / 100,
            drop: pick(random, &[0, 5, 20, 80]),
            duplicate: pick(random, &[0, 20, 60]),
            late: pick(random, &[0, 10, 40]),
            late_us: election_us * 2,
            ordered: random.one_in(2),
            sync_us: tick_us * pick(random, &[3, 10, 50]) / 100,
            apply_us: tick_us * pick(random, &[1, 5, 30]) / 100,
            upkeep_us: tick_us * 3,
            keep: 5000,
            memory_bytes: pick(random, &[500, 4000, 4 << 20]) as usize,
            segment_bytes: pick(random, &[16 << 10, 64 << 10]),
            weights: Weights::default(),
            senders_die: 0,
            chunk_bytes: 4000,
            transactions: !random.one_in(4),
            compactions: random.one_in(2),
            alarms: random.one_in(4),
            planted: None,
        }
    }
}

fn weights(name: &str, random: &mut Random) -> Weights {
    let none = Weights::default();
    match name {
        "network" => Weights { partition: 5, transfer: 1, ..none },
        "crash" => Weights { crash: 3, kill: 2, partition: 1, ..none },
        "disk" => Weights { disk_fault: 4, full_disk: 2, stuck_disk: 2, crash: 1, ..none },
        "pause" => Weights { pause: 4, partition: 1, ..none },
        "transfer" => Weights { transfer: 5, partition: 1, ..none },
        "rolling" => Weights { rolling: 2, partition: 1, ..none },
        "snapshot" => Weights { absence: 3, crash: 2, partition: 1, kill: 1, ..none },
        "relay" => Weights { absence: 5, kill: 1, change: 1, ..none },
        "members" => Weights { change: 6, partition: 1, crash: 1, kill: 1, ..none },
        "replace" => Weights { replace: 2, change: 1, kill: 1, partition: 1, ..none },
        "rot" => Weights { bit_rot: 2, crash: 1, ..none },
        "failover" => Weights { leader_death: 1, ..none },
        "mixed" => {
            let mut draw = |most: u64| if random.one_in(2) { 0 } else { 1 + random.below(most) };
            Weights {
                crash: draw(4),
                kill: draw(3),
                partition: draw(5),
                pause: draw(3),
                transfer: draw(3),
                disk_fault: draw(2),
                full_disk: draw(2),
                stuck_disk: draw(2),
                rolling: draw(1),
                absence: draw(2),
                change: draw(3),
                replace: draw(1),
                bit_rot: 0,
                leader_death: draw(1),
            }
        }
        _ => none,
    }
}
