//! What watchers cost: idle ones in memory and at each put, late ones beside one scan of the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ketch_mvcc::{KeyRange, Progress, WatchHub, WatchRequest, WatchStream};

use super::engine::{Engine, Ketch, key, load};
use super::promises::live;

fn watchers(hub: &WatchHub, count: u64, start_revision: i64) -> WatchStream {
    let stream = hub.stream(Arc::new(|| {}));
    for i in 0..count {
        let range = KeyRange::Single(Bytes::copy_from_slice(&key(i)));
        stream.watch(i as i64, WatchRequest { start_revision, ..WatchRequest::new(range) });
    }
    stream
}

/// Hands everything on; how many events arrived.
fn settle(hub: &WatchHub, stream: &WatchStream) -> usize {
    let mut events = 0;
    loop {
        let more = hub.step(1000).expect("a step") == Progress::More;
        while let Some(batch) = stream.take(1000) {
            events += batch.events.len();
        }
        if !more {
            return events;
        }
    }
}

/// Many watchers of one prefix, each on a stream of its own: microseconds for each event that one of them is handed.
fn fan_out(ketch: &mut Ketch) -> f64 {
    const WATCHERS: usize = 1000;
    const ROUNDS: u64 = 50;
    let hub = ketch.store.hub();
    let streams: Vec<WatchStream> = (0..WATCHERS)
        .map(|id| {
            let stream = hub.stream(Arc::new(|| {}));
            stream.watch(id as i64, WatchRequest::new(KeyRange::prefix(&b"/registry/"[..])));
            stream
        })
        .collect();
    let mut took = Duration::ZERO;
    let mut events = 0;
    for round in 0..ROUNDS {
        ketch.put((round * 10)..(round * 10 + 10));
        let start = Instant::now();
        while hub.step(1000).expect("a step") == Progress::More {}
        for stream in &streams {
            while let Some(batch) = stream.take(1000) {
                events += batch.events.len();
            }
        }
        took += start.elapsed();
    }
    assert_eq!(events as u64, ROUNDS * 10 * WATCHERS as u64);
    took.as_secs_f64() * 1e6 / events as f64
}

/// `keys` keys, as many idle watchers; then 10,000 late ones.
pub(crate) fn report(keys: u64) {
    let mut ketch = Ketch::open();
    load(&mut ketch, keys, false);
    let hub = ketch.store.hub();
    let before = live();
    let stream = watchers(&hub, keys, 0);
    println!("| memory per idle watcher of one 32 B key | {} B |", (live() - before) / keys as i64);
    let rounds = 10_000.min(keys);
    let mut took = Duration::ZERO;
    for i in 0..rounds {
        ketch.put([i * 7919 % keys].into_iter());
        ketch.beside();
        let start = Instant::now();
        let events = settle(&hub, &stream);
        took += start.elapsed();
        assert_eq!(events, 1, "each put is somebody's event");
    }
    let each = took.as_secs_f64() * 1e6 / rounds as f64;
    println!("| handing on one put among {keys} idle watchers | {each:.2} µs |");
    drop(stream);
    println!("| an event handed to each of 1000 watchers of one prefix | {:.3} µs |", fan_out(&mut ketch));
    let behind = 100_000.min(keys as i64);
    let start_revision = ketch.store.revision() - behind;
    let time = |count: u64| {
        let best = (0..5).map(|_| {
            let stream = watchers(&hub, count, start_revision);
            let start = Instant::now();
            settle(&hub, &stream);
            start.elapsed()
        });
        best.min().unwrap_or_default().as_secs_f64() * 1e3
    };
    let (one, many) = (time(1), time(10_000.min(keys)));
    println!("| one watcher {behind} revisions behind becomes current: one scan | {one:.0} ms |");
    println!(
        "| 10,000 watchers on distinct keys, as far behind: together | {many:.0} ms ({:.2} ×) |",
        many / one
    );
}
