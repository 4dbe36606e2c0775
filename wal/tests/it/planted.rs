//! Faults planted on purpose: each is found by a test that passes without it.

use ketch_wal::planted::{Bug, plant};
use ketch_wal::{Options, Position, SimDisk};

use crate::basics::{drain, open, put, small, texts};
use crate::failing::failing;
use crate::faults::failed_sync;
use crate::flips::flip_every_bit;
use crate::hunt::{Plan, hunt};
use crate::pools::shared_pool_crashed_everywhere;
use crate::regressions::{killed_then_power_lost_in_recovery, purged_while_others_append};

fn by_hunt() -> Result<(), String> {
    for seed in 0..40 {
        hunt(Plan { seed, steps: 40, bound: 12, zero_fill: seed % 2 == 0, again: 0 })?;
    }
    Ok(())
}

fn by_flips() -> Result<(), String> {
    flip_every_bit(false, 1).map(|_| ())
}

fn by_failed_sync() -> Result<(), String> {
    (0..100).try_for_each(failed_sync)
}

/// A reader holds bytes of a segment that is purged, recycled and written again.
fn by_reader() -> Result<(), String> {
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    let first = put(&wal, "held by a reader");
    let held = wal.read(first).unwrap().data;
    for _ in 0..60 {
        let at = put(&wal, &"p".repeat(400));
        wal.sync().unwrap();
        wal.purge_before(at).unwrap();
        wal.sync().unwrap();
        drain(&wal);
    }
    assert_eq!(held, "held by a reader");
    if disk.violations() > 0 { Err("bytes under a reader were overwritten".to_owned()) } else { Ok(()) }
}

/// A filled file never grows: growing is a change of metadata that each sync would have to write.
fn by_length() -> Result<(), String> {
    for len in (8..1200).step_by(8) {
        let disk = SimDisk::new(1);
        let wal = open(&disk, Options { spare_segments: 2, ..small() }).wal;
        for _ in 0..8192 / len {
            put(&wal, &"q".repeat(len));
            drain(&wal);
        }
        let long = disk.paths().into_iter().find(|path| disk.content(path).is_some_and(|c| c.len() > 8192));
        if let Some(path) = long {
            return Err(format!("{} grew", path.display()));
        }
    }
    Ok(())
}

/// A batch is torn and cut while the one behind it survived; what is written in its place is just as long.
fn by_stale_tail() -> Result<(), String> {
    for pad in (0..512).step_by(8) {
        let disk = SimDisk::new(1);
        let wal = open(&disk, small()).wal;
        put(&wal, &"a".repeat(pad));
        wal.sync().unwrap();
        // As long as the record that opens a life of a log with one segment.
        put(&wal, &"b".repeat(32));
        put(&wal, "c");
        drop(wal);
        let versions = disk.undecided();
        for code in 0..versions.iter().product::<u32>() {
            let kept: Vec<u32> = versions
                .iter()
                .scan(code, |code, n| {
                    let kept = *code % n;
                    *code /= n;
                    Some(kept)
                })
                .collect();
            let disk = disk.crashed(&kept);
            let seen = texts(&open(&disk, small()).wal, Position::START);
            disk.crash();
            let found = texts(&open(&disk, small()).wal, Position::START);
            if seen != found {
                return Err(format!("recovered {} records, then {}", seen.len(), found.len()));
            }
        }
    }
    Ok(())
}

fn by_pool() -> Result<(), String> {
    shared_pool_crashed_everywhere().map(drop)
}

type Finder = fn() -> Result<(), String>;

const BUGS: [(Bug, Finder); 20] = [
    (Bug::FolderNotSynced, by_hunt),
    (Bug::HeaderNotSynced, by_hunt),
    (Bug::AcknowledgedBeforeSync, by_hunt),
    (Bug::RotatedSegmentNotSynced, by_hunt),
    (Bug::EpochKept, by_stale_tail),
    (Bug::StaleRecordAccepted, by_hunt),
    (Bug::SyncErrorForgotten, by_failed_sync),
    (Bug::TailNotSettled, by_failed_sync),
    (Bug::DamageCut, by_flips),
    (Bug::PurgedTooMuch, by_hunt),
    (Bug::PurgedTooEarly, by_hunt),
    (Bug::FullSegmentOffByOne, by_length),
    (Bug::DurableOverclaimed, by_hunt),
    (Bug::LengthNotCovered, by_flips),
    (Bug::RecycledUnderReader, by_reader),
    (Bug::HalfBatchAccepted, by_hunt),
    (Bug::TruncationForgotten, by_hunt),
    (Bug::FolderSettledFirst, killed_then_power_lost_in_recovery),
    (Bug::OtherFolderNotSynced, by_pool),
    (Bug::LatestLayoutTrusted, purged_while_others_append),
];

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, finder) in BUGS {
        plant(Some(bug));
        let outcome = finder();
        plant(None);
        match outcome {
            Err(how) => println!("{bug:?}: {}", how.chars().take(160).collect::<String>()),
            Ok(()) => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn the_finders_pass_without_a_bug() {
    by_stale_tail().unwrap();
    by_reader().unwrap();
    by_length().unwrap();
    by_failed_sync().unwrap();
}

/// The workload on a failing disk finds what only a crash, a kill or a recovery can show.
#[test]
fn the_failing_disk_finds_them_too() {
    for bug in [Bug::FolderSettledFirst, Bug::TailNotSettled, Bug::HalfBatchAccepted, Bug::PurgedTooEarly] {
        plant(Some(bug));
        let outcome = (0..40).try_for_each(|seed| failing(seed, seed % 2 == 0, 10).map(drop));
        plant(None);
        assert!(outcome.is_err(), "not found: {bug:?}");
    }
}
