//! Views of segments: what `read` says, without a lookup for each record.

use std::path::Path;
use std::sync::Arc;

use ketch_wal::{Error, Options, SimDisk, Wal};

use crate::basics::{DIR, open, put, small};

#[test]
fn a_view_lends_what_read_hands_out() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    let records: Vec<_> = (0..50usize).map(|i| put(&wal, &"x".repeat(i * 7))).collect();
    let view = wal.view(records[0]).unwrap().unwrap();
    for (i, &at) in records.iter().enumerate().filter(|(_, at)| at.segment() == records[0].segment()) {
        let (expected, reaches) = (wal.read(at).unwrap(), view.reaches(at.offset()));
        assert!(reaches, "record {i}");
        view.touch(at.offset());
        for verify in [true, false] {
            let found = view.record(at.offset(), verify).unwrap();
            assert_eq!((found.kind, found.data), (expected.kind, &expected.data[..]));
            assert_eq!(view.share(found.data), expected.data);
        }
        for odd in [at.offset() + 1, at.offset() + 4, 0, 8, u64::MAX, u64::MAX - 7] {
            assert!(matches!(view.record(odd, true), Err(Error::NotARecord { .. })), "offset {odd}");
        }
    }
    view.touch(u64::MAX);
    assert!(!view.reaches(u64::MAX));
}

#[test]
fn a_view_ends_where_the_segment_did_and_outlives_the_purge() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    let first = put(&wal, "first");
    let view = wal.view(first).unwrap().unwrap();
    let second = put(&wal, "second");
    assert!(!view.reaches(second.offset()));
    assert!(wal.view(second).unwrap().unwrap().reaches(second.offset()));
    let ahead = wal.view(wal.end());
    assert!(matches!(ahead, Err(Error::Ahead { .. })), "{ahead:?}");
    let last = (0..200).fold(second, |_, _| put(&wal, &"y".repeat(1000)));
    wal.purge_before(last).unwrap();
    wal.sync().unwrap();
    assert!(matches!(wal.view(first), Err(Error::Purged { .. })));
    assert_eq!(view.record(first.offset(), true).unwrap().data, b"first");
}

#[test]
fn damage_shows_when_it_is_looked_for() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    let at = put(&wal, "sound");
    let path = disk.paths().into_iter().find(|path| {
        path.starts_with(DIR)
            && disk.content(path).is_some_and(|bytes| bytes.windows(5).any(|w| w == b"sound"))
    });
    let path = path.unwrap();
    let bytes = disk.content(&path).unwrap();
    let place = bytes.windows(5).position(|window| window == b"sound").unwrap();
    assert!(disk.flip_bit(&path, place as u64 * 8));
    let view = wal.view(at).unwrap().unwrap();
    assert!(matches!(view.record(at.offset(), true), Err(Error::Damage(_))));
}

#[test]
fn what_must_be_read_one_by_one_has_no_view() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    let (first, second) = (put(&wal, "first"), put(&wal, "second"));
    wal.truncate_after(second).unwrap();
    assert!(wal.view(first).unwrap().is_none());
    wal.sync().unwrap();
    drop(wal);
    let options = Options { read_only: true, ..small() };
    let wal = Wal::open(Arc::clone(&disk) as _, Path::new(DIR), options).unwrap().wal;
    assert!(wal.view(first).unwrap().is_none());
}
