//! Transfers that are cut off, go on, begin anew, are installed, refused and forgotten.

use ketch_mvcc::{Applied, Held};
use ketch_raft::ConfState;
use ketch_wal::SimDisk;

use super::*;
use crate::datadir::DataDir;

const DIR: &str = "/member";

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta { index, term: 2, conf_state: ConfState::of_voters([1, 2]) }
}

/// The chunks of a store that ends with entry `index` and holds so many keys.
fn chunks(index: u64) -> Vec<Vec<u8>> {
    chunks_after(index, &Held::NOTHING)
}

/// What a receiver that has `held` is missing of it.
fn chunks_after(index: u64, held: &Held) -> Vec<Vec<u8>> {
    chunks_of(index, 7, held)
}

/// The same where every value is of this byte.
fn chunks_of(index: u64, byte: u8, held: &Held) -> Vec<Vec<u8>> {
    let disk: Arc<dyn Disk> = SimDisk::new(9);
    let mut store = Store::open(disk, Path::new("/sender"), Options::default()).unwrap();
    for key in 1..=index {
        let mut txn = store.txn();
        txn.put(format!("key {key}").as_bytes(), &[byte; 100], 0).unwrap();
        store.commit(Applied { index: key, term: 2 }).unwrap();
    }
    let mut export = store.reader().view().export_after(held);
    std::iter::from_fn(|| export.next_chunk(512).unwrap().map(|chunk| chunk.bytes.to_vec())).collect()
}

fn staging(disk: &Arc<SimDisk>, half: Half) -> Staging {
    let disk: Arc<dyn Disk> = Arc::<SimDisk>::clone(disk);
    Staging::new(disk, Path::new(DIR), half, Options::default())
}

fn take_in(staging: &Staging, index: u64) {
    let mut incoming = staging.begin(&meta(index)).unwrap();
    chunks(index).iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
    staging.finish(incoming).unwrap();
}

#[test]
fn a_transfer_that_was_cut_off_goes_on_also_with_another_sender() {
    let disk = SimDisk::new(1);
    let staging = staging(&disk, Half::First);
    let chunks = chunks(30);
    let mut incoming = staging.begin(&meta(30)).unwrap();
    chunks[..3].iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
    assert!(matches!(staging.begin(&meta(30)), Err(StageError::Busy)), "one at a time");
    let held = incoming.held();
    staging.suspend(incoming);
    let mut incoming = staging.begin(&meta(30)).unwrap();
    assert_eq!(incoming.held(), held);
    incoming.chunk(&chunks[3]).unwrap();
    let held = incoming.held();
    staging.suspend(incoming);
    // Another sender has a newer one. It is cut off before it has said anything, and goes on then.
    staging.suspend(staging.begin(&meta(40)).unwrap());
    let mut incoming = staging.begin(&meta(40)).unwrap();
    assert_eq!(incoming.held(), held);
    let rest = chunks_after(40, &held);
    assert!(rest.len() < self::chunks(40).len() - 2);
    rest.iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
    assert_eq!(incoming.times_gone_on(), 1);
    staging.finish(incoming).unwrap();
    let store = staging.install(&meta(40)).unwrap().unwrap();
    assert_eq!((store.applied().index, store.revision()), (40, 41));
}

#[test]
fn a_transfer_waits_for_the_one_before_it_to_be_cut_off() {
    let staging = staging(&SimDisk::new(4), Half::First);
    let mut first = staging.begin(&meta(30)).unwrap();
    chunks(30)[..3].iter().for_each(|chunk| first.chunk(chunk).unwrap());
    let held = first.held();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| staging.begin_in_turn(&meta(40), Duration::from_secs(60)));
        staging.suspend(first);
        assert_eq!(second.join().unwrap().unwrap().held(), held);
    });
}

#[test]
fn a_sender_that_cannot_go_on_begins_anew() {
    let staging = staging(&SimDisk::new(5), Half::First);
    let mut incoming = staging.begin(&meta(30)).unwrap();
    chunks(30)[..4].iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
    staging.suspend(incoming);
    take_in(&staging, 12);
    assert_eq!(staging.install(&meta(12)).unwrap().unwrap().revision(), 13);
}

#[test]
fn what_was_staged_of_a_history_that_never_was_is_found_out() {
    let staging = staging(&SimDisk::new(6), Half::First);
    let mut incoming = staging.begin(&meta(30)).unwrap();
    chunks_of(30, 8, &Held::NOTHING)[..3].iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
    let held = incoming.held();
    staging.suspend(incoming);
    let mut incoming = staging.begin(&meta(40)).unwrap();
    chunks_after(40, &held).iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
    let refused = staging.finish(incoming);
    assert!(matches!(refused, Err(StageError::Import(ImportError::Different { .. }))), "{refused:?}");
    // The next attempt begins with nothing.
    assert_eq!(staging.begin(&meta(40)).unwrap().held(), Held::NOTHING);
}

