//! Append, read, iterate, truncate, purge, seal, replace, reopen.

use std::path::Path;
use std::sync::Arc;

use ketch_wal::{
    Batch, Disk, Error, Opened, Options, Position, Progress, RECORD_BYTES_MAX, RealDisk, SEGMENT_BYTES_MIN,
    SimDisk, Tail, Wal,
};

pub(crate) fn small() -> Options {
    Options { segment_bytes: 8 << 10, spare_segments: 1, ..Options::default() }
}

pub(crate) const DIR: &str = "/log";

pub(crate) fn open(disk: &Arc<SimDisk>, options: Options) -> Opened {
    Wal::open(disk.clone(), Path::new(DIR), options).unwrap()
}

pub(crate) fn put(wal: &Wal, text: &str) -> Position {
    let mut batch = Batch::new();
    batch.push(1, &[text.as_bytes()]);
    wal.append(&mut batch).unwrap().first
}

pub(crate) fn texts(wal: &Wal, from: Position) -> Vec<String> {
    wal.iter(from).map(|record| String::from_utf8(record.unwrap().data.to_vec()).unwrap()).collect()
}

pub(crate) fn drain(wal: &Wal) {
    while wal.step(1 << 20).unwrap() == Progress::More {}
}

#[test]
fn what_is_appended_is_read_and_found_again() {
    let disk = SimDisk::new(1);
    let Opened { wal, recovery } = open(&disk, small());
    assert!(recovery.created);
    let a = put(&wal, "a");
    let b = put(&wal, "");
    let mut batch = Batch::new();
    batch.push(7, &[b"c", b"c"]);
    batch.push_with(8, |bytes| bytes.extend_from_slice(&[9; 100]));
    let appended = wal.append(&mut batch).unwrap();
    assert_eq!(batch.positions().len(), 2);
    assert_eq!(batch.positions()[0], appended.first);
    assert_eq!(wal.read(a).unwrap().data, "a");
    assert_eq!(wal.read(b).unwrap().data, "");
    assert_eq!(wal.read(batch.positions()[1]).unwrap().data, vec![9; 100]);
    assert_eq!(wal.read(batch.positions()[1]).unwrap().kind, 8);
    assert_eq!(wal.iter(Position::START).count(), 4);
    assert_eq!(wal.iter(appended.first).count(), 2);
    assert_eq!(wal.iter(wal.end()).count(), 0);
    assert!(wal.durable_upto() < wal.end());
    assert_eq!(wal.sync().unwrap(), wal.end());
    drop(wal);
    disk.crash();
    let Opened { wal, recovery } = open(&disk, small());
    assert_eq!(recovery.tail, Tail::Clean);
    assert!(!recovery.created && !recovery.closed);
    assert_eq!(wal.iter(Position::START).count(), 4);
    assert_eq!(wal.read(a).unwrap().data, "a");
    wal.close().unwrap();
    assert!(open(&disk, small()).recovery.closed);
}

#[test]
fn segments_fill_rotate_and_recycle() {
    let disk = SimDisk::new(2);
    let wal = open(&disk, small()).wal;
    let mut kept = Vec::new();
    for i in 0..200 {
        kept.push((put(&wal, &format!("record {i} {}", "x".repeat(i * 7 % 300))), i));
        if i % 3 == 0 {
            wal.sync().unwrap();
        }
        drain(&wal);
    }
    assert!(wal.stats().segments > 5, "{:?}", wal.stats());
    for (at, i) in &kept {
        assert!(wal.read(*at).unwrap().data.starts_with(format!("record {i} ").as_bytes()));
    }
    assert_eq!(wal.iter(Position::START).count(), 200);
    wal.purge_before(kept[150].0).unwrap();
    assert!(matches!(wal.read(kept[0].0), Err(Error::Purged { .. })));
    wal.sync().unwrap();
    drain(&wal);
    for i in 200..400 {
        put(&wal, &format!("record {i} {}", "y".repeat(200)));
        wal.sync().unwrap();
        drain(&wal);
    }
    assert!(wal.stats().recycled > 0, "{:?}", wal.stats());
    let seen = texts(&wal, Position::START);
    drop(wal);
    disk.crash();
    let wal = open(&disk, small()).wal;
    assert_eq!(texts(&wal, Position::START), seen);
    assert!(matches!(wal.read(kept[0].0), Err(Error::Purged { .. })));
    assert_eq!(disk.violations(), 0);
}

