//! Cases that random histories are too small for.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ketch_mvcc::model::Model;
use ketch_mvcc::{
    Applied, Chunk, Cursor, Import, KeyRange, KeyValue, OpenError, Options, Progress, Query, Store, TableId,
    WriteError,
};
use ketch_wal::SimDisk;

use crate::random::Random;

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

fn put(store: &mut Store, key: &str, value: &[u8]) {
    store.txn().put(key.as_bytes(), value, 0).unwrap();
}

fn settle(store: &mut Store) {
    commit(store);
    while store.background().step(100).unwrap() == Progress::More {
        store.step(1000).unwrap();
    }
}

/// Counts at older revisions of many keys, without a kept root near them.
pub(crate) fn old_counts() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, Options { ring_roots: 0, ..small() });
    let (mut model, mut random) = (Model::default(), Random::new(5));
    for _ in 0..700 {
        let key = format!("{:03}", random.below(300));
        if random.one_in(4) {
            let range = KeyRange::Single(Bytes::from(key));
            store.txn().delete_range(&range).unwrap();
            model.delete_range(&range);
        } else {
            put(&mut store, &key, b"v");
            model.put(key.as_bytes(), b"v", 0);
        }
        model.end_txn();
    }
    commit(&mut store);
    let view = store.reader().view();
    for behind in 0..60 {
        let revision = model.revision() - behind;
        for range in [KeyRange::all(), KeyRange::prefix("1"), KeyRange::prefix("20")] {
            let query = Query { revision, count_only: true, ..Query::new(range.clone()) };
            let expected = model.range(&query).unwrap().count;
            assert_eq!(view.count(&range, revision).unwrap(), expected, "{behind} behind");
        }
    }
}

/// After a compaction the files shrink by themselves, and nothing that is alive is lost.
pub(crate) fn files_shrink() {
    let disk = SimDisk::new(2);
    let mut store = open(&disk, small());
    for i in 0..3000 {
        put(&mut store, &format!("{}", i % 7), &[i as u8; 200]);
        if i % 50 == 0 {
            commit(&mut store);
        }
    }
    settle(&mut store);
    let before = store.sizes();
    let revision = store.revision();
    store.compact(revision).unwrap();
    settle(&mut store);
    let after = store.sizes();
    assert!(store.compaction_progress().is_done());
    assert_eq!((after.keys, after.revisions), (7, 7));
    assert!(after.logical_bytes * 100 < before.logical_bytes, "{after:?} after {before:?}");
    assert!(after.physical_bytes * 5 < before.physical_bytes, "{after:?} after {before:?}");
    let found = store.reader().view().range(&Query::new(KeyRange::all())).unwrap();
    drop(store);
    let store = open(&disk, small());
    assert_eq!(store.reader().view().range(&Query::new(KeyRange::all())).unwrap(), found);
    assert_eq!(store.sizes().revisions, 7);
}

#[test]
fn counts_at_older_revisions() {
    old_counts();
}

/// More keys came into being since than there are now.
#[test]
fn an_old_count_is_right_when_most_keys_are_newer() {
    let disk = SimDisk::new(4);
    let mut store = open(&disk, Options { ring_roots: 0, ..small() });
    (0..400).for_each(|i| put(&mut store, &format!("{i:03}"), b"v"));
    store.txn().delete_range(&KeyRange::prefix("0")).unwrap();
    commit(&mut store);
    let view = store.reader().view();
    for revision in [1, 2, 12, 13, 399, 400, 401] {
        assert_eq!(view.count(&KeyRange::all(), revision).unwrap(), revision.unsigned_abs() - 1);
    }
    assert_eq!(view.count(&KeyRange::all(), 402).unwrap(), 300);
}

#[test]
fn files_shrink_by_themselves() {
    files_shrink();
}

