//! The simulator itself.

use ketch_raft::Entry;
use ketch_raft::sim::{Journal, Options, Simulation, StateMachine, Stats};

#[test]
fn one_seed_twice_is_the_same_run_to_the_byte() {
    for seed in [1, 42, 4711] {
        let run = || Simulation::new(seed, Options::from_seed(seed), Journal::default()).run().unwrap();
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn rough_worlds_hold_and_exercise_everything() {
    let mut total = Stats::default();
    for seed in 0..40 {
        match Simulation::new(seed, Options::from_seed(seed), Journal::default()).run() {
            Ok(report) => total.add(&report.stats),
            Err(failure) => panic!("{failure}"),
        }
    }
    // A crash between the record of a snapshot and its installation takes more worlds than these.
    for (what, count) in total.rows().into_iter().filter(|row| row.0 != "rolled_forward") {
        assert!(count > 0, "never happened: {what}");
    }
}

/// A counter that may never fall behind what it promised.
#[derive(Clone, Default)]
struct Counter {
    entries: u64,
    broken: bool,
}

impl StateMachine for Counter {
    fn apply(&mut self, _: &Entry) {
        self.entries += 1;
    }

    fn digest(&self) -> u64 {
        self.entries
    }

    fn check(&self) -> Result<(), String> {
        if self.broken && self.entries > 5 { Err("more than five".to_string()) } else { Ok(()) }
    }
}

#[test]
fn a_users_own_invariant_fails_the_run() {
    let options = || Options { chaos_ms: 2_000, ..Options::default() };
    assert!(Simulation::new(3, options(), Counter::default()).run().is_ok());
    let broken = Counter { broken: true, ..Counter::default() };
    let failure = Simulation::new(3, options(), broken).run().unwrap_err();
    assert!(failure.what.contains("more than five"), "{failure}");
}
