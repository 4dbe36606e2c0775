//! Whatever can go wrong, drawn from the seed, while clients work: and then everything is checked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::programs;
use crate::harness::random::{Random, number_from_env};
use crate::members::{Cluster, put};
use crate::net::Mode;
use crate::run::{Run, runtime};

/// Rounds in the test suite. After each everything is healed and checked.
const ROUNDS: u64 = 2;
/// Faults of a round.
const FAULTS: usize = 6;
/// Fast elections, and few entries kept: those who are away for long get a snapshot.
const FLAGS: &[&str] = &[
    "--heartbeat-interval=50",
    "--election-timeout=500",
    "--snapshot-count=200",
    "--snapshot-catchup-entries=100",
    "--log-level=info",
];

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    KillLeader,
    KillAll,
    Pause,
    PauseLeader,
    Terminate,
    TerminateLeader,
    IsolateLeader,
    IsolateOne,
    SilenceLeader,
    OneWay,
    Slow,
    Replace,
    LearnerComesAndGoes,
}

const ALL: [Fault; 14] = [
    Fault::KillLeader,
    Fault::IsolateLeader,
    Fault::PauseLeader,
    Fault::Kill,
    Fault::OneWay,
    Fault::TerminateLeader,
    Fault::Replace,
    Fault::SilenceLeader,
    Fault::Pause,
    Fault::KillAll,
    Fault::LearnerComesAndGoes,
    Fault::IsolateOne,
    Fault::Slow,
    Fault::Terminate,
];

/// What was done in a whole run.
#[derive(Debug, Default)]
struct Story {
    faults: BTreeMap<Fault, u64>,
    /// Milliseconds from a leader's death to the next put that works.
    gaps: Vec<u128>,
    /// Milliseconds from SIGTERM to the end.
    exits: Vec<u128>,
}

#[test]
fn three_members_lose_nothing() {
    let seed = number_from_env("KETCH_SEED", 1);
    let seconds = number_from_env("KETCH_CLUSTER_SECONDS", 0);
    println!("KETCH_SEED={seed} KETCH_CLUSTER_SECONDS={seconds}");
    let end = Instant::now() + Duration::from_secs(seconds);
    runtime().block_on(async {
        let cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, FLAGS));
        let mut run = Run::new(cluster, seed);
        let mut story = Story::default();
        // Each fault comes before any comes a second time.
        let mut deck = Vec::new();
        let mut round = 0;
        while round < ROUNDS || Instant::now() < end {
            run.load();
            for _ in 0..FAULTS {
                if deck.is_empty() {
                    deck = shuffled(&mut run.random, round == 0);
                }
                let fault = deck.pop().unwrap();
                *story.faults.entry(fault).or_default() += 1;
                strike(&mut run, fault, &mut story).await;
                // Some faults meet the ones before.
                if !run.random.one_in(3) {
                    tokio::task::block_in_place(|| run.cluster.heal());
                    run.go_on(200, Duration::from_secs(10)).await;
                }
            }
            run.settle().await;
            round += 1;
            println!("round {round}: {:?}", run.counts);
        }
        println!("faults {:?}", story.faults);
        for (what, times) in
            [("leader's death to the next put", &mut story.gaps), ("SIGTERM to the end", &mut story.exits)]
        {
            times.sort_unstable();
            println!(
                "{what}: {} times, median {:?} ms, longest {:?} ms",
                times.len(),
                times.get(times.len() / 2),
                times.last()
            );
        }
        assert!(run.counts.acknowledged > 500 && run.counts.resumed > 0, "{:?}", run.counts);
        drop(run.end());
    });
}

/// All faults; the first time in their order, so that a short run has the worst.
fn shuffled(random: &mut Random, first: bool) -> Vec<Fault> {
    let mut deck = ALL.to_vec();
    if first {
        deck.reverse();
        return deck;
    }
    for at in (1..deck.len()).rev() {
        deck.swap(at, usize::try_from(random.next() % (at as u64 + 1)).unwrap());
    }
    deck
}

/// How long a fault lasts: no test waits for this, it is what is drawn.
async fn last(run: &mut Run, longest: i64) {
    let millis = run.random.between(100, longest).unsigned_abs();
    run.go_on(u64::MAX, Duration::from_millis(millis)).await;
}

