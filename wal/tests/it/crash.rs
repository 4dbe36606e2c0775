//! Crashes at every operation of the disk; the same hunt as a command is `examples/crash_hunt.rs`.

use crate::hunt::{Plan, Report, hunt};

fn hunt_all(seeds: std::ops::Range<u64>, zero_fill: bool) {
    let mut report = Report::default();
    for seed in seeds {
        report.add(hunt(Plan { seed, steps: 40, bound: 24, zero_fill, again: 0 }).unwrap());
    }
    println!("{report:?}");
    assert!(report.states > 100_000, "{report:?}");
}

#[test]
fn filled_segments_recover_from_every_crash_state() {
    hunt_all(0..40, true);
}

#[test]
fn growing_segments_recover_from_every_crash_state() {
    hunt_all(100..140, false);
}

/// The hunt found here that a batch over three segments, cut from its end by an interrupted recovery, came back by half.
#[test]
fn a_cut_that_was_interrupted_is_cut_again() {
    hunt(Plan { seed: 5023, steps: 20, bound: 64, zero_fill: true, again: 0 }).unwrap();
}

#[test]
fn one_seed_gives_one_disk() {
    let run = |seed| {
        let report = hunt(Plan { seed, steps: 15, bound: 2, zero_fill: true, again: 0 }).unwrap();
        (report.states, report.points)
    };
    assert_eq!(run(7), run(7));
}

/// Power goes at any operation, at any operation of the recovery that follows, and of the one after that.
#[test]
fn a_recovery_that_is_crashed_twice_in_a_row_recovers() {
    let mut report = Report::default();
    for seed in 200..202 {
        let zero_fill = seed % 2 == 0;
        report.add(hunt(Plan { seed, steps: 30, bound: 6, zero_fill, again: 300 }).unwrap());
    }
    println!("{report:?}");
    assert!(report.recoveries > 4_000, "{report:?}");
}

/// The hunt found here that the second of two recoveries, crashed while it removed purged files beside cut ones, left a log that looked damaged.
#[test]
fn a_recovery_that_was_crashed_while_files_went_is_repeated() {
    hunt(Plan { seed: 20_029, steps: 10, bound: 64, zero_fill: true, again: 5000 }).unwrap();
}
