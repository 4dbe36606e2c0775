//! Files full of nonsense: opening and reading end with a value, whatever the bytes. `fuzz/fuzz_targets/wal_decode.rs` is the
//! same without an end.

use std::path::Path;
use std::sync::Arc;

use ketch_wal::planted::{Bug, plant};
use ketch_wal::{Batch, Disk, Options, Position, SimDisk, Verify, Wal};

use crate::basics::{DIR, open, put, small};
use crate::hunt::Random;

fn log() -> Arc<SimDisk> {
    let disk = SimDisk::new(1);
    let wal = open(&disk, Options { zero_fill: false, spare_segments: 0, ..small() }).wal;
    for i in 0..4 {
        put(&wal, &"n".repeat(i * 90));
        wal.seal(&mut Batch::new()).unwrap();
    }
    let gone = put(&wal, "gone");
    wal.truncate_after(gone).unwrap();
    wal.close().unwrap();
    disk
}

fn read_all(disk: &Arc<SimDisk>, verify: Verify, read_only: bool) {
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let options = Options { verify, read_only, ..small() };
    if let Ok(opened) = Wal::open(disk.clone(), Path::new(DIR), options) {
        for record in opened.wal.iter(Position::START).take(10_000) {
            let Ok(record) = record else { break };
            let _ = opened.wal.read(record.position);
        }
        let _ = opened.wal.append(&mut Batch::new());
    }
}

#[test]
fn nonsense_behind_checksums_that_are_taken_for_right_makes_no_panic() {
    let whole = log();
    let mut random = Random::from(7);
    plant(Some(Bug::ChecksumIgnored));
    for round in 0..3000 {
        let disk = whole.crashed(&[]);
        for path in disk.paths() {
            let mut content = disk.content(&path).unwrap();
            for _ in 0..random.below(6) {
                let at = match random.below(3) {
                    0 => random.below(64),
                    _ => 4096 + random.below((content.len() as u64).saturating_sub(4096)),
                };
                let value = match random.below(3) {
                    0 => 0xff,
                    1 => 0,
                    _ => random.below(256) as u8,
                };
                content[at as usize] = value;
            }
            if random.below(10) == 0 {
                content.truncate(random.below(content.len() as u64) as usize);
            }
            disk.put(&path, &content);
        }
        let verify = if round % 2 == 0 { Verify::All } else { Verify::Tail };
        read_all(&disk, verify, round % 3 != 0);
    }
    plant(None);
}