/// Any member that runs.
fn any(run: &mut Run) -> usize {
    let up: Vec<usize> =
        (0..run.cluster.members.len()).filter(|&at| run.cluster.members[at].is_up()).collect();
    run.random.pick(&up)
}

/// The leader; where a fault before this one leaves none, there is one after healing.
async fn leader(run: &mut Run) -> usize {
    let members = &run.cluster.members;
    if members.iter().any(|member| !member.is_up()) {
        tokio::task::block_in_place(|| run.cluster.heal());
    } else {
        run.cluster.net.heal();
    }
    run.cluster.leader().await
}

async fn strike(run: &mut Run, fault: Fault, story: &mut Story) {
    match fault {
        Fault::Kill => {
            let at = any(run);
            run.cluster.members[at].kill();
            last(run, 1500).await;
        }
        Fault::KillLeader => {
            let at = leader(run).await;
            run.cluster.members[at].kill();
            story.gaps.push(until_a_put(run, at).await);
            last(run, 500).await;
        }
        Fault::KillAll => {
            for member in run.cluster.members.iter_mut().filter(|member| member.process.is_some()) {
                member.kill();
            }
            tokio::task::block_in_place(|| run.cluster.heal());
        }
        Fault::Pause | Fault::PauseLeader => {
            let at = if fault == Fault::Pause { any(run) } else { leader(run).await };
            run.cluster.members[at].pause();
            last(run, 3000).await;
            run.cluster.members[at].resume();
        }
        Fault::Terminate | Fault::TerminateLeader => {
            let at = if fault == Fault::Terminate { any(run) } else { leader(run).await };
            let (took, _) = tokio::task::block_in_place(|| run.cluster.members[at].terminate());
            story.exits.push(took.as_millis());
            last(run, 500).await;
        }
        Fault::IsolateLeader | Fault::SilenceLeader => {
            let at = leader(run).await;
            let mode = if fault == Fault::IsolateLeader { Mode::Cut } else { Mode::Silent };
            run.cluster.isolate(at, mode);
            last(run, 3000).await;
        }
        Fault::IsolateOne => {
            let at = any(run);
            run.cluster.isolate(at, Mode::Cut);
            last(run, 3000).await;
        }
        Fault::OneWay | Fault::Slow => {
            let (from, to) = (any(run), any(run));
            let slow = Mode::Slow(Duration::from_millis(run.random.between(1, 120).unsigned_abs()));
            let mode = if fault == Fault::OneWay { Mode::Cut } else { slow };
            let [from, to] = [from, to].map(|at| run.cluster.members[at].front);
            run.cluster.net.set(from, to, mode);
            last(run, 2500).await;
        }
        Fault::Replace => {
            let via = leader(run).await;
            let at = (via + 1) % run.cluster.members.len();
            replace(run, at, via).await;
        }
        Fault::LearnerComesAndGoes => {
            let via = leader(run).await;
            let at = run.cluster.add(via, true).await;
            let id = run.cluster.id(at).await;
            run.go_on(50, Duration::from_secs(5)).await;
            if run.random.one_in(2) {
                run.cluster.promote(via, id).await;
            }
            run.cluster.remove(via, id).await;
            let mut gone = run.cluster.members.remove(at);
            tokio::task::block_in_place(|| gone.process.as_mut().unwrap().wait());
        }
    }
}

/// A member's machine is lost with its disk; another one takes its place.
pub(crate) async fn replace(run: &mut Run, at: usize, via: usize) {
    let id = run.cluster.id(at).await;
    run.cluster.members[at].kill();
    std::fs::remove_dir_all(&run.cluster.members[at].data).unwrap();
    run.cluster.remove(via, id).await;
    run.cluster.members.remove(at);
    let via = if via > at { via - 1 } else { via };
    run.cluster.add(via, false).await;
    run.aim();
}

/// How long until some member other than `dead` takes a put.
async fn until_a_put(run: &Run, dead: usize) -> u128 {
    let start = Instant::now();
    for at in (0..run.cluster.members.len()).cycle().filter(|at| *at != dead) {
        let told = put(run.cluster.members[at].channel(), "x/after", "a death");
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(500), told).await {
            break;
        }
        assert!(start.elapsed() < crate::members::PATIENCE, "no put works any more");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    start.elapsed().as_millis()
}
