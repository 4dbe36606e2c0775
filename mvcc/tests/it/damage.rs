//! Damage that a running store meets in its files: noticed by whoever reads the record first, whatever way that is.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ketch_mvcc::{
    Applied, Cursor, Fault, FaultKind, KeyRange, Options, Progress, Query, ReadError, Store, WatchRequest,
};
use ketch_wal::RealDisk;

const DAMAGED: &str = "k13";

fn open(dir: &Path) -> Store {
    Store::open(Arc::new(RealDisk), dir, Options { watch_window_events: 0, ..Options::default() }).unwrap()
}

/// A store of keys that nobody has read, one of whose values has a flipped bit in the file.
fn damaged(dir: &Path) -> Store {
    let mut store = open(dir);
    for i in 0..40 {
        store.txn().put(format!("k{i:02}").as_bytes(), format!("value {i:02}").as_bytes(), 0).unwrap();
        store.commit(Applied { index: i + 1, term: 1 }).unwrap();
    }
    store.background().sync().unwrap();
    flip(dir);
    store
}

/// Flips a bit of the damaged key's value, or flips it back.
fn flip(dir: &Path) {
    assert_eq!(flip_all(dir, b"alue 13"), 1);
}

/// Flips a bit of the byte before each `behind` in the log; how many there were.
fn flip_all(dir: &Path, behind: &[u8]) -> usize {
    let mut flipped = 0;
    for entry in std::fs::read_dir(dir.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for at in (1..bytes.len()).filter(|&at| bytes[at..].starts_with(behind)) {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[bytes[at - 1] ^ 0x80], at as u64 - 1).unwrap();
            flipped += 1;
        }
    }
    flipped
}

fn is_damage<T: std::fmt::Debug>(found: Result<T, Fault>) {
    let fault = found.unwrap_err();
    assert!(matches!(fault.kind(), FaultKind::Log { .. }), "{fault}");
}

type Way = fn(&Store) -> Result<(), Fault>;

#[test]
fn whoever_reads_it_first_notices() {
    let everything = || Query::new(KeyRange::all());
    let of = |found: Result<_, ReadError>| match found {
        Err(ReadError::Fault(fault)) => Err(fault),
        other => Ok(other.unwrap()),
    };
    let ways: [Way; 3] = [
        |store| store.reader().view().get(DAMAGED.as_bytes()).map(drop),
        |store| {
            let mut iter = store.reader().view().iter(KeyRange::all(), 0).unwrap();
            iter.try_for_each(|next| next.map(drop))
        },
        |store| {
            let mut export = store.reader().view().export(Cursor::START);
            while export.next_chunk(100)?.is_some() {}
            Ok(())
        },
    ];
    for way in ways {
        let dir = tempfile::tempdir().unwrap();
        is_damage(way(&damaged(dir.path())));
    }
    let dir = tempfile::tempdir().unwrap();
    let store = damaged(dir.path());
    let view = store.reader().view();
    is_damage(of(view.range(&everything())));
    is_damage(of(view.visit(&everything(), |_| {})));
    // The other records are good, and what needs no value is answered.
    assert_eq!(view.get(b"k14").unwrap().unwrap().value(), "value 14");
    assert_eq!(view.range(&Query { keys_only: true, ..everything() }).unwrap().kvs.len(), 40);
    assert_eq!(view.count(&KeyRange::all(), 0).unwrap(), 40);
}

/// The index answers without values for the newest revision, for kept roots, and for keys that have not changed since any other:
/// here no record could be read. A key that has changed since needs its record, which is verified like any other.
#[test]
fn keys_without_values_do_not_need_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { watch_window_events: 0, ring_roots: 0, ..Options::default() };
    let mut store = Store::open(Arc::new(RealDisk), dir.path(), options).unwrap();
    let round = |store: &mut Store| {
        for i in 0..40 {
            let value = format!("value {i:02}");
            store.txn().put(format!("k{i:02}").as_bytes(), value.as_bytes(), 0).unwrap();
            let index = store.applied().index + 1;
            store.commit(Applied { index, term: 1 }).unwrap();
        }
    };
    let keys = |store: &Store, revision, (from, to): (&'static str, &'static str), limit| {
        let range =
            KeyRange::from_wire(Bytes::from_static(from.as_bytes()), Bytes::from_static(to.as_bytes()));
        let query = Query { revision, limit, keys_only: true, ..Query::new(range) };
        store.reader().view().range(&query)
    };
    round(&mut store);
    let first = keys(&store, 0, ("k00", "l"), 10).unwrap();
    assert!(first.more, "its root is kept for the next page");
    round(&mut store);
    store.background().sync().unwrap();
    assert_eq!(flip_all(dir.path(), b"alue "), 80);

    assert_eq!(keys(&store, 0, ("k00", "l"), 0).unwrap().kvs.len(), 40);
    let second = keys(&store, first.revision, ("k10", "l"), 0).unwrap();
    assert_eq!((second.kvs.len(), second.count), (30, 30));
    assert!(second.kvs.iter().all(|kv| kv.version() == 1 && kv.mod_revision() <= first.revision));
    // No root of this revision was kept. The first twenty keys are as they were then.
    let between = first.revision + 20;
    let unchanged = keys(&store, between, ("k00", "k20"), 0).unwrap();
    assert_eq!(unchanged.kvs.len(), 20);
    assert!(unchanged.kvs.iter().all(|kv| kv.version() == 2 && kv.as_wire().len() < 20));
    match keys(&store, between, ("k20", "l"), 0) {
        Err(ReadError::Fault(fault)) => is_damage::<()>(Err(fault)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_watcher_and_a_compaction_notice_and_stop_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = damaged(dir.path());
    let hub = store.hub();
    let stream = hub.stream(Arc::new(|| {}));
    stream.watch(1, WatchRequest { start_revision: 2, ..WatchRequest::new(KeyRange::all()) });
    is_damage(loop {
        match hub.step(5) {
            Ok(Progress::More) => {}
            other => break other,
        }
    });
    assert!(store.reader().view().get(b"k00").is_err());

    let dir = tempfile::tempdir().unwrap();
    let mut store = damaged(dir.path());
    store.txn().delete_range(&KeyRange::Single(Bytes::from_static(DAMAGED.as_bytes()))).unwrap();
    store.commit(Applied { index: 100, term: 1 }).unwrap();
    store.compact(store.revision()).unwrap();
    store.commit(Applied { index: 101, term: 1 }).unwrap();
    is_damage(loop {
        match store.background().step(5) {
            Ok(Progress::More) => {}
            other => break other,
        }
    });
    assert!(store.commit(Applied { index: 102, term: 1 }).is_err());
}

#[test]
fn every_opening_verifies_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = damaged(dir.path());
    flip(dir.path());
    let found = store.reader().view().range(&Query::new(KeyRange::all())).unwrap();
    assert_eq!(found.kvs.len(), 40);
    store.background().checkpoint().unwrap();
    store.txn().put(b"z", b"last", 0).unwrap();
    store.commit(Applied { index: 100, term: 1 }).unwrap();
    store.background().sync().unwrap();
    drop((store, found));
    flip(dir.path());
    // Recovery may already refuse the log; if it does not read so far back, the first read does.
    if let Ok(store) = Store::open(Arc::new(RealDisk), dir.path(), Options::default()) {
        is_damage(store.reader().view().get(DAMAGED.as_bytes()));
    }
}
