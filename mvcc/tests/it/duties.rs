//! Background duties in bad company: long readers, a full disk, tables only, no sync. None of them may stand still, stop the
//! store, or take away what somebody still reads.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use ketch_mvcc::{
    Applied, Import, ImportError, KeyRange, Options, Progress, Query, Store, TableId, WriteTxn,
};
use ketch_wal::sim::Op;
use ketch_wal::{Disk, SimDisk};

fn open(disk: &Arc<SimDisk>, options: Options) -> Store {
    Store::open(disk.clone(), Path::new("/s"), options).unwrap()
}

fn small() -> Options {
    Options { segment_bytes: 16 << 10, checkpoint_versions: 1000, sync_bytes: 8 << 10, ..Options::default() }
}

fn commit(store: &mut Store) {
    let index = store.applied().index + 1;
    store.commit(Applied { index, term: 1 }).unwrap();
    store.step(1000).unwrap();
}

/// `count` commits over `keys` keys.
fn load(store: &mut Store, count: u32, keys: u32, bytes: usize) {
    for i in 0..count {
        store.txn().put(format!("k{:03}", i % keys).as_bytes(), &vec![i as u8; bytes], 0).unwrap();
        commit(store);
    }
}

fn settle(store: &mut Store) {
    for _ in 0..3 {
        commit(store);
        while store.background().step(100).unwrap() == Progress::More {
            store.step(1000).unwrap();
        }
    }
}

fn everything() -> Query {
    Query::new(KeyRange::all())
}

#[test]
fn a_list_that_ends_after_a_compaction_does_not_hold_it_up() {
    let mut store = open(&SimDisk::new(1), small());
    load(&mut store, 50, 10, 1);
    let view = store.reader().view();
    store.compact(40).unwrap();
    commit(&mut store);
    let first = view.range(&Query { limit: 3, ..everything() }).unwrap();
    assert!(first.more);
    drop(view);
    settle(&mut store);
    assert!(store.compaction_progress().is_done(), "{:?}", store.compaction_progress());
    // The list goes on where it was.
    let rest = Query { revision: first.revision, ..everything() };
    assert_eq!(store.reader().view().range(&rest).unwrap().kvs[..3], first.kvs);
}

#[test]
fn a_checkpoint_that_is_replaced_gives_its_room_back_in_slices() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, small());
    // Keys long enough that the checkpoint is more than one slice of 2 MiB.
    for i in 0..80 {
        store.txn().put(format!("{i:040000}").as_bytes(), b"", 0).unwrap();
        commit(&mut store);
    }
    store.background().checkpoint().unwrap();
    let (seen, shortened) = (Arc::new(AtomicU32::new(0)), |seen: &AtomicU32| seen.load(Ordering::Relaxed));
    let count = Arc::clone(&seen);
    disk.set_hook(Some(Arc::new(move |_: &SimDisk, op, path: &Path| {
        // No file that has a name is shortened here but a log's, which lie in a folder of their own.
        if op == Op::SetLen && path.parent() == Some(Path::new("/s")) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    })));
    store.background().checkpoint().unwrap();
    assert_eq!(shortened(&seen), 0, "nobody waits for it");
    let mut before = 0;
    while store.background().step(100).unwrap() == Progress::More {
        assert!(shortened(&seen) <= before + 1, "a step is one slice");
        before = shortened(&seen);
    }
    assert_eq!(shortened(&seen), 2);
    drop(store);
    disk.crash();
    assert_eq!(open(&disk, small()).reader().view().range(&everything()).unwrap().count, 80);
}

#[test]
fn an_iterator_outlives_its_view() {
    let mut store = open(&SimDisk::new(1), Options { ring_revisions: 10, ..small() });
    load(&mut store, 1800, 300, 60);
    let view = store.reader().view();
    let revision = store.revision();
    store.compact(revision - 50).unwrap();
    commit(&mut store);
    let mut iter = view.iter(KeyRange::all(), revision - 400).unwrap();
    assert!(iter.next().unwrap().is_ok());
    drop(view);
    load(&mut store, 900, 300, 60);
    settle(&mut store);
    assert_eq!(iter.map(Result::unwrap).count(), 299);
    settle(&mut store);
    assert!(store.compaction_progress().is_done());
}

#[test]
fn a_replaced_version_can_be_read_as_long_as_it_is_held() {
    let mut store = open(&SimDisk::new(1), small());
    load(&mut store, 600, 300, 60);
    let put = |mut txn: WriteTxn<'_>| txn.put(b"k000", b"new", 0).unwrap().unwrap();
    let previous = put(store.txn());
    commit(&mut store);
    load(&mut store, 600, 300, 60);
    let revision = store.revision();
    store.compact(revision).unwrap();
    settle(&mut store);
    assert_eq!(previous.read().unwrap().value().len(), 60);
    drop(previous);
    settle(&mut store);
    assert!(store.compaction_progress().is_done());
}

