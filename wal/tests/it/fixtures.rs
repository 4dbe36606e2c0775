//! Logs of format version 1 as they were once written: every later version reads them.
//!
//! `cargo test -p ketch-wal --test it write_fixtures -- --ignored` writes them; do so for a new format version only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ketch_wal::{Batch, Disk, Options, Position, SimDisk, Tail, Wal};

use crate::basics::{DIR, open, put, small, texts};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn options() -> Options {
    Options { zero_fill: false, spare_segments: 0, metadata: "fixture".into(), ..small() }
}

/// A log with every kind of frame in it.
fn build() -> (Arc<SimDisk>, Wal) {
    let disk = SimDisk::new(1);
    let wal = open(&disk, options()).wal;
    put(&wal, "rewritten away");
    put(&wal, "kept by the rewriting");
    let mut footer = Batch::new();
    footer.push(9, &[b"footer"]);
    let sealed = wal.seal(&mut footer).unwrap();
    put(&wal, "second");
    let gone = put(&wal, "truncated");
    wal.truncate_after(gone).unwrap();
    let mut batch = Batch::new();
    for i in 0..3 {
        batch.push(i, &[format!("batch {i} ").as_bytes(), &b"b".repeat(2000)]);
    }
    wal.append(&mut batch).unwrap();
    wal.sync().unwrap();
    let mut builder = wal.build_segment().unwrap();
    let mut batch = Batch::new();
    batch.push(1, &[b"kept by the rewriting"]);
    builder.append(&mut batch).unwrap();
    let built = builder.finish(&mut footer).unwrap();
    wal.replace(&[sealed.id], vec![built]).unwrap();
    while wal.step(1 << 20).unwrap() == ketch_wal::Progress::More {}
    (disk, wal)
}

fn expected() -> Vec<String> {
    let mut texts: Vec<String> = ["kept by the rewriting", "footer", "second"].map(str::to_owned).into();
    texts.extend((0..3).map(|i| format!("batch {i} {}", "b".repeat(2000))));
    texts
}

fn save(disk: &SimDisk, name: &str) {
    let dir = fixtures().join(name);
    fs::create_dir_all(&dir).unwrap();
    for path in disk.paths() {
        fs::write(dir.join(path.file_name().unwrap()), disk.content(&path).unwrap()).unwrap();
    }
}

#[test]
#[ignore = "writes the fixtures"]
fn write_fixtures() {
    let (disk, wal) = build();
    save(&disk, "crashed");
    let mut batch = Batch::new();
    batch.push(1, &[&b"never synced".repeat(100)]);
    wal.append(&mut batch).unwrap();
    let kept: Vec<u32> =
        disk.undecided().iter().enumerate().map(|(i, n)| if i == 2 { 0 } else { n - 1 }).collect();
    save(&disk.crashed(&kept), "torn");
    drop(wal);
    let (disk, wal) = build();
    wal.close().unwrap();
    save(&disk, "closed");
}

fn load(name: &str) -> Arc<SimDisk> {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    for entry in fs::read_dir(fixtures().join(name)).unwrap() {
        let entry = entry.unwrap();
        disk.put(&Path::new(DIR).join(entry.file_name()), &fs::read(entry.path()).unwrap());
    }
    disk
}

#[test]
fn logs_of_version_1_are_read_and_go_on() {
    for (name, closed, torn) in [("closed", true, false), ("crashed", false, false), ("torn", false, true)] {
        let disk = load(name);
        let look = open(&disk, Options { read_only: true, ..options() });
        assert_eq!(texts(&look.wal, Position::START), expected(), "{name}");
        assert_eq!(look.recovery.closed, closed, "{name}");
        assert_eq!(matches!(look.recovery.tail, Tail::Torn { .. }), torn, "{name}");
        assert_eq!(look.recovery.metadata, "fixture");
        let wal = open(&disk, options()).wal;
        let at = put(&wal, "new");
        wal.sync().unwrap();
        drop(wal);
        disk.crash();
        assert_eq!(open(&disk, options()).wal.read(at).unwrap().data, "new", "{name}");
    }
}

#[test]
fn the_bytes_of_version_1_are_still_written() {
    let (disk, wal) = build();
    drop(wal);
    let old = load("crashed");
    assert_eq!(disk.paths(), old.paths());
    for path in disk.paths() {
        assert!(disk.content(&path) == old.content(&path), "{}", path.display());
    }
}
