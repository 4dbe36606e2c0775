//! A crash, and a failure, at every operation of the disk: while committing, sealing, syncing, writing a checkpoint,
//! compacting, rewriting segments and opening. Whatever is found afterwards is the state of one commit, none before what
//! was said to be durable, and the store goes on from there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use ketch_mvcc::model::Model;
use ketch_mvcc::{
    Applied, CompactError, Fault, KeyRange, OpenError, Options, Query, Store, TableId, WatchRequest,
    WriteError,
};
use ketch_mvcc::{Cursor, Import, ImportError};
use ketch_wal::SimDisk;
use ketch_wal::sim::{Fault as DiskFault, Op};

use crate::random::Random;

/// What a store held after each commit, and what it had promised.
#[derive(Default)]
struct Record {
    commits: BTreeMap<u64, (Model, Option<Bytes>)>,
    durable: u64,
}

fn options() -> Options {
    Options {
        segment_bytes: 1 << 10,
        checkpoint_versions: 25,
        sync_bytes: 1 << 10,
        rewrite_dead_percent: 20,
        ..Options::default()
    }
}

/// Opens the store and works on it until all is done or the disk gives up.
fn work(disk: &Arc<SimDisk>, seed: u64, record: &mut Record, rounds: u64) -> Result<(), Stop> {
    let mut store = Store::open(disk.clone(), Path::new("/s"), options())?;
    let index = store.applied().index;
    let (mut model, mut table) = record.commits.get(&index).cloned().expect("a state that was committed");
    record.commits.split_off(&(index + 1));
    let mut random = Random::new(seed ^ index);
    for round in index + 1..=index + rounds {
        for _ in 0..1 + random.below(3) {
            let key = [b'a' + random.below(5) as u8];
            let mut txn = store.txn();
            if random.one_in(4) {
                txn.delete_range(&KeyRange::Single(Bytes::copy_from_slice(&key)))?;
                model.delete_range(&KeyRange::Single(Bytes::copy_from_slice(&key)));
            } else {
                let value = vec![round as u8; 60];
                txn.put(&key, &value, 0)?;
                model.put(&key, &value, 0);
            }
            txn.finish();
            model.end_txn();
        }
        if random.one_in(5) {
            let value = Bytes::from(vec![round as u8]);
            store.table_put(TableId(1), Bytes::from_static(b"k"), value.clone());
            table = Some(value);
        }
        if random.one_in(8) && model.compact(model.revision() - 2).is_ok() {
            store.compact(model.revision() - 2).map_err(|error| match error {
                CompactError::Fault(fault) => Stop(fault.to_string()),
                other => panic!("{other}"),
            })?;
        }
        record.commits.insert(round, (model.clone(), table.clone()));
        store.commit(Applied { index: round, term: 1 })?;
        store.step(8)?;
        store.background().step(16)?;
        record.durable = record.durable.max(store.durable_applied().index);
    }
    let watching = store.hub().stream(Arc::new(|| {}));
    watching.watch(1, WatchRequest::new(KeyRange::all()));
    while store.background().step(64)? == ketch_mvcc::Progress::More {}
    record.durable = record.durable.max(store.durable_applied().index);
    Ok(())
}

/// Why the work stopped; the disk's doing.
#[derive(Debug)]
struct Stop(String);

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop(fault.to_string())
    }
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Stop {
        Stop(error.to_string())
    }
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Stop {
        Stop(error.to_string())
    }
}

