//! Every bit of a small log is flipped, one at a time.

use std::path::Path;
use std::sync::Arc;

use ketch_wal::{Batch, OpenError, Options, SimDisk, Tail, Wal};

use crate::basics::{DIR, drain, open, put, small};
use crate::hunt::content;

/// How the flips were taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    damage: u32,
    torn: u32,
    unused: u32,
}

pub(crate) fn options() -> Options {
    Options { zero_fill: false, spare_segments: 0, ..small() }
}

/// Two segments, several batches, everything synced; closed or as a crash leaves it.
fn build(closed: bool) -> Arc<SimDisk> {
    let disk = SimDisk::new(11);
    let wal = open(&disk, options()).wal;
    for i in 0..8 {
        put(&wal, &format!("{i} {}", "v".repeat(61 * i)));
        wal.sync().unwrap();
    }
    wal.seal(&mut Batch::new()).unwrap();
    wal.truncate_after(wal.end()).unwrap();
    let mut batch = Batch::new();
    batch.push(1, &[b"one"]);
    batch.push(2, &[b"two and more"]);
    wal.commit(&mut batch).unwrap();
    batch.clear();
    batch.push(3, &[b"the last batch"]);
    wal.commit(&mut batch).unwrap();
    drain(&wal);
    if closed {
        wal.close().unwrap();
    } else {
        drop(wal);
    }
    disk.kill();
    disk
}

/// Flips each bit; an error is a wrong record, or a loss that was not reported.
pub(crate) fn flip_every_bit(closed: bool, stride: usize) -> Result<Outcomes, String> {
    let disk = build(closed);
    let read_only = Options { read_only: true, ..options() };
    let look = |disk: &Arc<SimDisk>| Wal::open(disk.clone(), Path::new(DIR), read_only.clone());
    let whole = look(&disk).map_err(|e| e.to_string())?;
    let (rows, segments) = (content(&whole.wal)?, whole.wal.segments());
    let mut outcomes = Outcomes::default();
    for path in disk.paths() {
        let id = path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok());
        let Some(info) = segments.iter().find(|segment| Some(segment.id.0) == id) else { continue };
        let len = disk.content(&path).map_or(0, |content| content.len() as u64);
        for bit in (0..len * 8).step_by(stride) {
            let disk = disk.crashed(&[]);
            assert!(disk.flip_bit(&path, bit));
            let at = format!("{}, bit {bit}", path.display());
            match look(&disk) {
                Err(OpenError::Damage(_) | OpenError::Foreign { .. } | OpenError::Version { .. }) => {
                    outcomes.damage += 1;
                }
                Err(error) => return Err(format!("{at}: {error}")),
                Ok(opened) => {
                    let found = content(&opened.wal).map_err(|e| format!("{at}: {e}"))?;
                    let torn = matches!(opened.recovery.tail, Tail::Torn { .. });
                    // The last batch has one record; a close marker has none.
                    let cut = torn && (found[..] == rows[..rows.len() - 1] || found == rows);
                    match bit / 8 >= info.bytes {
                        true if found == rows => outcomes.unused += 1,
                        false if cut => outcomes.torn += 1,
                        _ => {
                            return Err(format!(
                                "{at}: torn {torn}, {} records of {}",
                                found.len(),
                                rows.len()
                            ));
                        }
                    }
                }
            }
        }
    }
    Ok(outcomes)
}

#[test]
fn no_flipped_bit_yields_a_wrong_record() {
    let outcomes = flip_every_bit(false, 1).unwrap();
    // The last batch: one part header, one record of 14 bytes, one commit.
    assert_eq!(outcomes.torn, (40 + 16 + 16 + 40) * 8, "{outcomes:?}");
    assert!(outcomes.damage > 80_000, "{outcomes:?}");
}

#[test]
fn a_closed_log_tells_damage_of_its_last_batch_too() {
    let outcomes = flip_every_bit(true, 3).unwrap();
    // Nothing proves the close marker itself.
    assert!((80 * 8 / 3 - 1..=80 * 8 / 3 + 1).contains(&outcomes.torn), "{outcomes:?}");
}
