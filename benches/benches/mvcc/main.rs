//! The revision store beside redb, fjall and LMDB doing the same work, in one run; then what only it promises.
//!
//! `cargo bench -p ketch-benches --bench mvcc --features stores`; method and a recorded run in `benches/README.md`.
//! `KETCH_KEYS` (default 1,000,000) says how many keys there are, `KETCH_CASES` which parts are run, a list of `memory`, `ketch`,
//! `redb`, `fjall`, `lmdb`, `revisions`, `histories`, `opening`, `space`, `watching` and
//! `stalls` (default all); or `quick` alone, which takes half a minute.

mod engine;
#[cfg(feature = "stores")]
mod peers;
mod promises;
mod quick;
mod space;
mod stalls;
mod watching;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::Criterion;
use engine::{BATCH, Engine, Ketch, key, load};
use ketch_mvcc::{KeyRange, Query};

/// Whether this is only to see that everything still runs.
fn is_test() -> bool {
    !std::env::args().any(|arg| arg == "--bench")
}

fn keys() -> u64 {
    let wanted = std::env::var("KETCH_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(1_000_000);
    if is_test() { 2_000 } else { wanted }
}

/// Whether a part is to be run.
fn wanted(case: &str) -> bool {
    std::env::var("KETCH_CASES").map_or(true, |cases| cases.split(',').any(|wanted| wanted == case))
}

/// Numbers that jump about, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// The keys of one batch.
fn batch(random: &mut Random, keys: u64) -> impl Iterator<Item = u64> + use<> {
    (0..BATCH).map(|_| random.below(keys)).collect::<Vec<_>>().into_iter()
}

/// The work that every engine does.
fn compare<E: Engine>(c: &mut Criterion, keys: u64) {
    let mut random = Random(1);
    for in_order in [true, false] {
        let mut engine = E::open();
        load(&mut engine, keys, in_order);
        let mut group = c.benchmark_group(if in_order { "in order" } else { "random order" });
        let mut out = Vec::with_capacity(1 << 18);
        group.bench_function(format!("page of 500/{}", E::NAME), |b| {
            b.iter(|| {
                out.clear();
                black_box(engine.page(random.below(keys - 500), 500, &mut out))
            });
        });
        if !in_order {
            group.bench_function(format!("get/{}", E::NAME), |b| {
                b.iter(|| black_box(engine.get(random.below(keys))));
            });
            group.bench_function(format!("64 puts/{}", E::NAME), |b| {
                b.iter(|| {
                    engine.put(batch(&mut random, keys));
                    engine.beside();
                });
            });
            group.bench_function(format!("64 puts applied/{}", E::NAME), |b| {
                b.iter_custom(|rounds| {
                    let mut took = Duration::ZERO;
                    for _ in 0..rounds {
                        let puts = batch(&mut random, keys);
                        let start = Instant::now();
                        engine.put(puts);
                        took += start.elapsed();
                        engine.beside();
                    }
                    took
                });
            });
        }
        group.finish();
    }
}

/// What only a revision store has: counts, old pages, one key overwritten for ever.
fn revisions(c: &mut Criterion, keys: u64) {
    let mut ketch = Ketch::open();
    load(&mut ketch, keys, false);
    let reader = ketch.store.reader();
    let from = |i: u64| KeyRange::from_wire(Bytes::copy_from_slice(&key(i)), Bytes::from_static(&[0]));
    let page = |revision| Query { revision, limit: 500, ..Query::new(from(keys / 2)) };
    let old = ketch.store.revision();
    reader.view().range(&page(0)).expect("a page");
    load(&mut ketch, 10_000.min(keys), false);
    ketch.settle();
    let view = reader.view();
    let mut group = c.benchmark_group("revisions");
    group.bench_function("count of half of the keys", |b| b.iter(|| view.count(&from(keys / 2), 0)));
    group.bench_function("page with count", |b| b.iter(|| view.range(&page(0)).expect("a page")));
    group.bench_function("page with count, 10,000 revisions behind", |b| {
        b.iter(|| view.range(&page(old)).expect("a page"));
    });
    group.bench_function("64 puts to one key", |b| {
        b.iter(|| {
            ketch.put((0..BATCH).map(|_| 7));
            ketch.beside();
        });
    });
    group.finish();
}

/// Nanoseconds of a bench that has run; `None` when it was filtered out.
fn median(group: &str, name: &str) -> Option<f64> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/criterion");
    let clean = |text: &str| text.replace('/', "_").replace([' ', ','], " ");
    let found = std::fs::read_dir(target.join(clean(group))).ok()?.flatten().find_map(|entry| {
        let direct = entry.path().join("new");
        let text = std::fs::read_to_string(direct.join("benchmark.json")).ok()?;
        let about: serde_json::Value = serde_json::from_str(&text).ok()?;
        (about["function_id"] == name).then_some(direct)
    })?;
    let text = std::fs::read_to_string(found.join("estimates.json")).ok()?;
    serde_json::from_str::<serde_json::Value>(&text).ok()?["median"]["point_estimate"].as_f64()
}

