//! What went wrong in other logs (raft-engine, qdrant/wal, okaywal, etcd) and must not here.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ketch_wal::sim::{Fault, Op};
use ketch_wal::{Batch, Options, Position, Progress, SimDisk, Wal};

use crate::basics::{DIR, drain, open, put, small, texts};
use crate::hunt::Random;

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
    disk.set_hook(Some(Arc::new(move |_: &SimDisk, op, _: &Path| {
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

#[test]
fn a_truncation_over_replaced_segments_still_hides_what_is_between() {
    let disk = SimDisk::new(8);
    let wal = open(&disk, small()).wal;
    put(&wal, "1");
    let cut = put(&wal, "2 truncated");
    let first = wal.seal(&mut Batch::new()).unwrap().id;
    put(&wal, "3 truncated");
    wal.seal(&mut Batch::new()).unwrap();
    put(&wal, "4 truncated");
    wal.truncate_after(cut).unwrap();
    put(&wal, "5");
    let last = wal.seal(&mut Batch::new()).unwrap().id;
    wal.sync().unwrap();
    for (old, text) in [(first, "1"), (last, "5")] {
        let mut builder = wal.build_segment().unwrap();
        let mut batch = Batch::new();
        batch.push(1, &[text.as_bytes()]);
        builder.append(&mut batch).unwrap();
        wal.replace(&[old], vec![builder.finish(&mut Batch::new()).unwrap()]).unwrap();
        assert_eq!(texts(&wal, Position::START), ["1", "5"]);
    }
    drop(wal);
    disk.crash();
    assert_eq!(texts(&open(&disk, small()).wal, Position::START), ["1", "5"]);
}

/// The process dies after a purge whose record is not synced, and the machine while the next one recovers.
pub(crate) fn killed_then_power_lost_in_recovery() -> Result<(), String> {
    for zero_fill in [true, false] {
        let options = Options { zero_fill, ..small() };
        let disk = SimDisk::new(9);
        let wal = open(&disk, options.clone()).wal;
        let mut last = Position::START;
        for _ in 0..8 {
            last = put(&wal, &"k".repeat(3000));
            wal.sync().unwrap();
        }
        wal.purge_before(last).unwrap();
        drop(wal);
        disk.kill();
        let copies = Arc::new(Mutex::new(Vec::new()));
        let seen = copies.clone();
        disk.set_hook(Some(Arc::new(move |disk: &SimDisk, op, _: &Path| {
            let versions = disk.undecided();
            for kept in [vec![0; versions.len()], versions.iter().map(|n| n - 1).collect()] {
                seen.lock().unwrap().push((op, disk.crashed(&kept)));
            }
        })));
        drop(open(&disk, options.clone()));
        disk.set_hook(None);
        for (op, copy) in copies.lock().unwrap().drain(..) {
            let opened = Wal::open(copy, Path::new(DIR), options.clone());
            let wal = opened.map_err(|error| format!("power lost at {op:?}: {error}"))?.wal;
            let count = wal.iter(last).count();
            if count != 1 {
                return Err(format!("power lost at {op:?}: {count} records"));
            }
        }
    }
    Ok(())
}

#[test]
fn recovery_lets_no_file_go_before_the_record_of_it_is_durable() {
    killed_then_power_lost_in_recovery().unwrap();
}

/// While the sync that makes a purge durable is under way, another thread appends over two more segments; then the purged files go, and power is
/// lost, with any of what was appended.
pub(crate) fn purged_while_others_append() -> Result<(), String> {
    for zero_fill in [true, false] {
        let options = Options { zero_fill, spare_segments: 0, ..small() };
        let disk = SimDisk::new(10);
        let wal = Arc::new(open(&disk, options.clone()).wal);
        put(&wal, "durable, then purged");
        wal.sync().unwrap();
        wal.seal(&mut Batch::new()).unwrap();
        put(&wal, "purged");
        wal.seal(&mut Batch::new()).unwrap();
        let kept = put(&wal, "kept");
        wal.purge_before(kept).unwrap();
        let (once, other) = (AtomicBool::new(true), Arc::clone(&wal));
        disk.set_hook(Some(Arc::new(move |_: &SimDisk, op, _: &Path| {
            if op == Op::Sync && once.swap(false, Ordering::AcqRel) {
                for text in ["four", "five"] {
                    other.seal(&mut Batch::new()).unwrap();
                    put(&other, text);
                }
            }
        })));
        wal.sync().unwrap();
        disk.set_hook(None);
        let files = disk.paths().len();
        drain(&wal);
        assert!(disk.paths().len() < files, "the purged files are gone");
        let versions = disk.undecided();
        for round in 0..2000u64 {
            let mut random = Random::from(round);
            let lost: Vec<u32> = versions.iter().map(|n| random.below(u64::from(*n)) as u32).collect();
            let opened = Wal::open(disk.crashed(&lost), Path::new(DIR), options.clone());
            let wal = opened.map_err(|error| format!("round {round}: {error}"))?.wal;
            let found = texts(&wal, Position::START);
            if !["kept", "four", "five"].starts_with(&found.iter().map(String::as_str).collect::<Vec<_>>())
                || found.is_empty()
            {
                return Err(format!("round {round}: {found:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn a_file_that_is_gone_proves_no_more_than_a_layout_without_it() {
    purged_while_others_append().unwrap();
}
