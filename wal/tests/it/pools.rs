//! Files in their second life: shared between logs, and those that cannot become spares.

use std::path::Path;
use std::sync::{Arc, Mutex};

use ketch_wal::sim::{Fault, Op};
use ketch_wal::{Batch, Options, Pool, Position, Progress, SimDisk, Wal};

use crate::basics::{drain, open, put, small, texts};

#[test]
fn logs_share_a_pool() {
    let disk = SimDisk::new(5);
    let pool = Arc::new(Pool::new(2));
    let options = Options { pool: Some(pool.clone()), spare_segments: 0, ..small() };
    let log = |dir: &str| Wal::open(disk.clone(), Path::new(dir), options.clone()).unwrap().wal;
    let (a, b) = (log("/a"), log("/b"));
    let mut last = Position::START;
    for i in 0..12 {
        last = put(&a, &format!("{i} {}", "s".repeat(1500)));
    }
    a.purge_before(last).unwrap();
    a.sync().unwrap();
    drain(&a);
    assert!(!pool.is_empty());
    for i in 0..12 {
        put(&b, &format!("{i} {}", "s".repeat(1500)));
    }
    assert!(pool.is_empty());
    b.sync().unwrap();
    let (in_a, in_b) = (texts(&a, Position::START), texts(&b, Position::START));
    drop((a, b));
    disk.crash();
    let (a, b) = (log("/a"), log("/b"));
    assert_eq!((texts(&a, Position::START), texts(&b, Position::START)), (in_a, in_b));
}

/// Two logs hand files to each other; power is lost at every operation of the disk. Each has what it acknowledged, in its order.
pub(crate) fn shared_pool_crashed_everywhere() -> Result<u64, String> {
    let disk = SimDisk::new(5);
    let pool = Arc::new(Pool::new(2));
    let options = Options { pool: Some(pool), ..small() };
    let log = |dir: &str| Wal::open(disk.clone(), Path::new(dir), options.clone()).unwrap().wal;
    let logs = [log("/a"), log("/b")];
    // Up to which number each log has acknowledged, and begun to write.
    let known = Arc::new(Mutex::new([[0u32; 2]; 2]));
    let (copies, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&known));
    let into = Arc::clone(&copies);
    disk.set_hook(Some(Arc::new(move |disk: &SimDisk, op, _: &Path| {
        if matches!(op, Op::Read | Op::Open | Op::List | Op::WriteBack) {
            return;
        }
        let (versions, known) = (disk.undecided(), *seen.lock().unwrap());
        let keep = |kept: Vec<u32>| into.lock().unwrap().push((op, disk.crashed(&kept), known));
        keep(versions.iter().map(|_| 0).collect());
        keep(versions.iter().map(|n| n - 1).collect());
        for lost in 0..versions.len().min(12) {
            keep(versions.iter().enumerate().map(|(i, n)| if i == lost { 0 } else { n - 1 }).collect());
        }
    })));
    let mut first = [Position::START; 2];
    for number in 1..=24 {
        for (i, wal) in logs.iter().enumerate() {
            known.lock().unwrap()[i][1] = number;
            let at = put(wal, &format!("{number} {}", "s".repeat(1700)));
            wal.sync().unwrap();
            known.lock().unwrap()[i][0] = number;
            // The one purges while the other one fills what that gives.
            if number / 6 % 2 == i as u32 {
                wal.purge_before(std::mem::replace(&mut first[i], at)).unwrap();
                wal.sync().unwrap();
            }
            drain(wal);
        }
    }
    disk.set_hook(None);
    let copies = std::mem::take(&mut *copies.lock().unwrap());
    let (mut states, options) = (0, small());
    for (op, copy, known) in copies {
        for (dir, [acknowledged, begun]) in ["/a", "/b"].into_iter().zip(known) {
            let opened = Wal::open(copy.clone(), Path::new(dir), options.clone());
            let wal = opened.map_err(|error| format!("power lost at {op:?}: {error}"))?.wal;
            let numbers: Vec<u32> = texts(&wal, Position::START)
                .iter()
                .map(|text| text.split(' ').next().unwrap().parse().unwrap())
                .collect();
            let last = numbers.last().copied().unwrap_or(0);
            if !(acknowledged..=begun).contains(&last)
                || numbers.windows(2).any(|pair| pair[0] + 1 != pair[1])
            {
                return Err(format!(
                    "power lost at {op:?}: {dir} has {numbers:?}, {acknowledged} acknowledged"
                ));
            }
        }
        states += 1;
    }
    if logs.iter().map(|wal| wal.stats().recycled).sum::<u64>() < 5 {
        return Err("the logs shared nothing".to_owned());
    }
    Ok(states)
}

#[test]
fn logs_that_share_a_pool_recover_from_every_crash() {
    let states = shared_pool_crashed_everywhere().unwrap();
    assert!(states > 1000, "{states}");
}

/// Purges and rotations while `op` fails again and again: the folder does not fill with files that nobody uses.
fn fails_while_recycling(op: Op, skip: u64) {
    let disk = SimDisk::new(7);
    let wal = open(&disk, small()).wal;
    let mut most = 0;
    for round in 0..80 {
        let at = put(&wal, &"p".repeat(3000));
        wal.sync().unwrap();
        if round % 3 == 2 {
            wal.purge_before(at).unwrap();
            wal.sync().unwrap();
        }
        disk.fail(op, skip, Fault::Eio);
        for _ in 0..8 {
            wal.step(1 << 20).unwrap();
        }
        disk.heal();
        if round >= 20 {
            most = most.max(disk.paths().len());
        }
    }
    // Live segments, a spare, one being made, the pool.
    assert!(most <= 12, "{op:?} after {skip}: {most} files");
    drain(&wal);
    drop(wal);
    disk.crash();
    assert_eq!(open(&disk, small()).wal.iter(Position::START).filter(Result::is_err).count(), 0);
}

#[test]
fn files_that_cannot_be_recycled_do_not_pile_up() {
    for op in [Op::Rename, Op::SyncDir, Op::Open, Op::Write, Op::Sync, Op::Remove, Op::Create] {
        for skip in 0..3 {
            fails_while_recycling(op, skip);
        }
    }
}

#[test]
fn segments_that_cannot_be_begun_do_not_pile_up() {
    let disk = SimDisk::new(8);
    let wal = open(&disk, Options { spare_segments: 0, ..small() }).wal;
    let mut batch = Batch::new();
    batch.push(1, &[&[b'g'; 9000]]);
    let files = disk.paths();
    for op in [Op::Create, Op::Write, Op::Sync, Op::Rename, Op::SyncDir] {
        for _ in 0..10 {
            disk.fail(op, 0, Fault::Eio);
            assert!(wal.append(&mut batch).is_err(), "{op:?}");
            assert_eq!(disk.paths(), files, "{op:?}");
        }
    }
    // Nor when a file cannot even be removed at that moment.
    for _ in 0..10 {
        disk.fail(Op::SyncDir, 0, Fault::Eio);
        disk.fail(Op::Remove, 0, Fault::Eio);
        disk.fail(Op::Remove, 0, Fault::Eio);
        assert!(wal.append(&mut batch).is_err());
        disk.heal();
        while wal.step(1 << 20).unwrap() == Progress::More {}
        assert_eq!(disk.paths(), files);
    }
    wal.append(&mut batch).unwrap();
    assert_eq!(texts(&wal, Position::START).len(), 1);
}
