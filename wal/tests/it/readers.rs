//! Logs that are open for reading only, beside one that writes: in this process, or in another one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use ketch_wal::sim::Op;
use ketch_wal::{Batch, Error, OpenError, Options, Pool, Position, RealDisk, SimDisk, Tail, Wal};

use crate::basics::{DIR, drain, open, put, small, texts};

fn read_only() -> Options {
    Options { read_only: true, ..small() }
}

/// Appends as much as two segments hold, lets go of what came before, and has its files used again.
fn rotate(wal: &Wal, text: &str) {
    let mut last = Position::START;
    for _ in 0..6 {
        last = put(wal, &text.repeat(3000));
        wal.sync().unwrap();
        drain(wal);
    }
    wal.purge_before(last).unwrap();
    wal.sync().unwrap();
    drain(wal);
}

#[test]
fn a_log_that_rotates_meanwhile_is_opened() {
    for zero_fill in [true, false] {
        for nth in 0..120 {
            let disk = SimDisk::new(1);
            let wal = Arc::new(open(&disk, Options { zero_fill, ..small() }).wal);
            rotate(&wal, "a");
            rotate(&wal, "b");
            let (ops, writer) = (AtomicU32::new(0), Arc::clone(&wal));
            disk.set_hook(Some(Arc::new(move |_: &SimDisk, _: Op, _: &Path| {
                if ops.fetch_add(1, Ordering::AcqRel) == nth {
                    rotate(&writer, "c");
                }
            })));
            let opened = Wal::open(disk.another_process(), Path::new(DIR), read_only());
            disk.set_hook(None);
            let opened = opened.unwrap_or_else(|error| panic!("{nth}, zero_fill {zero_fill}: {error}"));
            assert_eq!(opened.recovery.tail, Tail::Clean, "{nth}");
            // What it holds is there to be read, or was let go of since.
            for record in opened.wal.iter(Position::START) {
                match record {
                    Ok(record) => assert!(record.data.len() == 3000),
                    Err(Error::Purged { .. }) => break,
                    Err(error) => panic!("{nth}, zero_fill {zero_fill}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_log_that_rotates_all_the_time_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(Arc::new(RealDisk), dir.path(), small()).unwrap().wal;
    put(&wal, "first");
    wal.sync().unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                rotate(&wal, "w");
            }
        });
        for i in 0..60 {
            let opened = Wal::open(Arc::new(RealDisk), dir.path(), read_only());
            let looked = opened.map(|opened| {
                let last = opened.wal.iter(Position::START).last();
                assert!(matches!(last, Some(Ok(_) | Err(Error::Purged { .. }))), "{i}: {last:?}");
            });
            if looked.is_err() {
                over.store(true, Ordering::Release);
            }
            looked.unwrap_or_else(|error| panic!("{i}: {error}"));
        }
        over.store(true, Ordering::Release);
        writer.join().unwrap();
    });
}

#[test]
fn a_damaged_log_is_refused_while_files_come_and_go() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, Options { spare_segments: 0, ..small() }).wal;
    for text in ["a", "b", "c"] {
        put(&wal, &text.repeat(3000));
        wal.sync().unwrap();
        wal.seal(&mut Batch::new()).unwrap();
    }
    wal.sync().unwrap();
    drop(wal);
    let path = Path::new(DIR).join("0000000000000001.wal");
    assert!(disk.flip_bit(&path, 5000 * 8));
    // Each listing finds another file, that is not the log's.
    let lists = AtomicU32::new(0);
    disk.set_hook(Some(Arc::new(move |disk: &SimDisk, op, _: &Path| {
        if op == Op::List {
            let name = format!("notes-{}", lists.fetch_add(1, Ordering::AcqRel));
            disk.put(&Path::new(DIR).join(name), b"");
        }
    })));
    let error = Wal::open(disk.clone(), Path::new(DIR), read_only()).unwrap_err();
    assert!(matches!(&error, OpenError::Damage(damage) if damage.segment.0 == 1), "{error}");
}

#[test]
fn a_file_that_was_used_again_is_purged_and_not_damaged() {
    let disk = SimDisk::new(1);
    let pool = Some(Arc::new(Pool::new(32)));
    let writer = open(&disk, Options { pool, ..small() }).wal;
    let filled = |i| {
        drain(&writer);
        put(&writer, &format!("{i} {}", "r".repeat(2000)))
    };
    let at: Vec<_> = (0..8).map(filled).collect();
    writer.sync().unwrap();
    let reader = Wal::open(disk.another_process(), Path::new(DIR), read_only()).unwrap().wal;
    let mut late = reader.iter(Position::START);
    assert!(late.next().unwrap().unwrap().data.starts_with(b"0 "));
    for text in ["w", "x", "y", "z"] {
        rotate(&writer, text);
    }
    assert!(writer.stats().recycled > 10);
    let mut purged = 0;
    for (i, &at) in at.iter().enumerate() {
        for read in [reader.read(at), reader.read_cold(at)] {
            match read {
                // Nothing was written over it yet.
                Ok(record) => assert!(record.data.starts_with(format!("{i} ").as_bytes())),
                Err(Error::Purged { position, .. }) if position == at => purged += 1,
                Err(error) => panic!("{i}: {error}"),
            }
        }
    }
    assert!(purged > 0);
    let all: Vec<_> = reader.iter(Position::START).collect();
    assert!(matches!(all.last(), Some(Err(Error::Purged { .. }))), "{} records", all.len());
    // What was read ahead of the loss may still come.
    let rest: Vec<_> = late.collect();
    let short: Vec<_> = rest.iter().map(|record| record.as_ref().map(|record| record.position)).collect();
    assert!(matches!(rest.last(), Some(Err(Error::Purged { .. }))), "{short:?}");
}

#[test]
fn a_log_open_for_reading_calls_nothing_durable() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    put(&wal, "synced");
    wal.sync().unwrap();
    let durable = wal.durable_upto();
    put(&wal, "not synced");
    drop(wal);
    disk.kill();
    let wal = Wal::open(disk.clone(), Path::new(DIR), read_only()).unwrap().wal;
    assert_eq!(texts(&wal, Position::START), ["synced", "not synced"]);
    let known = wal.durable_upto();
    assert!(known <= durable);
    assert!(matches!(wal.sync(), Err(Error::ReadOnly)));
    let handle = wal.durable(wal.end());
    assert!(matches!(handle.poll(), Err(Error::ReadOnly)));
    assert!(matches!(handle.wait(), Err(Error::ReadOnly)));
    assert!(matches!(crate::threads::block_on(handle), Err(Error::ReadOnly)));
    let handle = wal.durable(known);
    assert!(handle.poll().unwrap());
    handle.wait().unwrap();
    assert_eq!(wal.durable_upto(), known);
}