#[test]
fn what_is_installed_survives_a_crash_and_the_next_one_takes_the_other_half() {
    let disk = SimDisk::new(2);
    drop(DataDir::open(&*disk, Path::new(DIR)).unwrap());
    let first = staging(&disk, Half::First);
    take_in(&first, 20);
    assert!(first.offer(&meta(20)));
    assert!(matches!(first.begin(&meta(30)), Err(StageError::Busy)), "one waits to be installed");
    assert!(first.install(&meta(19)).unwrap().is_none());
    assert_eq!(first.install(&meta(20)).unwrap().unwrap().applied().index, 20);
    assert!(matches!(first.begin(&meta(30)), Err(StageError::Busy)), "the old store may still be written to");
    first.taken_over();
    take_in(&first, 30);
    drop(first);
    disk.crash();
    let dir = DataDir::open(&*disk, Path::new(DIR)).unwrap();
    let half = dir.current(&*disk).unwrap();
    assert_eq!(half, Half::Second);
    // The log recorded the second one before the crash, or did not.
    let again = staging(&disk, half);
    assert!(matches!(again.roll_forward(&meta(31)), Err(RollForwardError::Other { found: 30, .. })));
    assert_eq!(again.roll_forward(&meta(30)).unwrap().applied().index, 30);
    assert_eq!(dir.current(&*disk).unwrap(), Half::First);
}

/// Its sender was cut off before raft was told, or is an older leader: the member needs the next one all the same.
#[test]
fn a_snapshot_that_raft_does_not_take_makes_room() {
    let staging = staging(&SimDisk::new(7), Half::First);
    take_in(&staging, 20);
    take_in(&staging, 30);
    assert!(!staging.offer(&meta(20)), "too late: raft must not take what is not here");
    assert!(staging.offer(&meta(30)));
    assert!(matches!(staging.begin(&meta(40)), Err(StageError::Busy)), "raft may have recorded it");
    staging.turn_away(&meta(20));
    staging.tidy(10);
    assert!(matches!(staging.begin(&meta(40)), Err(StageError::Busy)), "it was another one");
    staging.turn_away(&meta(30));
    take_in(&staging, 40);
    assert!(staging.offer(&meta(40)));
    assert_eq!(staging.install(&meta(40)).unwrap().unwrap().applied().index, 40);
}

#[test]
fn what_a_refused_transfer_brought_is_cleared_away_and_a_store_in_use_is_not() {
    let disk = SimDisk::new(8);
    drop(DataDir::open(&*disk, Path::new(DIR)).unwrap());
    let staging = staging(&disk, Half::First);
    let [first, second] = [Half::First, Half::Second].map(|half| Path::new(DIR).join(half.folder()));
    let mut incoming = staging.begin(&meta(30)).unwrap();
    incoming.chunk(&chunks(30)[0]).unwrap();
    staging.tidy(10);
    assert_ne!(disk.list(&second).unwrap(), [""; 0], "it is under way");
    drop(incoming);
    staging.tidy(10);
    assert_eq!(disk.list(&second).unwrap(), [""; 0]);
    // The old store may still write until it has been taken over.
    disk.create_dir_all(&first).unwrap();
    drop(disk.create(&first.join("in use")).unwrap());
    take_in(&staging, 20);
    let store = staging.install(&meta(20)).unwrap();
    staging.tidy(20);
    assert_eq!(disk.list(&first).unwrap(), ["in use"]);
    staging.taken_over();
    staging.tidy(20);
    assert_eq!(disk.list(&first).unwrap(), [""; 0]);
    drop(store);
}

#[test]
fn content_that_is_not_what_was_announced_is_given_up() {
    let disk = SimDisk::new(3);
    let staging = staging(&disk, Half::First);
    let mut incoming = staging.begin(&meta(21)).unwrap();
    chunks(20).iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
    let refused = staging.finish(incoming);
    assert!(matches!(refused, Err(StageError::Mismatch { announced: 21, found: 20 })));
    let mut incoming = staging.begin(&meta(20)).unwrap();
    incoming.chunk(&chunks(20)[0]).unwrap();
    assert!(matches!(staging.finish(incoming), Err(StageError::Import(_))), "it is incomplete");
    take_in(&staging, 20);
    staging.tidy(20);
    assert!(staging.install(&meta(20)).unwrap().is_none());
}
