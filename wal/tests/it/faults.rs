//! Failing writes and syncs, full disks: nothing is acknowledged that is not durable, and nothing acknowledged is lost.

use ketch_wal::sim::{Fault, Op};
use ketch_wal::{Batch, Disk, Error, OpenError, Opened, Options, Position, Progress, SimDisk, Wal};

use crate::basics::{drain, open, put, small, texts};

fn commit(wal: &Wal, text: &str) -> Result<Position, Error> {
    let mut batch = Batch::new();
    batch.push(1, &[text.as_bytes()]);
    wal.commit(&mut batch).map(|appended| appended.first)
}

/// A failed sync, then syncs that succeed; the process dies, then the machine. `Err` says what is wrong.
pub(crate) fn failed_sync(seed: u64) -> Result<(), String> {
    let disk = SimDisk::new(seed);
    let wal = open(&disk, small()).wal;
    commit(&wal, "safe").unwrap();
    disk.fail(Op::Sync, 0, Fault::Eio);
    let mut acknowledged = vec!["safe"];
    if commit(&wal, "lost?").is_ok() {
        return Err("a failed sync was reported as success".to_owned());
    }
    for _ in 0..3 {
        if wal.sync().is_ok() {
            acknowledged.push("lost?");
        }
        if commit(&wal, "later").is_ok() {
            acknowledged.push("later");
        }
    }
    drop(wal);
    // The process dies; the next one opens the log on the same running machine, which then crashes.
    disk.kill();
    let wal = open(&disk, small()).wal;
    let seen = texts(&wal, Position::START);
    wal.sync().unwrap();
    drop(wal);
    disk.crash();
    let wal = Wal::open(disk.clone(), std::path::Path::new(crate::basics::DIR), small());
    let found = texts(&wal.map_err(|e| e.to_string())?.wal, Position::START);
    if found != seen {
        return Err(format!("the reopened log showed {seen:?} and then had {found:?}"));
    }
    if acknowledged.iter().any(|text| !found.iter().any(|found| found == text)) {
        return Err(format!("acknowledged {acknowledged:?}, found {found:?}"));
    }
    Ok(())
}

#[test]
fn a_failed_sync_poisons_for_good() {
    for seed in 0..100 {
        failed_sync(seed).unwrap();
    }
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    disk.fail(Op::Sync, 0, Fault::Eio);
    let end = wal.end();
    assert!(matches!(commit(&wal, "x"), Err(Error::Poisoned { .. })));
    assert!(matches!(wal.sync(), Err(Error::Poisoned { .. })));
    let mut batch = Batch::new();
    batch.push(1, &[b"y"]);
    assert!(matches!(wal.append(&mut batch), Err(Error::Poisoned { .. })));
    assert!(matches!(wal.step(1), Err(Error::Poisoned { .. })));
    assert!(matches!(wal.truncate_after(end), Err(Error::Poisoned { .. })));
    assert!(matches!(wal.durable(wal.end()).wait(), Err(Error::Poisoned { .. })));
    assert!(wal.durable_upto() <= end);
}

#[test]
fn a_failed_or_short_write_poisons_and_is_cut() {
    for (seed, fault) in [Fault::Eio, Fault::NoSpace, Fault::Short(0), Fault::Short(41), Fault::Short(100)]
        .into_iter()
        .enumerate()
    {
        let disk = SimDisk::new(seed as u64);
        let wal = open(&disk, small()).wal;
        commit(&wal, "safe").unwrap();
        disk.fail(Op::Write, 0, fault);
        assert!(matches!(commit(&wal, &"z".repeat(100)), Err(Error::Poisoned { .. })));
        assert!(matches!(commit(&wal, "more"), Err(Error::Poisoned { .. })));
        drop(wal);
        disk.kill();
        let wal = open(&disk, small()).wal;
        assert_eq!(texts(&wal, Position::START), ["safe"]);
        commit(&wal, "again").unwrap();
    }
}

