//! What watching costs, counted in work and not in time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ketch_wal::SimDisk;

use super::watcher::WatchRequest;
use crate::shared::lock;
use crate::{Applied, KeyRange, Options, Progress, Store, WatchHub};

fn key(i: usize) -> Bytes {
    format!("{i:05}").into()
}

fn store(keys: usize, revisions: usize) -> Store {
    let options = Options { segment_bytes: 1 << 20, watch_window_events: 100, ..Options::default() };
    let mut store = Store::open(SimDisk::new(1), Path::new("/s"), options).unwrap();
    for i in 0..revisions {
        store.txn().put(&key(i % keys), b"v", 0).unwrap();
        if i % 64 == 63 || i + 1 == revisions {
            store.commit(Applied { index: i as u64 + 1, term: 1 }).unwrap();
            store.step(100).unwrap();
        }
    }
    store
}

fn scanned(hub: &WatchHub) -> u64 {
    lock(&hub.front.hub.inner).scanned
}

/// The root of a commit is there a moment before its publication is known here: whoever has read it does not get its events.
#[test]
fn now_is_behind_everything_that_can_be_read() {
    let mut store = store(10, 64);
    let hub = store.hub();
    let stream = hub.stream(Arc::new(|| {}));
    hub.front.hub.publish(store.revision() - 1);
    assert!(stream.watch(1, WatchRequest::new(KeyRange::all())));
    hub.front.hub.publish(store.revision());
    while hub.step(10).unwrap() == Progress::More {}
    assert!(stream.take(10).is_none());
    store.txn().put(b"k", b"v", 0).unwrap();
    store.commit(Applied { index: 100, term: 1 }).unwrap();
    while hub.step(10).unwrap() == Progress::More {}
    let batch = stream.take(10).unwrap();
    assert_eq!(batch.events.iter().map(|event| event.revision()).collect::<Vec<_>>(), [store.revision()]);
}

/// Without streams a commit wakes nobody and keeps nothing for watchers; who opens one afterwards misses nothing.
#[test]
fn commits_do_nothing_for_watchers_that_are_not_there() {
    let mut store = store(10, 64);
    let hub = store.hub();
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    hub.set_notify(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let put = |store: &mut Store, index| {
        store.txn().put(b"k", b"v", 0).unwrap();
        store.commit(Applied { index, term: 1 }).unwrap();
        store.revision()
    };
    let seen = || woken.swap(0, Ordering::SeqCst);
    let first = put(&mut store, 100);
    assert_eq!((seen(), hub.front.hub.window_bytes()), (0, 0));
    let stream = hub.stream(Arc::new(|| {}));
    assert!(seen() > 0, "somebody has to look at what was published meanwhile");
    let request = WatchRequest { start_revision: first, ..WatchRequest::new(KeyRange::all()) };
    assert!(stream.watch(1, request) && stream.watch(2, WatchRequest::new(KeyRange::all())));
    seen();
    let second = put(&mut store, 101);
    assert!(seen() > 0 && hub.front.hub.window_bytes() > 0);
    while hub.step(10).unwrap() == Progress::More {}
    let mut got = Vec::new();
    while let Some(batch) = stream.take(10) {
        got.extend(batch.events.iter().map(|event| (batch.watcher, event.revision())));
    }
    got.sort_unstable();
    assert_eq!(got, [(1, first), (1, second), (2, second)]);
    drop(stream);
    put(&mut store, 102);
    assert_eq!((seen(), hub.front.hub.window_bytes()), (0, 0));
}

/// However many watchers are behind, and wherever each of them starts: the log is read once.
#[test]
fn late_watchers_share_one_scan() {
    const KEYS: usize = 1000;
    const REVISIONS: usize = 10_000;
    let store = store(KEYS, REVISIONS);
    let hub = store.hub();
    let stream = hub.stream(Arc::new(|| {}));
    for i in 0..KEYS {
        let start = if i % 2 == 0 { 2 } else { 3 + i as i64 };
        let request = WatchRequest { start_revision: start, ..WatchRequest::new(KeyRange::Single(key(i))) };
        assert!(stream.watch(i as i64, request));
    }
    assert_eq!(hub.watchers(), (KEYS, KEYS));
    assert!(hub.is_scanning());
    let mut got = 0;
    while hub.step(500).unwrap() == Progress::More {
        while let Some(batch) = stream.take(100) {
            got += batch.events.len();
        }
    }
    assert_eq!(scanned(&hub), REVISIONS as u64);
    assert_eq!(hub.watchers(), (KEYS, 0));
    assert!(!hub.is_scanning());
    assert_eq!(got, REVISIONS - KEYS / 2, "every second one leaves out its key's first change");
    assert_eq!(stream.progress_all(), Some(store.revision()));
}

/// One that comes while a scan is beyond its start waits for that scan, then has another: twice the work, not more.
#[test]
fn late_comers_wait_for_at_most_one_scan() {
    const REVISIONS: usize = 5000;
    let store = store(100, REVISIONS);
    let hub = store.hub();
    let stream = hub.stream(Arc::new(|| {}));
    for i in 0..100 {
        let request = WatchRequest { start_revision: 2, ..WatchRequest::new(KeyRange::Single(key(i))) };
        stream.watch(i as i64, request);
        hub.step(20).unwrap();
        while stream.take(100).is_some() {}
    }
    while hub.step(500).unwrap() == Progress::More {
        while stream.take(100).is_some() {}
    }
    assert!(scanned(&hub) <= 2 * REVISIONS as u64, "{} events read", scanned(&hub));
    assert_eq!(hub.watchers(), (100, 0));
}
