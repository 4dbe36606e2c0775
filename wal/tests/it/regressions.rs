//! What went wrong in other logs (raft-engine, qdrant/wal, okaywal, etcd) and must not here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ketch_wal::sim::{Fault, Op};
use ketch_wal::{Batch, Options, Position, Progress, SimDisk};

use crate::basics::{drain, open, put, small, texts};

#[test]
fn a_stale_checksum_seed_after_truncate_hides_no_entries() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    let at: Vec<_> = (0..6).map(|i| put(&wal, &format!("{i}"))).collect();
    for round in 0..5 {
        wal.truncate_after(at[3]).unwrap();
        put(&wal, &format!("round {round}"));
        wal.sync().unwrap();
    }
    let seen = texts(&wal, Position::START);
    assert_eq!(seen, ["0", "1", "2", "round 4"]);
    drop(wal);
    disk.crash();
    let wal = open(&disk, small()).wal;
    assert_eq!(texts(&wal, Position::START), seen);
}

#[test]
fn truncation_at_the_end_drops_no_record() {
    let disk = SimDisk::new(2);
    let wal = open(&disk, small()).wal;
    put(&wal, "first");
    let last = put(&wal, "last");
    wal.truncate_after(wal.end()).unwrap();
    assert_eq!(texts(&wal, Position::START), ["first", "last"]);
    wal.truncate_after(last).unwrap();
    assert_eq!(texts(&wal, Position::START), ["first"]);
}

#[test]
fn a_purge_lets_no_file_go_before_it_is_durable() {
    let disk = SimDisk::new(3);
    let wal = open(&disk, Options { zero_fill: false, spare_segments: 0, ..small() }).wal;
    for _ in 0..20 {
        put(&wal, &"s".repeat(1000));
    }
    wal.sync().unwrap();
    let files = disk.paths();
    wal.purge_before(wal.end()).unwrap();
    drain(&wal);
    assert_eq!(disk.paths(), files);
    wal.sync().unwrap();
    drain(&wal);
    assert!(disk.paths().len() < files.len());
}

#[test]
fn a_segment_whose_first_entry_was_rolled_back_is_recovered() {
    let disk = SimDisk::new(4);
    let wal = open(&disk, small()).wal;
    put(&wal, "before");
    wal.seal(&mut Batch::new()).unwrap();
    let first = put(&wal, "rolled back");
    put(&wal, "this too");
    wal.truncate_after(first).unwrap();
    put(&wal, "after");
    wal.seal(&mut Batch::new()).unwrap();
    put(&wal, "next");
    wal.sync().unwrap();
    drop(wal);
    disk.crash();
    assert_eq!(texts(&open(&disk, small()).wal, Position::START), ["before", "after", "next"]);
}

#[test]
fn the_pool_never_runs_dry_while_it_is_served() {
    let disk = SimDisk::new(5);
    let wal = open(&disk, Options { spare_segments: 2, ..small() }).wal;
    drain(&wal);
    for i in 0..300 {
        let at = put(&wal, &"p".repeat(1500));
        wal.sync().unwrap();
        // As much background work as there were appends.
        for _ in 0..4 {
            wal.step(2048).unwrap();
        }
        if i % 10 == 9 {
            wal.purge_before(at).unwrap();
        }
    }
    let stats = wal.stats();
    assert_eq!(stats.spare_misses, 0, "{stats:?}");
    assert!(stats.recycled > 50, "{stats:?}");
}

#[test]
fn without_spares_appends_go_on() {
    let disk = SimDisk::new(6);
    let wal = open(&disk, small()).wal;
    for _ in 0..100 {
        put(&wal, &"p".repeat(1500));
    }
    wal.sync().unwrap();
    assert!(wal.stats().spare_misses > 30);
    assert_eq!(texts(&wal, Position::START).len(), 100);
}

#[test]
fn filling_that_fails_or_takes_long_delays_no_append() {
    let disk = SimDisk::new(7);
    let wal = Arc::new(open(&disk, small()).wal);
    for _ in 0..3 {
        disk.fail(Op::ZeroFill, 0, Fault::NoSpace);
        drain(&wal);
    }
    assert_eq!(wal.stats().spares, 0);
    // Filling hangs until as many batches were committed as two segments hold.
    let (entered, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (seen, release) = (entered.clone(), done.clone());
    disk.set_hook(Some(Arc::new(move |_: &SimDisk, op, _: &std::path::Path| {
        if op == Op::ZeroFill && !release.load(Ordering::Acquire) {
            seen.store(true, Ordering::Release);
            while !release.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
    })));
    let background = wal.clone();
    let thread = std::thread::spawn(move || while background.step(1 << 20).unwrap() == Progress::More {});
    while !entered.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    for _ in 0..6 {
        put(&wal, &"h".repeat(1500));
        wal.sync().unwrap();
    }
    done.store(true, Ordering::Release);
    thread.join().unwrap();
    assert_eq!(texts(&wal, Position::START).len(), 6);
    assert_eq!(wal.stats().spares, 1);
}
