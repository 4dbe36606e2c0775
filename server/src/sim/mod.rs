//! A member in one thread, from one seed: the real consensus core, apply core, raft log and store on a
//! simulated disk, in virtual time.
//!
//! The [`Driver`](crate::consensus::shell::Driver) of production is replaced by [`Member::step`], which runs one
//! station at a time in an order that the seed chooses; crashes lose or tear what was not synced, kills lose
//! nothing but the process. [`history`] remembers what was acknowledged and checks it after every start.
//!
//! ```
//! let report = ketch_server::sim::run(&ketch_server::sim::Options { seed: 1, rounds: 400, ..Default::default() })?;
//! assert!(report.acknowledged > 0);
//! # Ok::<(), String>(())
//! ```

mod history;
mod load;
mod member;
mod random;

use std::fmt;

pub use history::History;
pub use load::Load;
pub use member::Member;
pub use random::Random;

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
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: 0, rounds: 4000, crash_one_in: 300, kill_one_in: 600 }
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
    /// Commands whose outcome the crash left open.
    pub unknown: u64,
    /// Linearizable reads that were answered and checked.
    pub reads: u64,
    /// Crashes of the machine.
    pub crashes: u64,
    /// Deaths of the process.
    pub kills: u64,
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
            "proposed {} acknowledged {} refused {} unknown {} reads {} crashes {} kills {} torn {} purges {} \
             revision {} digest {:016x}",
            self.proposed,
            self.acknowledged,
            self.refused,
            self.unknown,
            self.reads,
            self.crashes,
            self.kills,
            self.torn_tails,
            self.purges,
            self.revision,
            self.digest
        )
    }
}

/// Runs one simulation.
///
/// # Errors
/// What went wrong, in words: a lost or altered acknowledged write, a reused revision, a stale read, a member
/// that does not start any more.
pub fn run(options: &Options) -> Result<Report, String> {
    let mut random = Random::new(options.seed);
    let disk = ketch_wal::SimDisk::new(random.next());
    let mut history = History::default();
    let mut report = Report::default();
    let mut load = Load::default();
    let mut member = Member::start(&disk, &mut random, &mut report)?;
    history.check_start(&member)?;
    for _ in 0..options.rounds {
        if random.one_in(options.crash_one_in) || random.one_in(options.kill_one_in) {
            let crash = random.one_in(2);
            report.unknown += history.forget_open();
            load.forget_open();
            drop(member);
            if crash {
                disk.crash();
                report.crashes += 1;
            } else {
                disk.kill();
                report.kills += 1;
            }
            member = Member::start(&disk, &mut random, &mut report)?;
            history.check_start(&member)?;
        } else {
            load.offer(&mut member, &mut history, &mut random, &mut report);
            member.step(&mut random, &mut history, &mut report)?;
        }
    }
    member.settle(&mut random, &mut history, &mut report)?;
    history.check_all(&member)?;
    report.revision = member.revision();
    report.digest = random.mix(disk.digest());
    Ok(report)
}
