//! Life after life after life.

use std::path::Path;
use std::time::Duration;

use crate::harness::process::{Instance, copy_dir};
use crate::harness::programs;
use crate::harness::random::{Random, number_from_env};

use super::check::check;
use super::history::History;
use super::life::{End, Plan, connect, live};

/// Kills in the test suite.
const KILLS: u64 = 20;

#[test]
fn acknowledged_writes_survive_kills() {
    let seed = number_from_env("KETCH_SEED", 1);
    let kills = number_from_env("KETCH_KILLS", KILLS);
    println!("KETCH_SEED={seed} KETCH_KILLS={kills}");
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("data"));
    let mut history = History::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut killed = 0;
    while killed < kills {
        killed += kill_while_starting(&server, &mut random);
        let process = server.start();
        runtime.block_on(async {
            check(&mut connect(&server).await, &mut history, &mut random).await;
            let end = if random.one_in(8) { End::Terminate } else { End::Kill };
            killed += u64::from(matches!(end, End::Kill));
            let plan = Plan { answers: random.between(1, 300).unsigned_abs(), end, compact: true };
            let (events, sights) = live(&server, process, &mut random, plan).await;
            history.record(events);
            history.sights = sights;
        });
        println!(
            "{killed} kills, {} acknowledged changes, revision {}",
            history.changes.len(),
            history.highest
        );
    }
    let _process = server.start();
    runtime.block_on(async { check(&mut connect(&server).await, &mut history, &mut random).await });
}

/// The test of the test: a member that wakes up with its data of a life ago is found out.
#[test]
fn a_lost_life_is_noticed() {
    let mut random = Random::new(1);
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("data"));
    let mut history = History::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let copy = dir.path().join("copy");
    for _ in 0..2 {
        let _ = std::fs::remove_dir_all(&copy);
        copy_dir_if_there(&server.data_dir, &copy);
        let process = server.start();
        let plan = Plan { answers: 30, end: End::Kill, compact: true };
        let (events, sights) = runtime.block_on(live(&server, process, &mut random, plan));
        history.record(events);
        history.sights = sights;
    }
    let _process = Instance { data_dir: copy, ..server.clone() }.start();
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async { check(&mut connect(&server).await, &mut history, &mut random).await });
    }));
    assert!(checked.is_err(), "nobody noticed");
}

fn copy_dir_if_there(from: &Path, to: &Path) {
    if from.exists() {
        copy_dir(from, to);
    }
}

/// Now and then the process is killed somewhere in its start, before it serves anybody.
fn kill_while_starting(server: &Instance, random: &mut Random) -> u64 {
    if !random.one_in(4) {
        return 0;
    }
    let process = server.spawn();
    // Not a wait for something to happen: the moment of the kill is what is drawn here.
    std::thread::sleep(Duration::from_micros(random.between(0, 60_000).unsigned_abs()));
    process.kill();
    1
}
