//! Any bytes as the files of a log: opening, reading and going on end with a value, never with a panic.
//!
//! The input changes bytes of a small whole log, or is a segment's frames itself. Its first byte says whether checksums are
//! taken for right, so that the decoder behind them meets nonsense.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ketch_wal::planted::{Bug, plant};
use ketch_wal::{Batch, Options, Position, SimDisk, Verify, Wal};
use libfuzzer_sys::fuzz_target;

const DIR: &str = "/log";

fn options() -> Options {
    Options { segment_bytes: 8 << 10, spare_segments: 0, zero_fill: false, ..Options::default() }
}

/// A log of four segments with a truncation in it.
fn whole() -> &'static SimDisk {
    static WHOLE: OnceLock<Arc<SimDisk>> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let disk = SimDisk::new(1);
        let wal = Wal::open(disk.clone(), Path::new(DIR), options()).expect("a new log").wal;
        let mut batch = Batch::new();
        for i in 0..3 {
            batch.clear();
            batch.push(i, &[&b"whole".repeat(30)]);
            wal.append(&mut batch).expect("an append");
            wal.seal(&mut Batch::new()).expect("a seal");
        }
        wal.truncate_after(wal.end()).expect("a truncation");
        let first = wal.iter(Position::START).next().expect("a record").expect("a record").position;
        wal.purge_before(first).expect("a purge");
        wal.close().expect("a close");
        disk
    })
}

/// Changes of four bytes each: the file, two of place, the content.
fn edit(disk: &SimDisk, edits: &[u8]) {
    let paths = disk.paths();
    for edit in edits.chunks_exact(4) {
        let Some(path) = paths.get(edit[0] as usize % paths.len().max(1)) else { return };
        let Some(mut content) = disk.content(path) else { continue };
        let place = usize::from(u16::from_le_bytes([edit[1], edit[2]]));
        // Half of the places are in the header's first bytes, the others in the frames.
        let at = if place % 2 == 0 { place / 2 % 64 } else { 4096 + place / 2 };
        if let Some(byte) = content.get_mut(at) {
            *byte = edit[3];
        }
        disk.put(path, &content);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    let disk = whole().crashed(&[]);
    if mode & 2 == 0 {
        edit(&disk, data);
    } else {
        let path = PathBuf::from(DIR).join("0000000000000004.wal");
        let mut content = disk.content(&path).unwrap_or_default();
        content.truncate(4096);
        content.extend_from_slice(data);
        disk.put(&path, &content);
    }
    plant((mode & 1 != 0).then_some(Bug::ChecksumIgnored));
    let verify = if mode & 4 == 0 { Verify::All } else { Verify::Tail };
    let options = Options { read_only: mode & 8 != 0, verify, ..options() };
    if let Ok(opened) = Wal::open(disk.clone(), Path::new(DIR), options) {
        for record in opened.wal.iter(Position::START).take(1000) {
            let Ok(record) = record else { break };
            let _ = opened.wal.read(record.position);
        }
        let mut batch = Batch::new();
        batch.push(1, &[b"goes on"]);
        let _ = opened.wal.commit(&mut batch);
    }
});