#[test]
fn a_full_disk_refuses_the_append_and_keeps_the_log() {
    for zero_fill in [true, false] {
        let disk = SimDisk::new(5);
        let options = Options { zero_fill, spare_segments: 2, ..small() };
        let wal = open(&disk, options.clone()).wal;
        disk.set_capacity(Some(40 << 10));
        let mut acknowledged = Vec::new();
        let error = loop {
            let text = format!("{} {}", acknowledged.len(), "f".repeat(900));
            // Without room there are no spares, and that is no error.
            while wal.step(4096).is_ok_and(|progress| progress == Progress::More) {}
            match commit(&wal, &text) {
                Ok(_) => acknowledged.push(text),
                Err(error) => break error,
            }
        };
        assert!(acknowledged.len() > 10, "{}", acknowledged.len());
        assert!(wal.stats().spare_failures > 0);
        let usable = error.is_no_space();
        assert!(usable || matches!(error, Error::Poisoned { .. }), "{error}");
        if usable {
            assert_eq!(texts(&wal, Position::START), acknowledged);
            disk.set_capacity(None);
            commit(&wal, "there is room again").unwrap();
            acknowledged.push("there is room again".to_owned());
        }
        drop(wal);
        disk.crash();
        disk.set_capacity(None);
        let Opened { wal, .. } = open(&disk, options);
        assert_eq!(texts(&wal, Position::START), acknowledged);
    }
}

#[test]
fn a_spare_that_cannot_be_made_is_tried_again() {
    for op in [Op::ZeroFill, Op::Create, Op::Rename, Op::SyncDir, Op::Sync, Op::Write] {
        let disk = SimDisk::new(6);
        let wal = open(&disk, small()).wal;
        put(&wal, "a");
        wal.sync().unwrap();
        disk.fail(op, 0, Fault::Eio);
        drain(&wal);
        assert_eq!(wal.stats().spare_failures, 1, "{op:?}");
        drain(&wal);
        assert_eq!(wal.stats().spares, 1, "{op:?}");
        commit(&wal, "b").unwrap();
        drop(wal);
        disk.crash();
        assert_eq!(texts(&open(&disk, small()).wal, Position::START), ["a", "b"]);
    }
}

#[test]
fn a_segment_that_cannot_be_begun_leaves_the_log_as_it_was() {
    for op in [Op::Create, Op::Write, Op::Sync, Op::Rename, Op::SyncDir] {
        let disk = SimDisk::new(7);
        let wal = open(&disk, small()).wal;
        while wal.active_bytes() + 1100 + 160 < 4096 {
            commit(&wal, &"g".repeat(1000)).unwrap();
        }
        let before = texts(&wal, Position::START);
        disk.fail(op, 0, Fault::Eio);
        assert!(matches!(commit(&wal, &"h".repeat(2000)), Err(Error::Io { .. })), "{op:?}");
        assert_eq!(texts(&wal, Position::START), before);
        commit(&wal, "goes on").unwrap();
        commit(&wal, &"h".repeat(2000)).unwrap();
        drop(wal);
        disk.crash();
        assert_eq!(open(&disk, small()).wal.iter(Position::START).count(), before.len() + 2);
    }
}

#[test]
fn a_read_error_is_a_value() {
    let disk = SimDisk::new(8);
    let wal = open(&disk, small()).wal;
    let at = put(&wal, "data");
    disk.fail(Op::Read, 0, Fault::Eio);
    assert!(matches!(wal.read_cold(at), Err(Error::Io { .. })));
    disk.fail(Op::Read, 0, Fault::Eio);
    let all: Vec<_> = wal.iter(Position::START).collect();
    assert!(matches!(all[..], [Err(Error::Io { .. })]));
    assert_eq!(wal.read(at).unwrap().data, "data");
}

