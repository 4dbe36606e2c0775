//! Random requests of every RPC, one after the other, to the real etcd and to ketch; watch streams beside them.
//!
//! Several worlds, each a pair of fresh servers with a seed of its own, share the work. `KETCH_SEED` and
//! `KETCH_WIRE_REQUESTS` make it different and longer:
//! `KETCH_SEED=7 KETCH_WIRE_REQUESTS=1000000 cargo test --release -p ketch-server --test it side_by_side`

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use ketch_proto::etcdserverpb::PutRequest;
use ketch_proto::tonic::transport::Channel;

use crate::harness::random::number_from_env;

use super::generate::Generator;
use super::request::{Asker, Request};
use super::watching::{BARRIER, Watching};
use super::{Pair, runtime, served};

/// Requests of one run, watch requests among them.
const REQUESTS: u64 = 50_000;

/// Pairs of servers at work at the same time.
const WORLDS: u64 = 4;

/// Requests from one comparison of the watch streams to the next.
const BARRIER_EVERY: u64 = 40;

/// Requests from one burst of large values to the next, on average.
const LARGE_EVERY: u64 = 1500;

/// Requests from one kill of both servers to the next, on average.
const KILL_EVERY: u64 = 5000;

/// Of an answer that differs, at most so many characters are shown.
const SHOWN_MAX: usize = 4000;

/// Differences after which there is no point in going on.
const DIFFERENCES_MAX: usize = 5;

const WATCH: &str = "etcdserverpb.Watch/Watch";

/// What a world was asked.
#[derive(Debug, Default)]
struct Tally {
    by_rpc: BTreeMap<&'static str, u64>,
    refused: u64,
    watch_responses: u64,
    fragments: u64,
    kills: u64,
}

/// One pair of servers and what they are asked.
struct World {
    pair: Pair,
    seed: u64,
    askers: [Asker; 2],
    generator: Generator,
    watching: Watching,
    skipped: BTreeSet<String>,
    tally: Tally,
    differences: Vec<String>,
    /// Something was asked since the last barrier.
    stirred: bool,
}

impl World {
    async fn new(pair: Pair, seed: u64) -> World {
        let channels = pair.channels().await;
        World {
            pair,
            seed,
            askers: channels.clone().map(asker(seed)),
            generator: Generator::new(seed),
            watching: Watching::new(channels),
            skipped: served::not_compared(),
            tally: Tally::default(),
            differences: Vec::new(),
            stirred: true,
        }
    }

    async fn run(&mut self, requests: u64) {
        let mut since_barrier = 0;
        while self.asked() < requests {
            if self.differences.len() + self.watching.differences.len() >= DIFFERENCES_MAX {
                break;
            }
            since_barrier += 1;
            if since_barrier == BARRIER_EVERY {
                since_barrier = 0;
                self.barrier().await;
            } else if self.generator.random.one_in(LARGE_EVERY) {
                self.large().await;
            } else if self.generator.random.one_in(KILL_EVERY) {
                self.kill().await;
            } else if self.generator.random.one_in(8) && !self.skipped.contains(WATCH) {
                // Nothing may be on its way to a watcher that is cancelled.
                self.barrier().await;
                let Generator { random, revision, compacted, .. } = &mut self.generator;
                self.watching.act(random, *revision, *compacted).await;
                *self.tally.by_rpc.entry(WATCH).or_default() += 1;
            } else {
                let request = self.generator.request();
                if self.skipped.contains(request.rpc()) {
                    continue;
                }
                if matches!(request, Request::Compact(_)) {
                    // Previous values that are still to be read for an event must not be compacted away.
                    self.barrier().await;
                }
                self.ask(request).await;
            }
        }
        self.end_watches().await;
    }

    /// Compares what the watches have got, and ends them.
    async fn end_watches(&mut self) {
        self.barrier().await;
        let Watching { compared, fragments, differences, .. } = &mut self.watching;
        self.tally.watch_responses += std::mem::take(compared);
        self.tally.fragments += std::mem::take(fragments);
        self.differences.append(differences);
        self.watching.end();
    }

