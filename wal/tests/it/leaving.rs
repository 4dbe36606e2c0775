//! Files that go give their room back slice by slice, and not while somebody reads from them.

use std::path::Path;
use std::sync::{Arc, Mutex};

use ketch_wal::sim::{Fault, Op};
use ketch_wal::{Disk, Error, Leaving, Options, Pool, Position, Progress, RealDisk, SimDisk, Wal};

use crate::basics::{DIR, drain, open, put};

const SEGMENT_BYTES: u64 = 5 << 20;

/// No file is kept for later.
fn options() -> Options {
    let pool = Some(Arc::new(Pool::new(0)));
    Options { segment_bytes: SEGMENT_BYTES, spare_segments: 1, pool, ..Options::default() }
}

/// A log whose first segment is full.
fn filled(disk: &Arc<SimDisk>) -> (Wal, Position, Position) {
    let wal = open(disk, options()).wal;
    let first = put(&wal, &"a".repeat(1 << 20));
    let mut last = first;
    while last.segment() == first.segment() {
        drain(&wal);
        last = put(&wal, &"b".repeat(1 << 20));
    }
    wal.sync().unwrap();
    drain(&wal);
    (wal, first, last)
}

fn purge(wal: &Wal, upto: Position) {
    wal.purge_before(upto).unwrap();
    wal.sync().unwrap();
}

/// What the disk is asked to do to files and folders, in order.
fn watched(disk: &Arc<SimDisk>) -> Arc<Mutex<Vec<Op>>> {
    let ops = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ops);
    disk.set_hook(Some(Arc::new(move |_: &SimDisk, op, _: &Path| {
        if [Op::Remove, Op::SyncDir, Op::SetLen].contains(&op) {
            seen.lock().unwrap().push(op);
        }
    })));
    ops
}

fn shortened(ops: &Mutex<Vec<Op>>) -> usize {
    ops.lock().unwrap().iter().filter(|op| **op == Op::SetLen).count()
}

#[test]
fn a_file_that_goes_gives_its_room_back_slice_by_slice() {
    let disk = SimDisk::new(1);
    let (wal, _, last) = filled(&disk);
    let ops = watched(&disk);
    purge(&wal, last);
    let mut before = 0;
    while wal.step(1 << 20).unwrap() == Progress::More {
        let now = shortened(&ops);
        assert!(now <= before + 1, "a step is one slice");
        before = now;
    }
    // 2 MiB, 2 MiB and the rest; the name was durably gone before.
    assert_eq!(*ops.lock().unwrap(), [Op::Remove, Op::SyncDir, Op::SetLen, Op::SetLen, Op::SetLen]);
    assert_eq!(wal.step(1 << 20).unwrap(), Progress::Idle);
}

#[test]
fn what_is_read_from_keeps_its_content() {
    let disk = SimDisk::new(1);
    let (wal, first, last) = filled(&disk);
    let (held, view) = (wal.read(first).unwrap().data, wal.view(first).unwrap().unwrap());
    let ops = watched(&disk);
    purge(&wal, last);
    drain(&wal);
    assert_eq!(shortened(&ops), 0);
    assert!(view.record(first.offset(), true).unwrap().data.iter().all(|byte| *byte == b'a'));
    drop(view);
    drain(&wal);
    assert_eq!(shortened(&ops), 0, "the bytes are still held");
    assert!(held.iter().all(|byte| *byte == b'a'));
    drop(held);
    drain(&wal);
    assert_eq!((shortened(&ops), disk.violations()), (3, 0));
}

#[test]
fn a_reader_in_another_process_finds_it_purged_and_not_damaged() {
    let disk = SimDisk::new(1);
    let (wal, first, last) = filled(&disk);
    let read_only = Options { read_only: true, ..options() };
    let reader = Wal::open(disk.another_process(), Path::new(DIR), read_only).unwrap().wal;
    assert!(reader.read(first).is_ok());
    purge(&wal, last);
    let late = reader.iter(Position::START);
    // One slice after the other: whatever is left of the file, nothing of it is taken for damage.
    while wal.step(1 << 20).unwrap() == Progress::More {
        match reader.read(first) {
            Ok(record) => assert!(record.data.iter().all(|byte| *byte == b'a')),
            Err(error) => assert!(matches!(error, Error::Purged { .. }), "{error}"),
        }
    }
    assert!(matches!(reader.read(first), Err(Error::Purged { .. })));
    assert!(matches!(late.last(), Some(Err(Error::Purged { .. }))));
}

/// Nobody has to call `step`: the room of what was purged comes back all the same.
#[test]
fn files_that_nobody_shortens_go_by_themselves() {
    let (disk, dir) = (SimDisk::new(1), Path::new("/files"));
    disk.create_dir_all(dir).unwrap();
    let leaving = Leaving::default();
    let mut added = Vec::new();
    for number in 0..100 {
        let path = dir.join(number.to_string());
        let file = disk.create(&path).unwrap();
        disk.remove(&path).unwrap();
        added.push(Arc::downgrade(&file));
        leaving.add(file);
    }
    let kept: Vec<usize> = (0..100).filter(|at| added[*at].strong_count() > 0).collect();
    assert_eq!(kept, (92..100).collect::<Vec<_>>());
    leaving.let_go();
    assert!(added.iter().all(|file| file.strong_count() == 0));
}

/// Sealed segments and checkpoints do not change, so hard links are copies of them.
#[test]
fn what_has_another_name_keeps_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let [path, copy] = ["log", "copy"].map(|name| folder.path().join(name));
    for linked in [true, false] {
        let file = RealDisk.create(&path).unwrap();
        file.write_at(0, &[7; 5000]).unwrap();
        if linked {
            std::fs::hard_link(&path, &copy).unwrap();
        }
        RealDisk.remove(&path).unwrap();
        let leaving = Leaving::default();
        leaving.add(Arc::clone(&file));
        while leaving.step(&RealDisk, folder.path()) {}
        assert_eq!(file.len().unwrap(), if linked { 5000 } else { 0 });
    }
    assert_eq!(std::fs::read(&copy).unwrap(), [7; 5000]);
}

#[test]
fn where_room_is_short_it_is_given_back_at_once() {
    let disk = SimDisk::new(1);
    let (wal, _, last) = filled(&disk);
    let ops = watched(&disk);
    purge(&wal, last);
    let used = (1 << 40) - disk.space(Path::new(DIR)).unwrap().free_bytes;
    // The room of the file that goes counts, too.
    disk.set_capacity(Some(used + SEGMENT_BYTES - 1));
    drain(&wal);
    disk.set_capacity(None);
    drain(&wal);
    assert_eq!(shortened(&ops), 0, "it went with its handle");
}

#[test]
fn a_file_that_cannot_be_shortened_costs_nothing_else() {
    let disk = SimDisk::new(1);
    let (wal, _, last) = filled(&disk);
    purge(&wal, last);
    disk.fail(Op::SetLen, 0, Fault::Eio);
    drain(&wal);
    disk.heal();
    let after = put(&wal, "after");
    wal.sync().unwrap();
    drop(wal);
    disk.crash();
    assert_eq!(open(&disk, options()).wal.read(after).unwrap().data, "after");
}
