//! The revision store's hot paths, and what a key and a version cost in memory.
//!
//! `cargo bench -p ketch-benches --bench mvcc`; `KETCH_KEYS` (default 100,000) says how many keys.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ketch_mvcc::{Applied, KeyRange, Options, Progress, Query, Store, WatchRequest};
use ketch_wal::RealDisk;

/// The system's allocator, counting the bytes asked for.
struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VALUE: [u8; 256] = [7; 256];

struct Bench {
    store: Store,
    index: u64,
    _dir: tempfile::TempDir,
}

fn key(i: u64) -> [u8; 32] {
    let mut key = *b"/registry/pods/default/000000000";
    key[23..].copy_from_slice(format!("{i:09}").as_bytes());
    key
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        // No sync: the request path has none, and the disk's own speed is the log's bench.
        let options = Options { unsafe_no_sync: true, ..Options::default() };
        let store = Store::open(Arc::new(RealDisk), dir.path(), options).expect("a store");
        Bench { store, index: 0, _dir: dir }
    }

    fn put(&mut self, i: u64) {
        self.store.txn().put(&key(i), &VALUE, 0).expect("a put");
    }

    fn commit(&mut self) {
        self.index += 1;
        self.store.commit(Applied { index: self.index, term: 1 }).expect("a commit");
        self.store.step(64).expect("a step");
    }

    fn load(&mut self, keys: u64) {
        // In an order that is neither that of the keys nor random.
        for i in 0..keys {
            self.put(i.wrapping_mul(7919) % keys);
            if i % 64 == 63 {
                self.commit();
            }
        }
        self.commit();
    }
}

fn keys() -> u64 {
    let small = std::env::args().any(|arg| arg == "--test");
    let wanted = std::env::var("KETCH_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(100_000);
    if small { 1_000 } else { wanted }
}

fn memory(keys: u64) {
    let start = LIVE.load(Ordering::Relaxed);
    let mut bench = Bench::new();
    bench.put(0);
    bench.commit();
    let empty = LIVE.load(Ordering::Relaxed);
    bench.load(keys);
    let loaded = LIVE.load(Ordering::Relaxed);
    let rounds = 4;
    (0..rounds).for_each(|_| bench.load(keys));
    let overwritten = LIVE.load(Ordering::Relaxed);
    println!(
        "memory: {} B empty, {:.1} B per key beyond its 32 B, {:.1} B per further version",
        empty - start,
        (loaded - empty) as f64 / keys as f64 - 32.0,
        (overwritten - loaded) as f64 / (keys * rounds) as f64,
    );
}

fn benches(c: &mut Criterion) {
    let keys = keys();
    memory(keys);
    let mut bench = Bench::new();
    bench.load(keys);
    let mut next = 0u64;

    let mut group = c.benchmark_group("mvcc");
    group.sample_size(20);
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 puts of 256 B in random order, one commit", |b| {
        b.iter(|| {
            for _ in 0..64 {
                next = next.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                bench.put((next >> 33) % keys);
            }
            bench.commit();
        });
    });
    group.bench_function("64 puts of 256 B to one key, one commit", |b| {
        b.iter(|| {
            (0..64).for_each(|_| bench.put(0));
            bench.commit();
        });
    });
    group.throughput(Throughput::Elements(1));

    let old = bench.store.revision();
    let first = Query { limit: 500, ..Query::new(KeyRange::all()) };
    let reader = bench.store.reader();
    reader.view().range(&first).expect("a page");
    for i in 0..10_000 {
        bench.put(i * 31 % keys);
        if i % 64 == 63 {
            bench.commit();
        }
    }
    bench.commit();
    let view = reader.view();
    group.bench_function("take a view", |b| b.iter(|| black_box(reader.view())));
    group.bench_function("get", |b| {
        b.iter(|| {
            next = next.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            black_box(view.get(&key((next >> 33) % keys)).expect("a get"))
        });
    });
    let from = |i: u64| KeyRange::from_wire(Bytes::copy_from_slice(&key(i)), Bytes::from_static(&[0]));
    group.bench_function("count of half of the keys", |b| {
        b.iter(|| view.count(&from(keys / 2), 0).expect("a count"));
    });
    let page = |revision| Query { revision, limit: 500, ..Query::new(from(keys / 2)) };
    group.bench_function("page of 500 with count", |b| b.iter(|| view.range(&page(0)).expect("a page")));
    group.bench_function("the same, 10,000 revisions behind, of an open list", |b| {
        b.iter(|| view.range(&page(old)).expect("a page"));
    });
    group.finish();
    watches(c, &mut bench, keys);
}

fn watches(c: &mut Criterion, bench: &mut Bench, keys: u64) {
    let mut group = c.benchmark_group("watch");
    group.sample_size(10);
    let hub = bench.store.hub();
    let stream = hub.stream(Arc::new(|| {}));
    let before = LIVE.load(Ordering::Relaxed);
    for i in 0..keys {
        let range = KeyRange::Single(Bytes::copy_from_slice(&key(i)));
        stream.watch(i as i64, WatchRequest::new(range));
    }
    println!("memory: {} B per idle watcher", (LIVE.load(Ordering::Relaxed) - before) / keys as i64);
    let mut i = 0;
    group.bench_function("put, commit and hand on among as many idle watchers as keys", |b| {
        b.iter(|| {
            i += 1;
            bench.put(i * 7919 % keys);
            bench.commit();
            while hub.step(100).expect("a step") == Progress::More {}
            black_box(stream.take(10))
        });
    });
    drop(stream);
    let start = (bench.store.revision() - 100_000.min(keys as i64)).max(2);
    for watchers in [1u64, 10_000.min(keys)] {
        group.bench_function(format!("{watchers} watchers, 100,000 revisions behind, become current"), |b| {
            b.iter_batched(
                || {
                    let stream = hub.stream(Arc::new(|| {}));
                    for i in 0..watchers {
                        let range = KeyRange::Single(Bytes::copy_from_slice(&key(i)));
                        let request = WatchRequest { start_revision: start, ..WatchRequest::new(range) };
                        stream.watch(i as i64, request);
                    }
                    stream
                },
                |stream| {
                    while hub.step(1000).expect("a step") == Progress::More {
                        while stream.take(1000).is_some() {}
                    }
                    stream
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
