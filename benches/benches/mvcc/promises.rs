//! Memory by a counting allocator and by the system, long histories, and how long opening takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use ketch_mvcc::Store;
use ketch_wal::RealDisk;

use super::engine::{BATCH, Engine, Ketch, load};

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

/// Bytes that the program holds of the allocator.
pub(crate) fn live() -> i64 {
    LIVE.load(Ordering::Relaxed)
}

/// The process's anonymous and file-backed memory, in MiB.
fn resident() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kib.unwrap_or(0.0) / 1024.0
    };
    (field("RssAnon"), field("RssFile"))
}

/// What keys and versions cost, and what stands in memory altogether; lines of the table.
pub(crate) fn memory(keys: u64) -> Vec<String> {
    let (anonymous, _) = resident();
    let mut ketch = Ketch::open();
    ketch.put(0..1);
    let empty = live();
    // The second round overwrites: kept roots then hold what they do under steady load.
    (0..2).for_each(|_| load(&mut ketch, keys, false));
    ketch.settle();
    let loaded = live();
    let (with_keys, file) = resident();
    let rounds = 4;
    (0..rounds).for_each(|_| load(&mut ketch, keys, false));
    ketch.settle();
    let overwritten = live();
    let per_key = (loaded - empty) as f64 / keys as f64 - 32.0;
    let per_version = (overwritten - loaded) as f64 / (keys * rounds) as f64;
    vec![
        format!("| memory per key beyond its 32 B, loaded in random order | {per_key:.0} B |"),
        format!("| memory per further version | {per_version:.1} B |"),
        format!(
            "| {keys} keys × 256 B, anonymous, beyond the empty bench | {:.0} MiB |",
            with_keys - anonymous
        ),
        format!("| the same, file-backed | {file:.0} MiB |"),
    ]
}

/// Puts to one single key: the first tenth of a million beside the last.
pub(crate) fn histories(keys: u64) {
    let mut ketch = Ketch::open();
    let tenth = keys / 10;
    let mut took = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..tenth.div_ceil(BATCH) {
            ketch.put((0..BATCH).map(|_| 7));
            ketch.beside();
        }
        took.push(start.elapsed().as_secs_f64() * 1e6 / tenth as f64);
    }
    let (first, last) = (took[0], took[took.len() - 1]);
    println!(
        "| {keys} puts to one key: each of the first tenth, of the last | {first:.2} µs, {last:.2} µs |"
    );
}

/// A start: a checkpoint and a short tail, files in the page cache.
pub(crate) fn opening(keys: u64) {
    let mut ketch = Ketch::open();
    load(&mut ketch, keys, false);
    reopen(&mut ketch, &format!("opening {keys} keys × 256 B, warm"));
    // As many again on fewer keys, until there are ten times as many revisions.
    for _ in 0..90 {
        load(&mut ketch, keys / 10, false);
    }
    reopen(&mut ketch, &format!("opening {} revisions, warm", 10 * keys));
}

fn reopen(ketch: &mut Ketch, what: &str) {
    ketch.settle();
    ketch.background.sync().expect("a sync");
    ketch.background.checkpoint().expect("a checkpoint");
    load(ketch, 10_000, false);
    let (dir, revision) = (ketch.dir.path().to_owned(), ketch.store.revision());
    let other = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(RealDisk);
    let empty = Store::open(disk.clone(), other.path(), Ketch::options()).expect("a store");
    ketch.background = empty.background();
    drop(std::mem::replace(&mut ketch.store, empty));
    let start = Instant::now();
    let store = Store::open(disk, &dir, Ketch::options()).expect("a store");
    println!("| {what} | {:.2} s |", start.elapsed().as_secs_f64());
    assert_eq!(store.revision(), revision, "nothing is missing");
    ketch.background = store.background();
    ketch.store = store;
}
