//! What compaction costs and what it leaves: bytes written to files for each byte of versions, and the files' size beside what
//! is alive in them.

use super::engine::{BATCH, Engine, Ketch, load};
use super::{Random, is_test};

/// Bytes this process has handed to the system to write, ever.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find(|line| line.starts_with("wchar"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Overwrites for ever, compacting as a cluster's manager does: at each `every` revisions, to where the last time was.
fn steady(keys: u64, name: &str, next: impl Fn(&mut Random) -> u64) {
    let mut ketch = Ketch::open();
    load(&mut ketch, keys, false);
    ketch.settle();
    let mut random = Random(3);
    let (rounds, every) = if is_test() { (3, 500) } else { (60, keys / 4) };
    let (before, mut appended, mut largest) = (written(), 0, 0.0f64);
    for _ in 0..rounds {
        let point = ketch.store.revision();
        for _ in 0..every.div_ceil(BATCH) {
            let batch: Vec<u64> = (0..BATCH).map(|_| next(&mut random)).collect();
            ketch.put(batch.into_iter());
            ketch.beside();
        }
        let sizes = ketch.store.sizes();
        largest = largest.max(sizes.physical_bytes as f64 / sizes.logical_bytes as f64);
        appended += every.div_ceil(BATCH) * BATCH;
        ketch.store.compact(point).expect("a compaction");
        ketch.commit();
        ketch.settle();
    }
    let sizes = ketch.store.sizes();
    // What a version of the bench is in the log, all in all: nothing else is written when nothing is compacted.
    let bytes = (written() - before) as f64 / appended as f64;
    let left = sizes.physical_bytes as f64 / sizes.logical_bytes as f64;
    println!(
        "| {name}: written for each put of 32 B + 256 B; files beside logical bytes: at most, after the last compaction | {bytes:.0} B; {largest:.2} ×, {left:.2} × |"
    );
}

/// All of it.
pub(crate) fn report(keys: u64) {
    let keys = (keys / 4).max(1000);
    let mut ketch = Ketch::open();
    let before = written();
    load(&mut ketch, keys, false);
    let bytes = (written() - before) as f64 / keys as f64;
    println!("| {keys} new keys, nothing compacted: written for each put of 32 B + 256 B | {bytes:.0} B |");
    steady(keys, "overwritten evenly", |random| random.below(keys));
    steady(keys, "nine of ten overwrites to a tenth of the keys", |random| {
        if random.below(10) == 0 { random.below(keys) } else { random.below(keys / 10) }
    });
    let all = ketch.store.txn().delete_range(&ketch_mvcc::KeyRange::all()).expect("a deletion").len();
    ketch.commit();
    let full = ketch.store.sizes().physical_bytes;
    let revision = ketch.store.revision();
    ketch.store.compact(revision).expect("a compaction");
    for _ in 0..4 {
        ketch.commit();
        ketch.settle();
        ketch.background.sync().expect("a sync");
    }
    let left = ketch.store.sizes().physical_bytes;
    println!(
        "| {all} keys deleted and compacted: size of the files before, after | {:.1} MB, {:.1} MB |",
        full as f64 / 1e6,
        left as f64 / 1e6
    );
}