#[test]
fn a_list_read_page_by_page_stays_at_its_revision() {
    let disk = SimDisk::new(3);
    let mut store = open(&disk, Options { ring_roots: 0, ..small() });
    (0..1000).for_each(|i| put(&mut store, &format!("{i:04}"), b"old"));
    commit(&mut store);
    let first = Query { limit: 100, ..Query::new(KeyRange::all()) };
    let page = store.reader().view().range(&first).unwrap();
    let revision = page.revision;
    let mut keys: Vec<Bytes> = page.kvs.iter().map(KeyValue::key).collect();
    for i in 0..2000 {
        put(&mut store, &format!("{:04}", i % 1500), b"new");
        commit(&mut store);
    }
    while keys.len() < 1000 {
        let mut from = keys.last().unwrap().to_vec();
        from.push(0);
        let range = KeyRange::from_wire(from.into(), Bytes::from_static(b"\0"));
        let page = store.reader().view().range(&Query { revision, limit: 100, ..Query::new(range) }).unwrap();
        assert_eq!(page.count as usize, 1000 - keys.len());
        assert!(page.kvs.iter().all(|kv| &kv.value()[..] == b"old"));
        keys.extend(page.kvs.iter().map(KeyValue::key));
        assert_eq!(page.more, keys.len() < 1000);
    }
    assert!(keys.is_sorted() && keys.len() == 1000);
}

#[test]
fn a_pinned_view_delays_unlinking_and_nothing_else() {
    let disk = SimDisk::new(4);
    let mut store = open(&disk, small());
    for i in 0..800 {
        put(&mut store, &format!("{}", i % 5), &[i as u8; 200]);
    }
    commit(&mut store);
    let view = store.reader().view();
    let old = Query { revision: 100, ..Query::new(KeyRange::all()) };
    let before = view.range(&old).unwrap();
    let revision = store.revision();
    store.compact(revision).unwrap();
    settle(&mut store);
    let (kept, size) = (view.range(&old).unwrap(), store.sizes().physical_bytes);
    assert_eq!(kept.kvs, before.kvs);
    drop(view);
    settle(&mut store);
    assert!(store.sizes().physical_bytes < size / 2);
}

