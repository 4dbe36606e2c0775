//! What recovery decides, case by case, as `docs/format/wal.md` lists them; and bad input.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ketch_wal::{
    Batch, Damage, Error, OpenError, Opened, Options, Position, RECORD_BYTES_MAX, SegmentId, SimDisk, Tail,
    Wal,
};

use crate::basics::{DIR, drain, open, put, small, texts};

fn path(id: u64) -> PathBuf {
    Path::new(DIR).join(format!("{id:016x}.wal"))
}

fn try_open(disk: &Arc<SimDisk>) -> Result<Opened, OpenError> {
    Wal::open(disk.clone(), Path::new(DIR), small())
}

/// Four sealed segments and an active one, all synced; the process is gone.
fn five_segments() -> (Arc<SimDisk>, Vec<String>) {
    let disk = SimDisk::new(3);
    let wal = open(&disk, Options { spare_segments: 0, ..small() }).wal;
    for segment in 0..5 {
        for i in 0..4 {
            put(&wal, &format!("{segment}.{i} {}", "m".repeat(300)));
        }
        wal.sync().unwrap();
        if segment < 4 {
            wal.seal(&mut Batch::new()).unwrap();
        }
    }
    wal.sync().unwrap();
    let all = texts(&wal, Position::START);
    drop(wal);
    disk.kill();
    (disk, all)
}

/// Opening fails, in both ways of opening, and changes nothing.
fn refused(disk: &Arc<SimDisk>) -> OpenError {
    let before = disk.digest();
    let read_only = Options { read_only: true, ..small() };
    let error = Wal::open(disk.clone(), Path::new(DIR), read_only).unwrap_err();
    assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&try_open(disk).unwrap_err()));
    assert_eq!(disk.digest(), before);
    error
}

#[test]
fn a_missing_middle_segment_is_damage() {
    for id in 1..=5 {
        let (disk, _) = five_segments();
        disk.lose(&path(id));
        let error = refused(&disk);
        let OpenError::Damage(Damage { segment, offset: 0, found, .. }) = error else { panic!("{error}") };
        assert_eq!((segment, &found[..]), (SegmentId(id), "no such file"));
    }
}

#[test]
fn a_half_zeroed_segment_is_damage() {
    // Nothing proves what lies in the fifth: there it would be a torn tail.
    for id in 1..=4 {
        let (disk, _) = five_segments();
        let mut content = disk.content(&path(id)).unwrap();
        content[4608..].fill(0);
        disk.put(&path(id), &content);
        let error = refused(&disk);
        assert!(matches!(&error, OpenError::Damage(damage) if damage.segment.0 == id), "{id}: {error}");
    }
}

#[test]
fn a_truncated_file_is_refused() {
    for id in 1..=4 {
        let (disk, _) = five_segments();
        let content = disk.content(&path(id)).unwrap();
        disk.put(&path(id), &content[..5000]);
        assert!(matches!(refused(&disk), OpenError::Damage(damage) if damage.segment.0 == id));
    }
}

#[test]
fn an_empty_file_is_refused() {
    let (disk, _) = five_segments();
    disk.put(&path(9), b"");
    assert!(matches!(refused(&disk), OpenError::Foreign { path: file, .. } if file == path(9)));
}

#[test]
fn a_file_of_another_version_is_refused() {
    let (disk, _) = five_segments();
    let mut content = disk.content(&path(2)).unwrap();
    content[8] = 2;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&content[..12]);
    hasher.update(&content[16..4096]);
    content[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    disk.put(&path(2), &content);
    assert!(matches!(refused(&disk), OpenError::Version { found: 2, supported: 1, .. }));
}

#[test]
fn twins_copies_and_strangers_under_a_segments_name_are_refused() {
    let (disk, _) = five_segments();
    let content = disk.content(&path(2)).unwrap();
    for name in ["000000000000000A.wal", "2.wal", "000000000000002.wal", "copy of 1.wal"] {
        let odd = Path::new(DIR).join(name);
        disk.put(&odd, &content);
        assert!(matches!(refused(&disk), OpenError::Foreign { path, .. } if path == odd));
        disk.lose(&odd);
    }
    disk.put(&path(7), &content);
    let error = refused(&disk);
    assert!(error.to_string().contains("it is segment 2"), "{error}");
    disk.put(&path(7), &[7; 9000]);
    assert!(matches!(refused(&disk), OpenError::Foreign { .. }));
    disk.lose(&path(7));
    // A segment of another log.
    let (other, _) = {
        let disk = SimDisk::new(99);
        put(&open(&disk, small()).wal, "other");
        (disk.content(&path(1)).unwrap(), ())
    };
    disk.put(&path(1), &other);
    assert!(refused(&disk).to_string().contains("belongs to log"));
}