    /// Both servers are killed and start again: they go on alike.
    async fn kill(&mut self) {
        self.end_watches().await;
        self.pair.restart();
        let channels = self.pair.channels().await;
        self.askers = channels.clone().map(asker(self.seed));
        self.watching = Watching::new(channels);
        self.tally.kills += 1;
        self.stirred = true;
    }

    fn asked(&self) -> u64 {
        self.tally.by_rpc.values().sum()
    }

    /// Asks both and compares the answers.
    async fn ask(&mut self, request: Request) {
        self.stirred = true;
        let [etcd, ketch] = &mut self.askers;
        let (expected, found) = tokio::join!(etcd.ask(request.clone()), ketch.ask(request.clone()));
        self.generator.learn(&request, &expected);
        self.tally.refused += u64::from(expected.refused);
        *self.tally.by_rpc.entry(request.rpc()).or_default() += 1;
        if expected != found {
            let (etcd, ketch) = (expected.text, found.text);
            let shown = [format!("{request:?}"), etcd, ketch].map(|text| shorten(&text));
            let [request, etcd, ketch] = shown;
            self.differences.push(format!("seed {}: {request}\n etcd: {etcd}\nketch: {ketch}", self.seed));
        }
    }

    /// Large values, watched in fragments.
    async fn large(&mut self) {
        self.barrier().await;
        if !self.skipped.contains(WATCH) {
            self.watching.fragmented(self.generator.revision).await;
            *self.tally.by_rpc.entry(WATCH).or_default() += 1;
        }
        for request in self.generator.large() {
            self.ask(request).await;
        }
        self.barrier().await;
    }

    /// Waits for all events so far and compares them.
    async fn barrier(&mut self) {
        if !self.stirred || !self.watching.is_watching() {
            return;
        }
        while !self.generator.alarms.is_empty() {
            let disarm = self.generator.disarm();
            self.ask(disarm).await;
        }
        self.ask(Request::Put(PutRequest { key: BARRIER.into(), ..Default::default() })).await;
        self.watching.barrier(self.generator.revision).await;
        self.stirred = false;
    }
}

/// Every other world asks with metadata, which ketch answers on another way.
fn asker(seed: u64) -> fn(Channel) -> Asker {
    if seed.is_multiple_of(2) { Asker::new } else { Asker::with_token }
}

/// The beginning of a text that may be megabytes long.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

#[test]
fn random_requests_have_equal_answers() {
    let seed = number_from_env("KETCH_SEED", 1);
    let requests = number_from_env("KETCH_WIRE_REQUESTS", REQUESTS);
    println!("KETCH_SEED={seed} KETCH_WIRE_REQUESTS={requests}");
    let worlds: Vec<_> = (0..WORLDS)
        .map(|world| {
            thread::spawn(move || {
                let pair = Pair::start_with("random_requests_have_equal_answers", &["--unsafe-no-fsync"])?;
                Some(runtime().block_on(async {
                    let mut world = World::new(pair, seed.wrapping_mul(WORLDS).wrapping_add(world)).await;
                    world.run(requests / WORLDS).await;
                    (world.tally, world.differences)
                }))
            })
        })
        .collect();
    let results: Vec<_> = worlds.into_iter().map(|world| world.join().unwrap()).collect();
    let mut sum = Tally::default();
    let mut differences = Vec::new();
    for (tally, found) in results.into_iter().flatten() {
        tally.by_rpc.into_iter().for_each(|(rpc, count)| *sum.by_rpc.entry(rpc).or_default() += count);
        sum.refused += tally.refused;
        sum.watch_responses += tally.watch_responses;
        sum.fragments += tally.fragments;
        sum.kills += tally.kills;
        differences.extend(found);
    }
    println!("{sum:#?}");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    let asked: u64 = sum.by_rpc.values().sum();
    if asked > 0 {
        // Illegal requests are a good part, but not the most.
        assert!((asked / 20..asked / 2).contains(&sum.refused), "{sum:#?}");
    }
}