/// The comparison as a table for the README.
fn print_table() {
    let rows = [
        ("random put of 256 B, batches of 64, each", "random order", "64 puts applied", BATCH as f64),
        ("the same with all background work on the same thread", "random order", "64 puts", BATCH as f64),
        ("get of the newest version", "random order", "get", 1.0),
        ("page of 500, loaded in key order", "in order", "page of 500", 1.0),
        ("page of 500, loaded in random order", "random order", "page of 500", 1.0),
    ];
    println!("\n| µs | ketch-mvcc | redb | fjall | LMDB (heed) |\n| --- | ---: | ---: | ---: | ---: |");
    for (title, group, name, per) in rows {
        let cell = |engine: &str| {
            median(group, &format!("{name}/{engine}"))
                .map_or("–".into(), |ns| format!("{:.2}", ns / per / 1e3))
        };
        let cells = ["ketch-mvcc", "redb", "fjall", "LMDB (heed)"].map(cell).join(" | ");
        println!("| {title} | {cells} |");
    }
    println!("\n| ketch-mvcc alone | |\n| --- | ---: |");
    for name in ["count of half of the keys", "page with count", "page with count, 10,000 revisions behind"] {
        let cell = median("revisions", name).map_or("–".into(), |ns| format!("{:.2} µs", ns / 1e3));
        println!("| {name} | {cell} |");
    }
    let one = median("revisions", "64 puts to one key").map_or(0.0, |ns| ns / BATCH as f64 / 1e3);
    println!("| put to one single key, batches of 64, each | {one:.2} µs |");
}

fn main() {
    let keys = keys();
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    if std::env::var("KETCH_CASES").is_ok_and(|cases| cases == "quick") {
        return quick::report(keys);
    }
    // First, while the process has no other memory.
    let memory = if wanted("memory") { promises::memory(keys) } else { Vec::new() };
    let mut work = |case: &str, work: &mut dyn FnMut(&mut Criterion)| {
        if wanted(case) {
            work(&mut c);
        }
    };
    work("ketch", &mut |c| compare::<Ketch>(c, keys));
    #[cfg(feature = "stores")]
    {
        work("redb", &mut |c| compare::<peers::Redb>(c, keys));
        work("fjall", &mut |c| compare::<peers::Fjall>(c, keys));
        work("lmdb", &mut |c| compare::<peers::Lmdb>(c, keys));
    }
    work("revisions", &mut |c| revisions(c, keys));
    print_table();
    memory.iter().for_each(|line| println!("{line}"));
    work("histories", &mut |_| promises::histories(keys));
    work("opening", &mut |_| promises::opening(keys));
    work("space", &mut |_| space::report(keys));
    work("watching", &mut |_| watching::report(keys.min(100_000)));
    work("stalls", &mut |_| stalls::report(keys));
    c.final_summary();
}