#[test]
fn a_foreign_file_is_reported_and_left_alone() {
    let (disk, all) = five_segments();
    let mine = Path::new(DIR).join("notes.txt");
    disk.put(&mine, b"mine");
    let opened = try_open(&disk).unwrap();
    assert_eq!(opened.recovery.foreign, std::slice::from_ref(&mine));
    assert_eq!(texts(&opened.wal, Position::START), all);
    assert_eq!(disk.content(&mine).unwrap(), b"mine");
}

#[test]
fn stale_records_of_a_recycled_segment_are_not_read() {
    let disk = SimDisk::new(8);
    let wal = open(&disk, small()).wal;
    for _ in 0..20 {
        let at = put(&wal, &"old".repeat(600));
        wal.sync().unwrap();
        wal.purge_before(at).unwrap();
        wal.sync().unwrap();
        drain(&wal);
    }
    assert!(wal.stats().recycled > 2);
    let all = texts(&wal, Position::START);
    drop(wal);
    disk.kill();
    let Opened { wal, recovery } = try_open(&disk).unwrap();
    assert_eq!(recovery.tail, Tail::Clean);
    assert_eq!(texts(&wal, Position::START), all);
}

#[test]
fn a_torn_tail_is_reported_with_its_place() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    put(&wal, "kept");
    wal.sync().unwrap();
    let end = wal.end();
    put(&wal, &"t".repeat(3000));
    drop(wal);
    let versions = disk.undecided();
    let mut kept: Vec<u32> = versions.iter().map(|n| n - 1).collect();
    kept[3] = 0;
    let disk = disk.crashed(&kept);
    let before = disk.digest();
    let look_first = Options { cut_torn_tail: false, ..small() };
    let refused = Wal::open(disk.clone(), Path::new(DIR), look_first).unwrap_err();
    let longer = Options { must_reach: Position::from_u64(end.as_u64() + 1), ..small() };
    for read_only in [false, true] {
        let short = Wal::open(disk.clone(), Path::new(DIR), Options { read_only, ..longer.clone() });
        assert!(matches!(short.unwrap_err(), OpenError::Short { end: found, .. } if found == end));
    }
    assert_eq!(disk.digest(), before, "it was to be looked at first");
    let nothing = Wal::open(disk.clone(), Path::new("/nothing"), longer).unwrap_err();
    assert!(matches!(nothing, OpenError::Short { end: Position::START, .. }));
    let exact = Options { must_reach: end, ..small() };
    let Opened { wal, recovery } = Wal::open(disk.clone(), Path::new(DIR), exact).unwrap();
    let Tail::Torn { segment, offset, cut_bytes } = recovery.tail else { panic!("{recovery:?}") };
    assert_eq!((segment, offset), (end.segment(), end.offset()));
    assert!(cut_bytes > 3000);
    let OpenError::Torn { segment: s, offset: o, cut_bytes: c } = refused else { panic!("{refused}") };
    assert_eq!((s, o, c), (segment, offset, cut_bytes));
    assert_eq!(texts(&wal, Position::START), ["kept"]);
}

#[test]
fn reading_only_changes_nothing() {
    let (disk, all) = five_segments();
    let before = disk.digest();
    let wal = open(&disk, Options { read_only: true, ..small() }).wal;
    assert_eq!(texts(&wal, Position::START), all);
    let mut batch = Batch::new();
    batch.push(1, &[b"x"]);
    assert!(matches!(wal.append(&mut batch), Err(Error::ReadOnly)));
    assert!(matches!(wal.truncate_after(Position::START), Err(Error::ReadOnly)));
    assert!(matches!(wal.build_segment(), Err(Error::ReadOnly)));
    wal.step(100).unwrap();
    wal.close().unwrap();
    assert_eq!(disk.digest(), before);
    let nothing = Wal::open(disk, Path::new("/nothing"), Options { read_only: true, ..small() });
    assert!(matches!(nothing, Err(OpenError::NotALog { .. })));
}