#[test]
fn batches_larger_than_segments_span_them() {
    let disk = SimDisk::new(3);
    let wal = open(&disk, small()).wal;
    put(&wal, "before");
    let mut batch = Batch::new();
    for i in 0..20u8 {
        batch.push(2, &[&vec![i; 1500]]);
    }
    batch.push(2, &[&vec![99; 30_000]]);
    batch.push(2, &[b"last"]);
    let appended = wal.commit(&mut batch).unwrap();
    for (i, at) in batch.positions().iter().enumerate().take(20) {
        assert_eq!(wal.read(*at).unwrap().data, vec![i as u8; 1500]);
    }
    assert_eq!(wal.read(batch.positions()[20]).unwrap().data, vec![99; 30_000]);
    put(&wal, "after");
    wal.sync().unwrap();
    drop(wal);
    disk.crash();
    let wal = open(&disk, small()).wal;
    assert_eq!(wal.iter(Position::START).count(), 24);
    assert_eq!(wal.iter(appended.first).count(), 23);
    assert_eq!(wal.iter(appended.end).next().unwrap().unwrap().data, "after");
}

#[test]
fn truncation_hides_and_survives() {
    let disk = SimDisk::new(4);
    let wal = open(&disk, small()).wal;
    let at: Vec<_> = (0..10).map(|i| put(&wal, &format!("{i}"))).collect();
    let bytes = wal.read(at[7]).unwrap().data;
    wal.truncate_after(at[6]).unwrap();
    assert_eq!(texts(&wal, Position::START).len(), 6);
    assert!(matches!(wal.read(at[7]), Err(Error::Truncated { .. })));
    put(&wal, "new 6");
    assert_eq!(bytes, "7");
    wal.sync().unwrap();
    drop(wal);
    disk.crash();
    let wal = open(&disk, small()).wal;
    assert_eq!(texts(&wal, Position::START), ["0", "1", "2", "3", "4", "5", "new 6"]);
    wal.truncate_after(Position::START).unwrap();
    assert!(texts(&wal, Position::START).is_empty());
    assert!(matches!(wal.truncate_after(Position::from_u64(u64::MAX)), Err(Error::Ahead { .. })));
}

#[test]
fn sealed_segments_are_replaced_atomically() {
    let disk = SimDisk::new(5);
    let options = Options { zero_fill: false, manual_rotation: true, ..small() };
    let wal = open(&disk, options.clone()).wal;
    let mut ids = Vec::new();
    for s in 0..4 {
        for r in 0..10 {
            put(&wal, &format!("{s}.{r}"));
        }
        let mut footer = Batch::new();
        footer.push(9, &[b"footer"]);
        let info = wal.seal(&mut footer).unwrap();
        assert!(info.sealed);
        assert_eq!(info.footer, footer.positions()[0]);
        ids.push(info.id);
    }
    let info = wal.segments();
    assert_eq!(info.len(), 5);
    let mut builder = wal.build_segment().unwrap();
    let mut batch = Batch::new();
    batch.push(1, &[b"rewritten"]);
    builder.append(&mut batch).unwrap();
    let at = batch.positions()[0];
    let mut footer = Batch::new();
    footer.push(9, &[b"new footer"]);
    let built = builder.finish(&mut footer).unwrap();
    assert!(matches!(wal.replace(&ids[1..3], vec![]), Err(Error::NotReplaceable { .. })));
    wal.sync().unwrap();
    wal.replace(&ids[1..3], vec![built]).unwrap();
    drain(&wal);
    assert_eq!(wal.read(at).unwrap().data, "rewritten");
    let seen = texts(&wal, Position::START);
    assert_eq!(seen.len(), 11 + 2 + 11);
    assert_eq!(seen[11], "rewritten");
    let info = wal.segments();
    drop(wal);
    disk.crash();
    for verify in [ketch_wal::Verify::All, ketch_wal::Verify::Tail] {
        let wal = open(&disk, Options { verify, ..options.clone() }).wal;
        assert_eq!(texts(&wal, Position::START), seen);
        assert_eq!(wal.segments()[..3], info[..3]);
        assert_eq!(wal.read(wal.segments()[1].footer).unwrap().data, "new footer");
    }
}

