//! Bytes that were handed out never change, whoever holds them and whatever became of the log they came from.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ketch_wal::sim::Op;
use ketch_wal::{Disk, Options, Position, RealDisk, SimDisk, Stats, Tail, Wal};

use crate::basics::{DIR, drain, open, put, small};

/// Sixty records, purged and recycled as they come; `look` sees each.
fn churn(wal: &Wal, text: &str, look: impl Fn(&Wal, Position)) -> Stats {
    for i in 0..60 {
        let at = put(wal, &text.repeat(3000));
        look(wal, at);
        wal.sync().unwrap();
        drain(wal);
        if i % 4 == 3 {
            wal.purge_before(at).unwrap();
            wal.sync().unwrap();
            drain(wal);
        }
    }
    wal.stats()
}

fn real(dir: &Path) -> Wal {
    Wal::open(Arc::new(RealDisk), dir, small()).unwrap().wal
}

#[test]
fn bytes_of_an_earlier_opening_do_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let wal = real(dir.path());
    let at = put(&wal, &"a".repeat(3000));
    let held = wal.read(at).unwrap().data;
    drop(wal);
    churn(&real(dir.path()), "b", |_, _| {});
    assert!(held.iter().all(|byte| *byte == b'a'));

    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    let at = put(&wal, &"a".repeat(3000));
    let held = wal.read(at).unwrap().data;
    drop(wal);
    churn(&open(&disk, small()).wal, "b", |_, _| {});
    assert_eq!(disk.violations(), 0);
    assert!(held.iter().all(|byte| *byte == b'a'));
}

/// What was purged durably and not yet let go of when the log was closed is found by the next opening, which may use the files again.
fn purged_then_opened_again(open: impl Fn() -> Wal) {
    let wal = open();
    let at = put(&wal, &"a".repeat(3000));
    let (held, mut late) = (wal.read(at).unwrap().data, wal.iter(Position::START));
    let view = wal.view(at).unwrap().unwrap();
    let mut last = at;
    for _ in 0..6 {
        last = put(&wal, &"b".repeat(3000));
    }
    wal.purge_before(last).unwrap();
    wal.sync().unwrap();
    drop(wal);
    churn(&open(), "c", |_, _| {});
    assert!(held.iter().all(|byte| *byte == b'a'));
    assert!(view.record(at.offset(), true).unwrap().data.iter().all(|byte| *byte == b'a'));
    // An iterator of that time goes on as well.
    assert!(late.next().unwrap().unwrap().data.iter().all(|byte| *byte == b'a'));
}

#[test]
fn a_reopening_recycles_no_file_under_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    purged_then_opened_again(|| real(dir.path()));
    let disk = SimDisk::new(1);
    purged_then_opened_again(|| open(&disk, small()).wal);
    assert_eq!(disk.violations(), 0);
}

#[test]
fn what_was_read_and_let_go_is_recycled() {
    let dir = tempfile::tempdir().unwrap();
    let stats = churn(&real(dir.path()), "c", |wal, at| drop(wal.read(at).unwrap()));
    assert!(stats.recycled > 20, "{stats:?}");
}

#[test]
fn a_reader_of_a_log_that_another_one_writes_holds_copies() {
    let dir = tempfile::tempdir().unwrap();
    let writer = real(dir.path());
    let at = put(&writer, &"a".repeat(3000));
    writer.sync().unwrap();
    let read_only = Options { read_only: true, ..small() };
    let reader = Wal::open(Arc::new(RealDisk), dir.path(), read_only).unwrap().wal;
    let held = reader.read(at).unwrap().data;
    let stats = churn(&writer, "b", |_, _| {});
    assert!(stats.recycled > 20, "{stats:?}");
    assert!(held.iter().all(|byte| *byte == b'a'));
}

#[test]
fn a_log_that_is_written_meanwhile_is_not_damaged() {
    // The writer commits two batches at the n-th read call of an opening for reading.
    for nth in 0..12 {
        let disk = SimDisk::new(1);
        let wal = Arc::new(open(&disk, small()).wal);
        put(&wal, "before");
        wal.sync().unwrap();
        let (reads, writer) = (AtomicU32::new(0), Arc::clone(&wal));
        disk.set_hook(Some(Arc::new(move |_: &SimDisk, op, _: &Path| {
            if op == Op::Read && reads.fetch_add(1, Ordering::AcqRel) == nth {
                for text in ["while it looked", "and more"] {
                    put(&writer, text);
                    writer.sync().unwrap();
                }
            }
        })));
        let read_only = Options { read_only: true, ..small() };
        let opened = Wal::open(disk.clone(), Path::new(DIR), read_only);
        disk.set_hook(None);
        let opened = opened.unwrap_or_else(|error| panic!("{nth}: {error}"));
        assert_eq!(opened.recovery.tail, Tail::Clean, "{nth}");
        assert!(opened.wal.iter(Position::START).count() >= 1);
    }
}

#[test]
fn a_folder_that_is_there_already_is_made_durable_too() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    RealDisk.create_dir_all(&deep).unwrap();
    RealDisk.create_dir_all(&deep).unwrap();
    assert!(deep.is_dir());
    std::fs::write(dir.path().join("file"), b"").unwrap();
    assert!(RealDisk.create_dir_all(&dir.path().join("file")).is_err());
}