#[test]
fn bad_input_is_named_and_changes_nothing() {
    let (disk, all) = five_segments();
    let wal = try_open(&disk).unwrap().wal;
    assert!(matches!(try_open(&disk), Err(OpenError::Locked { .. })));
    let mut batch = Batch::new();
    batch.push(240, &[b"mine?"]);
    assert!(matches!(wal.append(&mut batch), Err(Error::BadKind { kind: 240, limit: 239 })));
    batch.clear();
    batch.push_with(1, |bytes| bytes.resize(bytes.len() + RECORD_BYTES_MAX as usize + 1, 0));
    let error = wal.commit(&mut batch).unwrap_err();
    assert!(matches!(error, Error::RecordTooLarge { bytes, limit } if bytes == limit + 1), "{error}");
    assert!(matches!(wal.seal(&mut batch), Err(Error::RecordTooLarge { .. })));
    let first = wal.iter(Position::START).next().unwrap().unwrap().position;
    let inside = Position::from_u64(first.as_u64() + 8);
    assert!(matches!(wal.read(inside), Err(Error::NotARecord { .. } | Error::Damage(_))));
    assert!(matches!(wal.read(Position::from_u64(first.as_u64() + 1)), Err(Error::NotARecord { .. })));
    assert!(matches!(wal.read(wal.end()), Err(Error::Ahead { .. })));
    assert!(matches!(wal.read(Position::START), Err(Error::Purged { .. })));
    let ahead = Position::from_u64(wal.end().as_u64() + 8);
    assert!(matches!(wal.purge_before(ahead), Err(Error::Ahead { .. })));
    assert!(matches!(wal.truncate_after(ahead), Err(Error::Ahead { .. })));
    let one = |from| match &wal.iter(from).collect::<Vec<_>>()[..] {
        [Err(error)] => error.clone(),
        other => panic!("{from}: {other:?}"),
    };
    for ahead in [ahead, Position::from_u64(u64::MAX), Position::from_u64((wal.end().segment().0 + 1) << 32)]
    {
        assert!(
            matches!(one(ahead), Error::Ahead { position, end } if (position, end) == (ahead, wal.end()))
        );
    }
    assert_eq!(wal.iter(wal.end()).count(), 0);
    let sealed = wal.segments()[0].end;
    let behind = Position::from_u64(sealed.as_u64() + 8);
    assert_eq!(wal.iter(sealed).count() + 4, all.len());
    for odd in [inside, behind, Position::from_u64(first.as_u64() + 1)] {
        assert!(matches!(one(odd), Error::NotARecord { position } if position == odd));
    }
    assert!(matches!(wal.replace(&[SegmentId(99)], vec![]), Err(Error::NotReplaceable { .. })));
    assert_eq!(texts(&wal, Position::START), all);
    let bad = |options: Options| Wal::open(SimDisk::new(1), Path::new("/x"), options).unwrap_err();
    assert!(matches!(bad(Options { segment_bytes: 1, ..small() }), OpenError::Options { .. }));
    assert!(matches!(bad(Options { metadata: vec![0; 4000].into(), ..small() }), OpenError::Options { .. }));
}

#[test]
fn metadata_is_in_every_segment() {
    let disk = SimDisk::new(4);
    let options = Options { metadata: "member 7".into(), ..small() };
    drop(open(&disk, options).wal);
    disk.crash();
    let opened = open(&disk, Options { metadata: "member 8".into(), ..small() });
    assert_eq!(opened.recovery.metadata, "member 7");
    opened.wal.seal(&mut Batch::new()).unwrap();
    opened.wal.close().unwrap();
    assert_eq!(open(&disk, small()).recovery.metadata, "member 8");
}

#[test]
fn a_segment_built_for_another_log_is_not_taken() {
    let disk = SimDisk::new(6);
    let log = |dir: &str| Wal::open(disk.clone(), Path::new(dir), small()).unwrap().wal;
    let (mine, other) = (log("/mine"), log("/other"));
    put(&mine, "kept");
    let sealed = mine.seal(&mut Batch::new()).unwrap().id;
    mine.sync().unwrap();
    let files = disk.paths();
    let mut builder = other.build_segment().unwrap();
    let mut batch = Batch::new();
    batch.push(1, &[b"not for you"]);
    builder.append(&mut batch).unwrap();
    let built = builder.finish(&mut Batch::new()).unwrap();
    let id = built.info().id;
    let refused = mine.replace(&[sealed], vec![built]);
    assert!(matches!(refused, Err(Error::NotReplaceable { segment, .. }) if segment == id), "{refused:?}");
    assert_eq!(disk.paths(), files, "the segment is dropped");
    assert_eq!(texts(&mine, Position::START), ["kept"]);
    drop((mine, other));
    disk.crash();
    assert_eq!(texts(&log("/mine"), Position::START), ["kept"]);
    assert!(texts(&log("/other"), Position::START).is_empty());
}