#[test]
fn the_real_disk_does_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options = Options { segment_bytes: 64 << 10, ..small() };
    let path = dir.path().join("deep/log");
    let wal = Wal::open(disk.clone(), &path, options.clone()).unwrap().wal;
    assert!(matches!(
        Wal::open(disk.clone(), &path, options.clone()),
        Err(ketch_wal::OpenError::Locked { .. })
    ));
    let mut at = Vec::new();
    for i in 0..1000 {
        at.push(put(&wal, &format!("{i} {}", "z".repeat(500))));
        if i % 100 == 0 {
            wal.sync().unwrap();
            drain(&wal);
        }
    }
    let held = wal.read(at[3]).unwrap().data;
    wal.purge_before(at[900]).unwrap();
    wal.sync().unwrap();
    drain(&wal);
    for i in 0..500 {
        put(&wal, &format!("again {i} {}", "w".repeat(500)));
        drain(&wal);
    }
    assert!(held.starts_with(b"3 zzz"));
    wal.sync().unwrap();
    let seen = texts(&wal, Position::START);
    wal.close().unwrap();
    let opened = Wal::open(disk, &path, options).unwrap();
    assert!(opened.recovery.closed);
    assert_eq!(texts(&opened.wal, Position::START), seen);
}

#[test]
fn an_unsynced_tail_over_several_segments_is_cut() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let options = Options { zero_fill: false, ..small() };
        let wal = open(&disk, options.clone()).wal;
        for i in 0..20 {
            put(&wal, &format!("{i} {}", "s".repeat(300)));
        }
        wal.sync().unwrap();
        for i in 20..60 {
            put(&wal, &format!("{i} {}", "u".repeat(300)));
        }
        drop(wal);
        disk.crash();
        let wal = open(&disk, options.clone()).wal;
        let seen = texts(&wal, Position::START);
        assert!(seen.len() >= 20, "seed {seed}");
        for (i, text) in seen.iter().enumerate() {
            assert!(text.starts_with(&format!("{i} ")), "seed {seed}");
        }
        put(&wal, "goes on");
        wal.sync().unwrap();
        drop(wal);
        disk.crash();
        let wal = open(&disk, options).wal;
        assert_eq!(texts(&wal, Position::START).len(), seen.len() + 1);
    }
}

#[test]
fn records_of_every_length_in_segments_of_every_size() {
    let limit = RECORD_BYTES_MAX as usize;
    for segment_bytes in [SEGMENT_BYTES_MIN, 64 << 10, 1 << 20, 64 << 20] {
        for zero_fill in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let options = Options { segment_bytes, zero_fill, spare_segments: 0, ..Options::default() };
            let open = || Wal::open(Arc::new(RealDisk), dir.path(), options.clone()).unwrap().wal;
            let segment = segment_bytes as usize;
            let mut lengths = vec![0, 1, 7, 8, 9, 4095, 4096, 65_536];
            lengths.extend((segment - 4300..segment - 4100).step_by(24).chain([segment, segment + 1]));
            lengths.retain(|len| *len < 4 << 20);
            // The largest once in small and once in large segments is enough for the time of a test.
            if zero_fill && [64 << 10, 64 << 20].contains(&segment_bytes) {
                lengths.push(limit);
            }
            let wal = open();
            let at: Vec<_> = lengths.iter().map(|len| put(&wal, &"r".repeat(*len))).collect();
            wal.sync().unwrap();
            drop(wal);
            let wal = open();
            let found: Vec<_> = wal.iter(Position::START).map(|record| record.unwrap().data.len()).collect();
            assert_eq!(found, lengths, "segments of {segment_bytes}");
            for (at, len) in at.iter().zip(&lengths) {
                assert!(wal.read(*at).unwrap().data.iter().eq(std::iter::repeat_n(&b'r', *len)));
            }
            let mut batch = Batch::new();
            batch.push_with(1, |bytes| bytes.resize(bytes.len() + limit + 1, 0));
            let error = wal.append(&mut batch).unwrap_err();
            assert!(matches!(error, Error::RecordTooLarge { bytes, limit } if bytes == limit + 1));
        }
    }
}
