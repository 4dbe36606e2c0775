//! Every planted bug is found by the simulator, and nothing is found where none is planted.

use ketch_raft::planted::Bug;
use ketch_raft::sim::{Journal, Options, Simulation};

/// The worlds in which a bug is looked for; the more, the longer a missing find takes to be noticed.
const SEEDS: u64 = 400;

fn hunt(bug: Bug, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| {
        let mut options = Options::from_seed(seed);
        options.config.planted = Some(bug);
        let failure = Simulation::new(seed, options, Journal::default()).run().err()?;
        Some((seed + 1, failure.what))
    })
}

#[test]
fn the_simulator_finds_every_planted_bug() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match hunt(bug, SEEDS) {
            Some((seeds, what)) => println!("{bug:?}: {seeds} seeds; {what}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}