#[test]
fn a_full_disk_postpones_what_is_written_beside_the_store() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, small());
    load(&mut store, 3000, 1000, 100);
    store.compact(3000).unwrap();
    commit(&mut store);
    let used = (1u64 << 40) - disk.space(Path::new("/s")).unwrap().free_bytes;
    disk.set_capacity(Some(used + (2 << 10)));
    let background = store.background();
    for _ in 0..3000 {
        background.step(100).unwrap();
    }
    assert!(background.postponed() > 1);
    assert!(background.checkpoint().is_err());
    assert!(!disk.paths().contains(&Path::new("/s/checkpoint.tmp").to_path_buf()), "{:?}", disk.paths());
    assert_eq!(store.reader().view().range(&everything()).unwrap().count, 1000);
    store.txn().put(b"small", b"change", 0).unwrap();
    commit(&mut store);
    let before = store.sizes().physical_bytes;
    disk.set_capacity(None);
    for _ in 0..5000 {
        background.step(100).unwrap();
        store.step(1000).unwrap();
    }
    assert!(store.sizes().physical_bytes < before / 2, "space is given back once there is some to work with");
    drop((store, background));
    assert_eq!(open(&disk, small()).sizes().keys, 1001);
}

#[test]
fn a_store_that_never_syncs_gives_space_back_too() {
    let options = Options { unsafe_no_sync: true, sync_bytes: 1 << 30, ..small() };
    let mut store = open(&SimDisk::new(1), options);
    load(&mut store, 3000, 10, 100);
    let before = store.sizes().physical_bytes;
    store.compact(3000).unwrap();
    settle(&mut store);
    assert!(store.sizes().physical_bytes < before / 5, "{:?}", store.sizes());
}

#[test]
fn a_few_large_values_do_not_pin_what_is_dead_around_them() {
    let options = Options { segment_bytes: 64 << 10, ..small() };
    let mut store = open(&SimDisk::new(1), options);
    for i in 0..2000 {
        let key = if i % 25 == 0 { format!("live{i}") } else { "k".to_owned() };
        store.txn().put(key.as_bytes(), &[1; 2000], 0).unwrap();
        commit(&mut store);
    }
    let revision = store.revision();
    store.compact(revision).unwrap();
    settle(&mut store);
    let sizes = store.sizes();
    assert!(sizes.physical_bytes < 3 * sizes.logical_bytes, "{sizes:?}");
}

/// Commits of tables with a few keys among them: nothing of it piles up.
fn tables(keys_every: u64) {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, small());
    load(&mut store, 1, 1, 1);
    for i in 0..6000u64 {
        if keys_every > 0 && i % keys_every == 0 {
            store.txn().put(format!("live{i}").as_bytes(), b"b", 0).unwrap();
        }
        store.table_put(TableId(3), Bytes::from_static(b"lease"), vec![i as u8; 200].into());
        commit(&mut store);
        if i % 100 == 0 {
            while store.background().step(1000).unwrap() == Progress::More {
                store.step(1000).unwrap();
            }
        }
    }
    settle(&mut store);
    let sizes = store.sizes();
    assert!(sizes.physical_bytes < 10 * sizes.logical_bytes + (64 << 10), "{sizes:?}");
    let hash = store.reader().view().hash(0).unwrap();
    drop(store);
    let store = open(&disk, small());
    assert_eq!(store.reader().view().hash(0).unwrap(), hash);
    assert_eq!(store.table(TableId(3)).len(), 1);
    assert_eq!(store.sizes().keys, 1 + 6000u64.checked_div(keys_every).unwrap_or(0));
}

#[test]
fn tables_alone_do_not_pile_up() {
    tables(0);
}

#[test]
fn tables_with_a_few_keys_do_not_pile_up() {
    tables(50);
}

#[test]
fn a_folder_with_a_store_is_not_imported_into() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, small());
    load(&mut store, 20, 5, 10);
    store.background().sync().unwrap();
    drop(store);
    let refused = Import::begin(disk.clone(), Path::new("/s"), small());
    assert!(matches!(refused, Err(ImportError::NotEmpty { .. })));
    assert_eq!(open(&disk, small()).revision(), 21);
}

/// A restart in the middle of compactions, rewrites and checkpoints forgets nothing that is dead.
#[test]
fn what_is_dead_is_given_back_after_restarts_too() {
    let disk = SimDisk::new(1);
    let options = || Options { checkpoint_versions: 200, ..small() };
    let mut store = open(&disk, options());
    for round in 0..12 {
        for i in 0..300 {
            store.txn().put(format!("k{:03}", (i * 7 + round * 13) % 500).as_bytes(), &[1; 60], 0).unwrap();
            commit(&mut store);
            if i % 3 == 0 {
                store.background().step(40).unwrap();
            }
        }
        let revision = store.revision();
        store.compact(revision - 50).unwrap();
        commit(&mut store);
        for _ in 0..round * 3 {
            store.background().step(40).unwrap();
            store.step(100).unwrap();
        }
        let before = store.reader().view().hash(0).unwrap();
        drop(store);
        store = open(&disk, options());
        assert_eq!(store.reader().view().hash(0).unwrap(), before);
    }
    store.txn().delete_range(&KeyRange::all()).unwrap();
    commit(&mut store);
    for _ in 0..3 {
        load(&mut store, 2, 1, 1);
        let revision = store.revision();
        store.compact(revision).unwrap();
        settle(&mut store);
        store.background().checkpoint().unwrap();
        settle(&mut store);
    }
    assert!(store.sizes().physical_bytes < 40 << 10, "{:?}", store.sizes());
    assert_eq!(store.sizes().revisions, 1);
}
