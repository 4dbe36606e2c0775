//! What must hold of simulated clusters with every change; long campaigns are `ketch-sim`.

use super::*;

/// A world that is rough for so many election timeouts only.
fn short(scenario: &str, seed: u64) -> Options {
    let options = Options::of(scenario, seed).unwrap();
    let chaos_us = options.tick_us * 10 * 12;
    options.for_us(chaos_us)
}

#[test]
fn one_seed_twice_gives_identical_bytes() {
    for scenario in ["mixed", "replace", "snapshot"] {
        let (first, second) = (play(&short(scenario, 7), true), play(&short(scenario, 7), true));
        assert!(first.1.len() > 10_000);
        assert!(first == second, "{scenario}");
        assert_ne!(first.0.unwrap().digest, run(&short(scenario, 8)).unwrap().digest);
    }
}

/// Runs `seeds` of all scenarios in turn; the deaths of leaders have a test of their own.
fn campaign(seeds: std::ops::Range<u64>) -> Stats {
    let scenarios: Vec<&str> =
        SCENARIOS.iter().map(|(name, _)| *name).filter(|name| *name != "failover").collect();
    total_of(seeds.map(|seed| short(scenarios[seed as usize % scenarios.len()], seed)))
}

/// What all of these runs have done together; none may fail.
fn total_of(runs: impl Iterator<Item = Options>) -> Stats {
    let mut total = Stats::default();
    for options in runs {
        total.add(&run(&options).unwrap_or_else(|failure| panic!("{failure}")).stats);
    }
    total
}

#[test]
fn clusters_keep_their_promises() {
    let total = campaign(0..144);
    // Silence is not coverage.
    let Stats { crashes, kills, partitions, pauses, full_disks, stuck_disks, fail_stops, .. } = total;
    let Stats { snapshots_installed, members_added, members_removed, promotions, replacements, .. } = total;
    let Stats { fetches, purges, reads, reads_behind, watched, watches_resumed, histories_checked, .. } =
        total;
    let each = [crashes, kills, partitions, pauses, full_disks, stuck_disks, fail_stops];
    assert!(each.iter().all(|&count| count > 3), "{total}");
    let each =
        [snapshots_installed, members_added, members_removed, promotions, replacements, fetches, purges];
    assert!(each.iter().all(|&count| count > 3), "{total}");
    let each = [reads, reads_behind, watched, watches_resumed, histories_checked];
    assert!(each.iter().all(|&count| count > 100), "{total}");
}

#[test]
fn clusters_keep_their_promises_again() {
    campaign(144..264);
}

/// What one member began to send is of use when another one goes on.
#[test]
fn snapshots_go_on_from_another_member() {
    let total = total_of((0..40).map(|seed| Options::of("relay", seed).unwrap()));
    assert!(total.snapshots_gone_on > 5 && total.snapshots_installed > 20, "{total}");
}

/// Of leaders who die while the others are well, at least 95 in 100 are followed within two election timeouts.
#[test]
fn a_dead_leader_is_followed_within_two_election_timeouts() {
    let total = total_of((0..60).map(|seed| Options::of("failover", seed).unwrap()));
    let Stats { leaders_lost, followed_within_two_timeouts, .. } = total;
    assert!(leaders_lost > 200, "{total}");
    assert!(followed_within_two_timeouts * 100 >= leaders_lost * 95, "{total}");
}

#[test]
fn every_planted_bug_is_found() {
    for (bug, scenario) in Bug::ALL {
        let found = first_seed(bug, scenario, 400);
        assert!(found.is_some(), "{bug:?} is not found in {scenario}");
    }
}
