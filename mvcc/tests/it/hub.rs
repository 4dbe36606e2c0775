//! The watch hub under load: bounded memory for slow consumers, progress with several threads, no wake-up lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use ketch_mvcc::{Applied, KeyRange, Options, Progress, Store, WatchHub, WatchRequest, WatchStream};
use ketch_wal::SimDisk;

fn open() -> Store {
    let options = Options { segment_bytes: 256 << 10, ..Options::default() };
    Store::open(SimDisk::new(1), Path::new("/s"), options).unwrap()
}

fn put(store: &mut Store, key: &str, value: &[u8]) {
    store.txn().put(key.as_bytes(), value, 0).unwrap();
    let index = store.applied().index + 1;
    store.commit(Applied { index, term: 1 }).unwrap();
    store.step(10).unwrap();
}

fn from(revision: i64) -> WatchRequest {
    WatchRequest { start_revision: revision, previous: true, ..WatchRequest::new(KeyRange::all()) }
}

fn settle(hub: &WatchHub) {
    while hub.step(100).unwrap() == Progress::More {}
}

/// Bytes of everything that waits for a stream's watchers.
fn drain(stream: &WatchStream) -> (usize, usize) {
    let (mut events, mut bytes) = (0, 0);
    while let Some(batch) = stream.take(10_000) {
        events += batch.events.len();
        bytes += batch.events.iter().map(|event| event.key_value().as_wire().len()).sum::<usize>();
    }
    (events, bytes)
}

#[test]
fn a_consumer_that_takes_nothing_holds_few_bytes_and_loses_nothing() {
    const VALUE: usize = 1_500_000;
    let mut store = open();
    let hub = store.hub();
    let (live, late) = (hub.stream(Arc::new(|| {})), hub.stream(Arc::new(|| {})));
    live.watch(1, from(0));
    for i in 0..24u8 {
        put(&mut store, "k", &vec![i; VALUE]);
        settle(&hub);
    }
    late.watch(1, from(2));
    settle(&hub);
    for stream in [&live, &late] {
        // What waits is bounded; the rest comes from the log once there is room.
        let mut all = 0;
        loop {
            let (events, bytes) = drain(stream);
            assert!(bytes <= (4 << 20) + 2 * VALUE, "{bytes} bytes in one queue");
            settle(&hub);
            all += events;
            if events == 0 {
                break;
            }
        }
        assert_eq!(all, 24);
        assert_eq!(stream.progress(1), Some(store.revision()));
    }
}

/// A flag somebody waits for, as a server's task would.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !std::mem::take(&mut *rung) {
            rung = self.changed.wait(rung).unwrap();
        }
    }
}

#[test]
fn whoever_must_go_on_is_called() {
    let mut store = open();
    (0..3000).for_each(|i| put(&mut store, &format!("{}", i % 10), b"v"));
    let hub = store.hub();
    let called = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&called);
    hub.set_notify(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let calls = || called.swap(0, Ordering::SeqCst);
    put(&mut store, "x", b"v");
    assert_eq!(calls(), 0, "without a stream a commit needs nobody");
    let stream = hub.stream(Arc::new(|| {}));
    assert_eq!(calls(), 1, "what was published meanwhile has to be passed over");
    stream.watch(1, from(0));
    assert_eq!(calls(), 0, "a watcher of the future needs nobody");
    stream.watch(2, from(2));
    assert_eq!(calls(), 1, "a watcher of the past needs a scan");
    settle(&hub);
    // Its queue is full now; when it has been emptied by half, the scan has to go on.
    let mut got = 0;
    while let Some(batch) = stream.take(100) {
        got += batch.events.len();
    }
    assert!((1024..3000).contains(&got), "{got}");
    assert!(calls() >= 1, "a stalled watcher that has room again needs a scan");
    put(&mut store, "x", b"v");
    assert_eq!(calls(), 1, "a commit needs delivery");
}

/// Commits as fast as they go, several threads that hand on, each woken by a bell, consumers woken by theirs: everything
/// arrives, in order, and nobody waits for ever.
#[test]
fn no_wake_up_is_lost_in_a_storm_of_commits() {
    const COMMITS: i64 = 4000;
    let mut store = open();
    let hub = store.hub();
    let work = Arc::new(Bell::default());
    let bell = Arc::clone(&work);
    hub.set_notify(Arc::new(move || bell.ring()));
    let last = COMMITS + 1;
    let finished = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for consumer in 0..3 {
            let (hub, finished, work) = (hub.clone(), &finished, &work);
            scope.spawn(move || {
                let bell = Arc::new(Bell::default());
                let ring = Arc::clone(&bell);
                let stream = hub.stream(Arc::new(move || ring.ring()));
                for id in 0..4 {
                    stream.watch(id, from(2));
                }
                let mut next: BTreeMap<i64, i64> = (0..4).map(|id| (id, 2)).collect();
                while next.values().any(|&next| next <= last) {
                    bell.wait();
                    while let Some(batch) = stream.take(10 + consumer) {
                        for event in batch.events {
                            assert_eq!(
                                next.insert(batch.watcher, event.revision() + 1),
                                Some(event.revision())
                            );
                        }
                    }
                }
                finished.fetch_add(1, Ordering::SeqCst);
                work.ring();
            });
        }
        for _ in 0..2 {
            let (hub, finished, work) = (hub.clone(), &finished, &work);
            scope.spawn(move || {
                while finished.load(Ordering::SeqCst) < 3 {
                    work.wait();
                    while hub.step(50).unwrap() == Progress::More {}
                }
                work.ring(); // the other one, too
            });
        }
        for i in 0..COMMITS {
            put(&mut store, "k", &i.to_le_bytes());
        }
    });
    let stream = hub.stream(Arc::new(|| {}));
    stream.watch(1, WatchRequest::new(KeyRange::Single(Bytes::from_static(b"k"))));
    assert_eq!(stream.progress(1), Some(last));
}
