//! A member in one thread, from one seed: the real consensus core, apply core, raft log and store on a
//! simulated disk, in virtual time.
//!
//! The [`Driver`](crate::consensus::shell::Driver) of production is replaced by [`Member::step`], which runs one
//! station at a time in an order that the seed chooses; crashes lose or tear what was not synced, kills lose
//! nothing but the process. [`History`] remembers what was acknowledged and checks it after every start.
//!
//! ```
//! let report = ketch_server::sim::run(&ketch_server::sim::Options { seed: 1, rounds: 400, ..Default::default() })?;
//! assert!(report.acknowledged > 0);
//! # Ok::<(), String>(())
//! ```

pub mod cluster;
mod history;
mod load;
mod member;
mod random;
mod watch;

use std::fmt;
use std::sync::Arc;

use ketch_wal::SimDisk;
use ketch_wal::sim::{Fault, Op};

pub use history::History;
pub use load::Load;
pub use member::Member;
#[cfg(test)]
pub(crate) use member::founding;
pub use random::Random;
pub use watch::Watching;

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many steps to run.
    pub rounds: u64,
    /// One step in so many is a crash of the machine.
    pub crash_one_in: u64,
    /// One step in so many is the death of the process alone.
    pub kill_one_in: u64,
    /// One step in so many makes the disk fail one of its next operations; the member must stop then.
    pub fault_one_in: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: 0, rounds: 4000, crash_one_in: 400, kill_one_in: 800, fault_one_in: 200 }
    }
}

/// What a run did, so that silence is not mistaken for coverage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Commands that were proposed.
    pub proposed: u64,
    /// Commands whose success was acknowledged.
    pub acknowledged: u64,
    /// Commands that were acknowledged as refused.
    pub refused: u64,
    /// Commands that were acknowledged as refused because the alarm `NOSPACE` was raised.
    pub full: u64,
    /// Commands whose outcome the crash left open.
    pub unknown: u64,
    /// Linearizable reads that were answered and checked.
    pub reads: u64,
    /// Events that watchers were told and that were checked.
    pub watched: u64,
    /// Progress notices that were checked.
    pub bookmarks: u64,
    /// Watches that were resumed after the member had died.
    pub resumed: u64,
    /// Watches that compaction overtook.
    pub lost_watches: u64,
    /// Crashes of the machine.
    pub crashes: u64,
    /// Deaths of the process.
    pub kills: u64,
    /// Stops because of a failed write or sync.
    pub faults: u64,
    /// Starts whose raft log had a torn tail to cut.
    pub torn_tails: u64,
    /// Purges of the raft log.
    pub purges: u64,
    /// The store's revision at the end.
    pub revision: i64,
    /// A digest of every step and of all bytes on the disk at the end.
    pub digest: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "proposed {} acknowledged {} refused {} full {} unknown {} reads {} watched {} bookmarks {} resumed {} lost {} crashes {} kills {} faults {} torn {} purges {} \
             revision {} digest {:016x}",
            self.proposed,
            self.acknowledged,
            self.refused,
            self.full,
            self.unknown,
            self.reads,
            self.watched,
            self.bookmarks,
            self.resumed,
            self.lost_watches,
            self.crashes,
            self.kills,
            self.faults,
            self.torn_tails,
            self.purges,
            self.revision,
            self.digest
        )
    }
}

/// Why a step of the simulation did not go on.
#[derive(Debug)]
pub enum Trouble {
    /// The member stopped by itself, as it must when its disk fails.
    Stopped(String),
    /// A promise was broken.
    Violation(String),
}

impl Trouble {
    /// What happened, in words.
    #[must_use]
    pub fn into_text(self) -> String {
        match self {
            Self::Stopped(why) => format!("the member stopped on a healthy disk: {why}"),
            Self::Violation(why) => why,
        }
    }
}