#[test]
fn readers_on_other_threads_see_whole_batches_in_order() {
    let disk = SimDisk::new(5);
    let mut store = open(&disk, small());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (reader, stop) = (store.reader(), &stop);
            scope.spawn(move || {
                let mut last = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let view = reader.view();
                    assert!(view.revision() >= last, "time went back");
                    last = view.revision();
                    let found = view.range(&Query::new(KeyRange::all())).unwrap();
                    // Every batch writes all keys with one value.
                    let values: Vec<Bytes> = found.kvs.iter().map(KeyValue::value).collect();
                    assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "half a batch is visible");
                    assert_eq!(found.count as usize, values.len());
                }
            });
        }
        let background = store.background();
        let stop_too = &stop;
        scope.spawn(move || {
            while !stop_too.load(std::sync::atomic::Ordering::Relaxed) {
                background.step(50).unwrap();
            }
        });
        for round in 0..400u32 {
            (0..20).for_each(|key| put(&mut store, &format!("{key}"), &round.to_le_bytes()));
            commit(&mut store);
            if round % 50 == 49 {
                let revision = store.revision() - 10;
                store.compact(revision).unwrap();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// A flipped bit anywhere is noticed: at the start, or when the byte is read. It is never served.
#[test]
fn damage_is_never_served() {
    let disk = SimDisk::new(6);
    let mut store = open(&disk, Options { segment_bytes: 2 << 10, ..small() });
    for i in 0..120 {
        put(&mut store, &format!("{:02}", i % 30), &[i as u8; 50]);
        commit(&mut store);
    }
    store.background().checkpoint().unwrap();
    put(&mut store, "last", b"tail");
    commit(&mut store);
    store.background().sync().unwrap();
    let expected = store.reader().view().range(&Query::new(KeyRange::all())).unwrap();
    drop(store);
    let mut random = Random::new(8);
    for path in disk.paths() {
        let Some(len) = disk.content(&path).map(|content| content.len() as u64).filter(|len| *len > 0) else {
            continue;
        };
        for _ in 0..40 {
            let bit = random.below(len * 8);
            assert!(disk.flip_bit(&path, bit));
            if let Ok(store) =
                Store::open(disk.clone(), Path::new("/s"), Options { read_only: true, ..small() })
            {
                match store.reader().view().range(&Query::new(KeyRange::all())) {
                    // A flip in the very last batch looks like a torn tail; elsewhere nothing may be missing.
                    Ok(found) => assert!(
                        found == expected || found.revision == expected.revision - 1,
                        "bit {bit} of {}",
                        path.display()
                    ),
                    Err(error) => drop(error),
                }
            }
            disk.flip_bit(&path, bit);
        }
    }
}

/// A flip in the log's last batch looks like a torn tail to the log; the checkpoint knows that the batch was there. Nothing is cut, however
/// often the store is started: every opening that goes on makes the log longer, and one day it would have been long enough.
#[test]
fn a_log_that_ends_before_its_checkpoint_is_left_alone() {
    let disk = SimDisk::new(8);
    let mut store = open(&disk, small());
    for i in 1..=9 {
        store.txn().put(b"k", format!("value {i}").as_bytes(), 0).unwrap();
        store.commit(Applied { index: i, term: 1 }).unwrap();
    }
    store.background().checkpoint().unwrap();
    drop(store);
    disk.kill();
    let is_log = |path: &std::path::PathBuf| path.starts_with("/s/log") && path.extension().is_some();
    let (path, at) = disk
        .paths()
        .into_iter()
        .filter(is_log)
        .find_map(|path| {
            let content = disk.content(&path).unwrap();
            let at = content.windows(7).position(|bytes| bytes == b"value 9")?;
            Some((path, at as u64))
        })
        .unwrap();
    disk.flip_bit(&path, 8 * at);
    let before = disk.digest();
    for start in 0..40 {
        let error = Store::open(disk.clone(), Path::new("/s"), small()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "start {start}: {error}");
        disk.kill();
    }
    assert_eq!(disk.digest(), before);
    disk.flip_bit(&path, 8 * at);
    let store = open(&disk, small());
    assert_eq!(store.reader().view().get(b"k").unwrap().unwrap().value(), "value 9");
}

#[test]
fn a_directory_of_another_format_is_refused() {
    let disk = SimDisk::new(7);
    drop(open(&disk, small()));
    disk.put(Path::new("/s/checkpoint"), b"something else entirely");
    let error = Store::open(disk.clone(), Path::new("/s"), small()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let mut newer = b"KETCHCKP".to_vec();
    newer.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
    disk.put(Path::new("/s/checkpoint"), &newer);
    let error = Store::open(disk, Path::new("/s"), small()).unwrap_err();
    assert!(matches!(error, OpenError::Version { found: 9, .. }), "{error}");
}

/// A checkpoint of many large keys and table entries: its chunks are cut by bytes, not by number alone.
#[test]
fn large_keys_and_tables_make_a_checkpoint_that_loads() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, Options::default());
    let large = |number: u32| [&number.to_be_bytes()[..], &vec![b'k'; 1_400_000]].concat();
    for number in 0..100 {
        store.txn().put(&large(number), b"v", 0).unwrap();
        store.table_put(TableId(1), large(number).into(), Bytes::new());
        commit(&mut store);
    }
    store.background().checkpoint().unwrap();
    drop(store);
    let store = open(&disk, Options::default());
    let everything = Query { keys_only: true, ..Query::new(KeyRange::all()) };
    assert_eq!(store.reader().view().range(&everything).unwrap().kvs.len(), 100);
    assert_eq!(store.table(TableId(1)).len(), 100);
}

/// Whoever deletes everything and compacts up to there has room again, though the tombstones stay for watches.
#[test]
fn an_emptied_store_is_empty() {
    let disk = SimDisk::new(5);
    let mut store = open(&disk, small());
    let empty = store.sizes().logical_bytes;
    for number in 0..2000u32 {
        put(&mut store, &format!("key{number}"), b"value");
    }
    commit(&mut store);
    let everything = KeyRange::from_wire("\0".into(), "\0".into());
    store.txn().delete_range(&everything).unwrap();
    commit(&mut store);
    let revision = store.revision();
    store.compact(revision).unwrap();
    settle(&mut store);
    assert_eq!((store.sizes().logical_bytes, store.logical_bytes()), (empty, empty));
    drop(store);
    assert_eq!(open(&disk, small()).logical_bytes(), empty);
}

/// A snapshot that begins another history: raft begins anew, and revisions go on far above the old ones.
#[test]
fn snapshots_begin_other_histories() {
    for bump in [0u64, 1, 1_000_000] {
        let (disk, other) = (SimDisk::new(3), SimDisk::new(4));
        let mut store = open(&disk, small());
        for number in 0..300u32 {
            put(&mut store, &format!("key{:02}", number % 40), format!("{number}").as_bytes());
            if number % 7 == 0 {
                let gone = KeyRange::from_wire(format!("key{:02}", number % 11).into(), Bytes::new());
                store.txn().delete_range(&gone).unwrap();
            }
            commit(&mut store);
        }
        store.compact(200).unwrap();
        store.table_put(TableId(1), Bytes::from_static(b"old"), Bytes::from_static(b"x"));
        settle(&mut store);
        let (revision, everything) =
            (store.revision(), Query::new(KeyRange::from_wire("\0".into(), "\0".into())));
        let before = store.reader().view().range(&everything).unwrap();

        let mut import = Import::begin(other.clone(), Path::new("/s"), small()).unwrap();
        let mut export = store.reader().view().export(Cursor::START);
        while let Some(chunk) = export.next_chunk(500).unwrap() {
            let head = Chunk::inspect(&chunk.bytes).unwrap();
            assert_eq!(
                (head.revision, head.next, head.hash.is_some()),
                (revision, chunk.next, chunk.next.is_done())
            );
            import.chunk(&chunk.bytes).unwrap();
        }
        assert_eq!(import.table(TableId(1)).len(), 1);
        import.table_delete(TableId(1), b"old");
        import.table_put(TableId(1), Bytes::from_static(b"new"), Bytes::from_static(b"y"));
        drop(import.finish_as(Applied::default(), bump).unwrap());
        other.crash();

        let mut store = open(&other, small());
        assert_eq!((store.revision(), store.applied()), (revision + bump as i64, Applied::default()));
        assert_eq!(store.compacted(), if bump == 0 { 200 } else { revision + bump as i64 });
        let tables: Vec<_> = store.table(TableId(1)).iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(tables, ["new"]);
        put(&mut store, "key00", b"later");
        settle(&mut store);
        assert_eq!(store.revision(), revision + bump as i64 + 1);
        let at = Query { revision: store.revision() - 1, ..everything.clone() };
        assert_eq!(store.reader().view().range(&at).unwrap().kvs, before.kvs, "bump {bump}");
        if bump > 0 {
            let at = Query { revision, ..everything.clone() };
            assert!(store.reader().view().range(&at).is_err(), "older revisions are compacted");
        }
        let hash = store.reader().view().hash(0).unwrap();
        drop(store);
        let store = open(&other, small());
        assert_eq!(store.reader().view().hash(0).unwrap(), hash, "bump {bump}");
        assert_eq!(store.compacted(), if bump == 0 { 200 } else { revision + bump as i64 });
    }
}

/// What the next commit writes is known beforehand, and what is too much for a transaction is refused before it changes
/// anything.
#[test]
fn limits_are_typed_and_change_nothing() {
    let mut store = open(&SimDisk::new(1), small());
    assert_eq!(store.pending_bytes(), 0);
    assert!(matches!(store.txn().put(b"", b"v", 0), Err(WriteError::EmptyKey)));
    let huge = vec![0; 64 << 20];
    assert!(matches!(store.txn().put(b"k", &huge, 0), Err(WriteError::RecordTooLarge { .. })));
    assert!(matches!(store.txn().put(&huge, b"v", 0), Err(WriteError::RecordTooLarge { .. })));
    drop(huge);
    assert_eq!((store.revision(), store.pending_bytes()), (1, 0));
    let value = vec![1; 1000];
    for i in 0..50u32 {
        let before = store.pending_bytes();
        store.txn().put(&i.to_be_bytes(), &value, 0).unwrap();
        assert!((1000..1200).contains(&(store.pending_bytes() - before)));
    }
    store.table_put(TableId(1), Bytes::from_static(b"k"), value.into());
    let (pending, before) = (store.pending_bytes(), store.sizes().physical_bytes);
    assert!((51_000..60_000).contains(&pending));
    commit(&mut store);
    assert!((pending..pending + 8192).contains(&(store.sizes().physical_bytes - before)));
    assert_eq!(store.pending_bytes(), 0);
}