/// After the trouble: the store opens, holds what one commit held, and works on.
fn verify(disk: &Arc<SimDisk>, record: &mut Record, what: &str) {
    let store =
        Store::open(disk.clone(), Path::new("/s"), options()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let index = store.applied().index;
    assert!(index >= record.durable, "{what}: {index} is before the durable {}", record.durable);
    let (model, table) = record.commits.get(&index).unwrap_or_else(|| panic!("{what}: {index} never was"));
    let view = store.reader().view();
    assert_eq!((view.revision(), view.compacted()), (model.revision(), model.compacted()), "{what}");
    assert_eq!(view.table(TableId(1)).get(b"k"), table.as_ref(), "{what}");
    for revision in model.compacted().max(1)..=model.revision() {
        let query = Query { revision, ..Query::new(KeyRange::all()) };
        assert_eq!(view.range(&query).unwrap(), model.range(&query).unwrap(), "{what}");
        assert_eq!(view.hash(revision).unwrap().hash, model.hash(revision).unwrap(), "{what}");
    }
    drop((store, view));
    work(disk, 77, record, 12).unwrap_or_else(|stop| panic!("{what}, afterwards: {}", stop.0));
}

fn fresh() -> Record {
    Record { commits: BTreeMap::from([(0, (Model::default(), None))]), durable: 0 }
}

const ROUNDS: u64 = 45;

/// How many operations the whole work takes without trouble.
fn operations(seed: u64) -> i64 {
    let disk = SimDisk::new(seed);
    work(&disk, seed, &mut fresh(), ROUNDS).unwrap();
    disk.ops() as i64
}

/// Runs the work once for each operation, with `trouble` there; `deadly`: nothing works after it.
fn at_every_operation(
    seed: u64,
    deadly: bool,
    trouble: impl Fn(&SimDisk, Op) + Send + Sync + Clone + 'static,
    end: fn(&SimDisk),
) {
    let operations = operations(seed);
    assert!(operations > 300, "only {operations} operations: the work is too small to show anything");
    for at in 0..operations {
        let disk = SimDisk::new(seed.wrapping_add(at as u64));
        let mut record = fresh();
        let left = AtomicI64::new(at);
        let trouble = trouble.clone();
        disk.set_hook(Some(Arc::new(move |disk, op, _| {
            match left.fetch_sub(1, Ordering::SeqCst) {
                0 => trouble(disk, op),
                // Nothing runs on after the end.
                past if past < 0 && deadly => disk.fail(op, 0, DiskFault::Eio),
                _ => {}
            }
        })));
        let result = work(&disk, seed, &mut record, ROUNDS);
        disk.set_hook(None);
        disk.heal();
        end(&disk);
        let what = format!("operation {at} of {operations}, {result:?}");
        verify(&disk, &mut record, &what);
        // What the next life built upon must have been durable as well.
        disk.crash();
        verify(&disk, &mut record, &format!("{what}, then a crash"));
    }
}

#[test]
fn power_fails_at_every_operation() {
    at_every_operation(1, true, |disk, _| disk.crash(), |_| {});
}

#[test]
fn the_process_dies_at_every_operation() {
    at_every_operation(2, true, |disk, _| disk.kill(), |_| {});
}

#[test]
fn every_operation_fails_once_and_then_the_power_fails() {
    at_every_operation(3, false, |disk, op| disk.fail(op, 0, DiskFault::Eio), SimDisk::crash);
}

#[test]
fn the_disk_is_full_at_every_operation() {
    at_every_operation(4, false, |disk, op| disk.fail(op, 0, DiskFault::NoSpace), SimDisk::kill);
}

/// The snapshot of a store with some history, and that store.
fn snapshot() -> (Vec<Bytes>, Store) {
    let disk = SimDisk::new(9);
    let mut record = fresh();
    work(&disk, 9, &mut record, 30).unwrap();
    let store = Store::open(disk, Path::new("/s"), options()).unwrap();
    let mut export = store.reader().view().export(Cursor::START);
    let chunks = std::iter::from_fn(|| export.next_chunk(400).unwrap()).map(|chunk| chunk.bytes).collect();
    (chunks, store)
}

fn take_in(disk: &Arc<SimDisk>, chunks: &[Bytes]) -> Result<Store, ImportError> {
    let mut import = Import::begin(disk.clone(), Path::new("/s"), options())?;
    for chunk in chunks {
        import.chunk(chunk)?;
    }
    import.finish()
}

#[test]
fn an_interrupted_import_is_refused_or_complete() {
    let (chunks, sender) = snapshot();
    let whole = sender.reader().view().hash(0).unwrap();
    let disk = SimDisk::new(1);
    drop(take_in(&disk, &chunks).unwrap());
    let operations = disk.ops() as i64;
    let mut complete = 0;
    for at in 0..operations {
        let disk = SimDisk::new(at as u64);
        let left = AtomicI64::new(at);
        disk.set_hook(Some(Arc::new(move |disk, op, _| {
            match left.fetch_sub(1, Ordering::SeqCst) {
                0 => disk.crash(),
                // Nothing runs on after a power failure.
                past if past < 0 => disk.fail(op, 0, DiskFault::Eio),
                _ => {}
            }
        })));
        drop(take_in(&disk, &chunks));
        disk.heal();
        disk.set_hook(None);
        match Store::open(disk.clone(), Path::new("/s"), options()) {
            Err(OpenError::Unfinished { .. }) => {}
            Err(error) => panic!("operation {at}: {error}"),
            // Before the marker was durable nothing had begun.
            Ok(store) if store.revision() == 1 => assert!(at < 12, "operation {at}: an empty store"),
            Ok(store) => {
                assert_eq!(store.reader().view().hash(0).unwrap(), whole, "operation {at}");
                complete += 1;
            }
        }
    }
    assert!(complete > 0 && complete < operations / 2);
}

#[test]
fn a_damaged_or_foreign_chunk_changes_nothing() {
    let (chunks, sender) = snapshot();
    let disk = SimDisk::new(2);
    let mut import = Import::begin(disk.clone(), Path::new("/s"), options()).unwrap();
    for (i, chunk) in chunks.iter().enumerate() {
        let mut damaged = chunk.to_vec();
        let at = i * 7 % damaged.len();
        damaged[at] ^= 4;
        assert!(matches!(import.chunk(&damaged), Err(ImportError::Chunk { .. })));
        if let Some(later) = chunks.get(i + 1) {
            assert!(matches!(import.chunk(later), Err(ImportError::OutOfPlace { .. })));
        }
        import.chunk(chunk).unwrap();
    }
    let store = import.finish().unwrap();
    assert_eq!(store.reader().view().hash(0).unwrap(), sender.reader().view().hash(0).unwrap());
    let again = Import::begin(disk, Path::new("/s"), options());
    assert!(matches!(again, Err(ImportError::NotEmpty { .. })));
}