#[test]
fn what_another_thread_failed_to_write_is_not_there() {
    let disk = SimDisk::new(9);
    let wal = open(&disk, small()).wal;
    put(&wal, "written");
    let mut batch = Batch::new();
    batch.push(1, &[b"staged"]);
    let (staged, _) = wal.submit(&mut batch).unwrap();
    disk.fail(Op::Write, 0, Fault::Eio);
    assert!(wal.append(&mut batch).is_err());
    assert!(matches!(wal.read(staged.first), Err(Error::Poisoned { .. })));
    let all: Vec<_> = wal.iter(Position::START).collect();
    assert!(matches!(all[..], [Err(Error::Poisoned { .. })]), "{all:?}");
}

#[test]
fn a_failed_write_reaches_the_append_whose_bytes_another_thread_wrote() {
    // The second thread's write carries the first one's batch too; while it fails, the first waits its turn to write.
    for round in 0..50 {
        let disk = SimDisk::new(round);
        let wal = open(&disk, small()).wal;
        disk.fail(Op::Write, 0, Fault::Eio);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut batch = Batch::new();
                    batch.push(1, &[b"x"]);
                    assert!(wal.append(&mut batch).is_err());
                });
            }
        });
    }
}

#[test]
fn spares_leave_room_for_what_must_be_written() {
    let disk = SimDisk::new(10);
    let options = Options { segment_bytes: 1 << 20, spare_segments: 2, ..small() };
    let wal = open(&disk, options).wal;
    disk.set_capacity(Some((1 << 20) + (1900 << 10)));
    let mut least = u64::MAX;
    for _ in 0..50 {
        wal.step(64 << 10).unwrap();
        least = least.min(disk.space(std::path::Path::new("/")).unwrap().free_bytes);
    }
    assert!(least >= 1 << 20, "{least}");
    assert!(wal.stats().spare_failures > 0);
    commit(&wal, "goes on").unwrap();
    disk.set_capacity(None);
    drain(&wal);
    assert_eq!(wal.stats().spares, 2);
}

/// Not a byte is free when the log is opened again.
fn opened_on_a_full_disk(options: &Options, spares: bool, purge: bool) -> Result<(), OpenError> {
    let disk = SimDisk::new(11);
    let wal = open(&disk, options.clone()).wal;
    let mut acknowledged = Vec::new();
    for i in 0..6 {
        acknowledged.push(format!("{i} {}", "f".repeat(2500)));
        commit(&wal, &acknowledged[i]).unwrap();
        if spares {
            drain(&wal);
        }
    }
    if purge {
        let last = wal.segments().last().unwrap().first;
        wal.purge_before(last).unwrap();
        wal.sync().unwrap();
        acknowledged.drain(..5);
    }
    drop(wal);
    disk.kill();
    let used = disk.paths().iter().map(|path| disk.content(path).unwrap().len() as u64).sum();
    disk.set_capacity(Some(used));
    let read_only = Options { read_only: true, ..options.clone() };
    assert_eq!(texts(&open(&disk, read_only).wal, Position::START), acknowledged, "reading needs no room");
    let opened = Wal::open(disk.clone(), std::path::Path::new(crate::basics::DIR), options.clone());
    let outcome = opened.map(|opened| assert_eq!(texts(&opened.wal, Position::START), acknowledged));
    // Whatever came of it: with room there is the log with all that was acknowledged.
    disk.kill();
    disk.set_capacity(None);
    let wal = open(&disk, options.clone()).wal;
    assert_eq!(texts(&wal, Position::START), acknowledged);
    commit(&wal, "goes on").unwrap();
    outcome
}

#[test]
fn a_log_is_opened_for_writing_on_a_full_disk_if_it_has_room_of_its_own() {
    let filled = Options { spare_segments: 2, ..small() };
    let growing = Options { zero_fill: false, spare_segments: 2, ..small() };
    // A segment that was filled ahead has room for the record of the new life; and spares are given up for it.
    for options in [&filled, &growing] {
        opened_on_a_full_disk(options, true, false).unwrap();
    }
    // So is a file that would be recycled.
    opened_on_a_full_disk(&filled, false, true).unwrap();
    for (options, spares) in [(&filled, false), (&growing, false)] {
        let error = opened_on_a_full_disk(options, spares, false).unwrap_err();
        assert!(error.is_no_space(), "{error}");
    }
}