/// Runs one simulation.
///
/// # Errors
/// What went wrong, in words: a lost or altered acknowledged write, a reused revision, a stale read, a member
/// that does not start any more.
pub fn run(options: &Options) -> Result<Report, String> {
    let mut random = Random::new(options.seed);
    let disk = SimDisk::new(random.next());
    let mut run = Run {
        disk,
        history: History::default(),
        report: Report::default(),
        load: Load::default(),
        watching: Watching::default(),
    };
    let mut member = run.start(&mut random)?;
    let mut armed = false;
    for _ in 0..options.rounds {
        if random.one_in(options.fault_one_in) {
            run.arm(&mut random);
            armed = true;
        }
        let dies = random.one_in(options.crash_one_in) || random.one_in(options.kill_one_in);
        let stopped = match run.step(&mut member, &mut random) {
            Ok(()) => false,
            Err(Trouble::Stopped(_)) if armed => true,
            Err(trouble) => return Err(trouble.into_text()),
        };
        if stopped || dies {
            run.report.faults += u64::from(stopped);
            run.watching.disconnect();
            drop(member);
            run.disk.heal();
            armed = false;
            run.die(&mut random);
            member = run.start(&mut random)?;
        }
    }
    run.disk.heal();
    let Run { disk, mut history, mut report, mut watching, .. } = run;
    if !armed {
        member.settle(&mut random, &mut history, &mut report).map_err(Trouble::into_text)?;
    }
    watching.settle(&member, &mut random, &mut report)?;
    history.check_all(&member)?;
    report.revision = member.revision();
    report.digest = random.mix(disk.digest());
    Ok(report)
}

struct Run {
    disk: Arc<SimDisk>,
    history: History,
    report: Report,
    load: Load,
    watching: Watching,
}

impl Run {
    fn start(&mut self, random: &mut Random) -> Result<Member, String> {
        let member = Member::start(&self.disk, random, &mut self.report).map_err(Trouble::into_text)?;
        self.history.check_start(&member)?;
        Ok(member)
    }

    fn step(&mut self, member: &mut Member, random: &mut Random) -> Result<(), Trouble> {
        self.load.offer(member, &mut self.history, random, &mut self.report);
        member.step(random, &mut self.history, &mut self.report)?;
        self.watching.step(member, random, &mut self.report).map_err(Trouble::Violation)
    }

    /// One of the next writes or syncs fails, perhaps half done.
    fn arm(&self, random: &mut Random) {
        let skip = random.below(6);
        match random.below(3) {
            0 => self.disk.fail(Op::Sync, skip, Fault::Eio),
            1 => self.disk.fail(Op::Write, skip, Fault::Eio),
            _ => self.disk.fail(Op::Write, skip, Fault::Short(random.below(2000) as usize)),
        }
    }

    /// The machine crashes, or only the process dies.
    fn die(&mut self, random: &mut Random) {
        self.report.unknown += self.history.forget_open();
        if random.one_in(3) {
            self.disk.kill();
            self.report.kills += 1;
        } else {
            self.disk.crash();
            self.report.crashes += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_twice_gives_identical_bytes() {
        let options = Options { seed: 42, rounds: 3000, ..Options::default() };
        let (first, second) = (run(&options).unwrap(), run(&options).unwrap());
        assert_eq!(first, second);
        let other = run(&Options { seed: 43, ..options }).unwrap();
        assert_ne!(first.digest, other.digest);
    }

    #[test]
    fn what_is_acknowledged_survives_every_crash() {
        let mut total = Report::default();
        for seed in 0..40 {
            let report = run(&Options { seed, ..Options::default() })
                .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            total.acknowledged += report.acknowledged;
            total.refused += report.refused;
            total.full += report.full;
            total.unknown += report.unknown;
            total.reads += report.reads;
            total.watched += report.watched;
            total.bookmarks += report.bookmarks;
            total.resumed += report.resumed;
            total.lost_watches += report.lost_watches;
            total.crashes += report.crashes;
            total.kills += report.kills;
            total.faults += report.faults;
            total.torn_tails += report.torn_tails;
            total.purges += report.purges;
        }
        // Silence is not coverage: everything that can happen did.
        assert!(total.acknowledged > 10_000, "{total}");
        let each = [
            total.refused,
            total.full,
            total.unknown,
            total.reads,
            total.watched,
            total.bookmarks,
            total.resumed,
            total.lost_watches,
            total.crashes,
            total.kills,
            total.faults,
            total.torn_tails,
            total.purges,
        ];
        assert!(each.iter().all(|&count| count > 10), "{total}");
    }
}
