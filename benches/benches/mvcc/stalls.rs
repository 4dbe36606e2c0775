//! The latency of a put while something large goes on beside it, on another thread of the same process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ketch_mvcc::{Cursor, KeyRange, Progress, WatchRequest};

use super::engine::{Engine, Ketch, load};
use super::{Random, is_test};

/// Puts one at a time with a little pause between, as a server's applier would see them; the 99th percentile in µs.
fn p99(ketch: &mut Ketch, keys: u64, random: &mut Random, goes_on: &dyn Fn() -> bool) -> f64 {
    let (mut took, begin) = (Vec::new(), Instant::now());
    let least = if is_test() { 10 } else { 3000 };
    while (took.len() < least || goes_on()) && begin.elapsed() < Duration::from_secs(8) {
        let start = Instant::now();
        ketch.store.txn().put(&super::key(random.below(keys)), &super::engine::VALUE, 0).expect("a put");
        ketch.commit();
        took.push(start.elapsed().as_secs_f64() * 1e6);
        std::thread::sleep(Duration::from_micros(50));
    }
    took.sort_by(f64::total_cmp);
    took[took.len() * 99 / 100]
}

/// Measures idle and busy in turn, several times, and prints the medians' ratio.
fn beside(ketch: &mut Ketch, keys: u64, name: &str, work: &(dyn Fn(&AtomicBool) + Sync)) {
    let mut random = Random(9);
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..if is_test() { 1 } else { 3 } {
        idle.push(p99(ketch, keys, &mut random, &|| false));
        let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
        busy.push(std::thread::scope(|scope| {
            scope.spawn(|| {
                work(&stop);
                done.store(true, Ordering::Release);
            });
            let p99 = p99(ketch, keys, &mut random, &|| !done.load(Ordering::Acquire));
            stop.store(true, Ordering::Release);
            p99
        }));
    }
    idle.sort_by(f64::total_cmp);
    busy.sort_by(f64::total_cmp);
    let (idle, busy) = (idle[idle.len() / 2], busy[busy.len() / 2]);
    println!("| put p99: idle, during {name} | {idle:.0} µs, {busy:.0} µs ({:.2} ×) |", busy / idle);
}

/// All of them, on one store.
pub(crate) fn report(keys: u64) {
    let mut ketch = Ketch::open();
    load(&mut ketch, keys, false);
    load(&mut ketch, keys, false);
    let (reader, background, hub) = (ketch.store.reader(), ketch.store.background(), ketch.store.hub());
    let running = |stop: &AtomicBool| !stop.load(Ordering::Acquire);
    beside(&mut ketch, keys, "a full list", &|_| {
        let all = reader.view().iter(KeyRange::all(), 0).expect("an iterator");
        assert!(all.map(|kv| kv.expect("a key-value").as_wire().len()).sum::<usize>() > 0);
    });
    beside(&mut ketch, keys, "a snapshot export", &|stop| {
        let mut export = reader.view().export(Cursor::START);
        while running(stop) && export.next_chunk(1 << 20).expect("a chunk").is_some() {}
    });
    beside(&mut ketch, keys, "a checkpoint", &|_| background.checkpoint().expect("a checkpoint"));
    beside(&mut ketch, keys, "write-back and syncs", &|stop| {
        for _ in 0..20 {
            if running(stop) {
                background.sync().expect("a sync");
            }
        }
    });
    beside(&mut ketch, keys, "a watcher that comes from half of the revisions behind", &|stop| {
        let stream = hub.stream(Arc::new(|| {}));
        let start_revision = reader.revision() - keys as i64 / 2;
        stream.watch(1, WatchRequest { start_revision, ..WatchRequest::new(KeyRange::all()) });
        while running(stop) && hub.step(500).expect("a step") == Progress::More {
            while stream.take(1000).is_some() {}
        }
    });
    let revision = ketch.store.revision() - keys as i64 / 2;
    ketch.store.compact(revision).expect("a compaction");
    ketch.commit();
    beside(&mut ketch, keys, "a compaction of as many revisions as keys", &|stop| {
        while running(stop) && background.step(1000).expect("a step") == Progress::More {}
    });
}
