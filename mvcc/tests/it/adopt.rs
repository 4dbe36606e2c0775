//! Taking over another store's content in place: readers, watchers and duties go on as if nothing had happened.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use ketch_mvcc::{
    Applied, Cursor, FaultKind, Import, KeyRange, Options, Progress, Query, Store, TableId, WatchHub,
    WatchRequest, WatchStream,
};
use ketch_wal::{Disk, SimDisk};

fn options() -> Options {
    Options { segment_bytes: 16 << 10, checkpoint_versions: 500, sync_bytes: 8 << 10, ..Options::default() }
}

fn put(store: &mut Store, key: &str, value: &[u8]) {
    store.txn().put(key.as_bytes(), value, 0).unwrap();
    commit(store);
}

fn commit(store: &mut Store) {
    let index = store.applied().index + 1;
    store.commit(Applied { index, term: 1 }).unwrap();
    store.step(1000).unwrap();
}

/// `count` puts on top, the value being the revision.
fn load(store: &mut Store, count: i64) {
    for _ in 0..count {
        let revision = store.revision() + 1;
        put(store, &format!("k{:02}", revision % 40), revision.to_string().as_bytes());
    }
}

/// A copy of `store` in `dir`, made from its snapshot.
fn copy(disk: &Arc<SimDisk>, dir: &str, store: &Store) -> Store {
    let mut import = Import::begin(disk.clone(), Path::new(dir), options()).unwrap();
    let mut export = store.reader().view().export(Cursor::START);
    while let Some(chunk) = export.next_chunk(1000).unwrap() {
        import.chunk(&chunk.bytes).unwrap();
    }
    import.finish().unwrap()
}

fn settle(store: &mut Store) {
    for _ in 0..3 {
        commit(store);
        while store.background().step(100).unwrap() == Progress::More {
            store.step(1000).unwrap();
        }
    }
}

fn remove_folder(disk: &Arc<SimDisk>, dir: &str) {
    for path in disk.paths().into_iter().filter(|path| path.starts_with(dir)) {
        disk.remove(&path).unwrap();
    }
}

/// Watchers with revisions.
type Revisions = Vec<(i64, i64)>;

/// Revisions of what a stream has for its watchers, which must be right by key and value; and the compaction points of those that ended.
fn drain(hub: &WatchHub, stream: &WatchStream) -> (Revisions, Revisions) {
    let (mut got, mut ended) = (Vec::new(), Vec::new());
    loop {
        let more = hub.step(50).unwrap() == Progress::More;
        let mut taken = false;
        while let Some(batch) = stream.take(100) {
            taken = true;
            ended.extend(batch.compacted.map(|at| (batch.watcher, at)));
            for event in batch.events {
                assert_eq!(event.key_value().value(), event.revision().to_string());
                got.push((batch.watcher, event.revision()));
            }
        }
        if !more && !taken {
            return (got, ended);
        }
    }
}

fn from(revision: i64) -> WatchRequest {
    WatchRequest { start_revision: revision, previous: true, ..WatchRequest::new(KeyRange::all()) }
}

fn revisions(watcher: i64, from: i64, to: i64) -> Vec<(i64, i64)> {
    (from..=to).map(|revision| (watcher, revision)).collect()
}

#[test]
fn watchers_go_on_where_each_of_them_was() {
    let disk = SimDisk::new(1);
    let mut store = Store::open(disk.clone(), Path::new("/old"), options()).unwrap();
    let hub = store.hub();
    let [live, future, stalled, slow] = [(); 4].map(|()| hub.stream(Arc::new(|| {})));
    live.watch(1, from(0));
    load(&mut store, 1500);
    future.watch(2, from(1701));
    stalled.watch(3, from(2));
    let (got, _) = drain(&hub, &live);
    assert_eq!(got, revisions(1, 2, 1501));
    // Something is published and not yet handed on when the other content comes.
    let mut staged = copy(&disk, "/new", &store);
    load(&mut store, 100);
    slow.watch(4, from(2));
    load(&mut staged, 300);
    store.adopt(staged).unwrap();
    remove_folder(&disk, "/old");

    assert_eq!((store.revision(), hub.watchers()), (1801, (4, 4)));
    assert_eq!(live.progress(1), None, "it has not been given everything");
    assert_eq!(drain(&hub, &live).0, revisions(1, 1502, 1801));
    assert_eq!(drain(&hub, &future).0, revisions(2, 1701, 1801));
    assert_eq!(drain(&hub, &stalled).0, revisions(3, 2, 1801));
    assert_eq!(drain(&hub, &slow).0, revisions(4, 2, 1801));
    // And on with what is committed here.
    load(&mut store, 3);
    assert_eq!(drain(&hub, &live).0, revisions(1, 1802, 1804));
    assert_eq!(live.progress(1), Some(1804));
}

#[test]
fn what_a_watcher_wants_may_be_compacted_in_the_new_content() {
    let disk = SimDisk::new(1);
    let mut store = Store::open(disk.clone(), Path::new("/old"), options()).unwrap();
    let hub = store.hub();
    let streams = [(); 3].map(|()| hub.stream(Arc::new(|| {})));
    load(&mut store, 50);
    let mut staged = copy(&disk, "/new", &store);
    load(&mut staged, 50);
    staged.compact(60).unwrap();
    commit(&mut staged);
    streams[0].watch(0, from(0)); // next is 52
    streams[1].watch(1, from(60));
    streams[2].watch(2, from(61));
    store.adopt(staged).unwrap();
    assert_eq!(drain(&hub, &streams[0]), (vec![], vec![(0, 60)]));
    assert_eq!(drain(&hub, &streams[1]), (revisions(1, 60, 101), vec![]));
    assert_eq!(drain(&hub, &streams[2]), (revisions(2, 61, 101), vec![]));
}

#[test]
fn old_views_stay_readable_and_all_handles_go_on() {
    let disk = SimDisk::new(1);
    let mut store = Store::open(disk.clone(), Path::new("/old"), options()).unwrap();
    store.table_put(TableId(1), Bytes::from_static(b"a"), Bytes::from_static(b"old"));
    load(&mut store, 400);
    let (reader, background) = (store.reader(), store.background());
    let old = reader.view();
    let everything = old.range(&Query::new(KeyRange::all())).unwrap();
    let mut iter = old.iter(KeyRange::all(), 200).unwrap();
    let mut export = old.export(Cursor::START);
    let first = export.next_chunk(1000).unwrap();
    let mut staged = copy(&disk, "/new", &store);
    staged.table_put(TableId(1), Bytes::from_static(b"a"), Bytes::from_static(b"new"));
    load(&mut staged, 100);
    staged.compact(450).unwrap();
    settle(&mut staged);
    let hash = staged.reader().view().hash(0).unwrap();
    // A checkpoint of the old content is under way.
    background.step(10).unwrap();
    store.adopt(staged).unwrap();
    remove_folder(&disk, "/old");

    assert_eq!(old.range(&Query::new(KeyRange::all())).unwrap(), everything);
    assert_eq!(old.range(&Query { revision: 300, ..Query::new(KeyRange::all()) }).unwrap().count, 40);
    assert!(iter.all(|version| version.is_ok()));
    assert!(first.is_some());
    while export.next_chunk(1000).unwrap().is_some() {}

    let new = reader.view();
    assert_eq!((new.revision(), new.compacted(), new.hash(0).unwrap()), (501, 450, hash));
    assert_eq!(new.table(TableId(1)).get(b"a").unwrap(), "new");
    assert_eq!(reader.sizes(), store.sizes());
    drop(new);
    // The old view does not hold up the new content.
    load(&mut store, 2000);
    store.compact(2000).unwrap();
    settle(&mut store);
    assert!(store.compaction_progress().is_done());
    drop((old, iter, export));
    settle(&mut store);
    assert!(disk.paths().iter().all(|path| !path.starts_with("/old")), "nothing is written there any more");
    let everything = reader.view().range(&Query::new(KeyRange::all())).unwrap();
    background.sync().unwrap();
    let applied = store.durable_applied();
    drop((store, reader, background));
    disk.crash();
    let store = Store::open(disk.clone(), Path::new("/new"), options()).unwrap();
    assert_eq!(store.applied(), applied);
    assert_eq!(store.reader().view().range(&Query::new(KeyRange::all())).unwrap(), everything);
}

#[test]
fn what_is_not_ahead_is_refused_and_nothing_changes() {
    let disk = SimDisk::new(1);
    let mut store = Store::open(disk.clone(), Path::new("/a"), options()).unwrap();
    load(&mut store, 10);
    let behind = copy(&disk, "/b", &store);
    load(&mut store, 1);
    let refused = store.adopt(behind).unwrap_err();
    assert!(matches!(refused.kind(), FaultKind::Misuse { .. }), "{refused}");
    let level = copy(&disk, "/c", &store);
    store.txn().put(b"x", b"y", 0).unwrap();
    let refused = store.adopt(level).unwrap_err();
    assert!(matches!(refused.kind(), FaultKind::Misuse { .. }), "{refused}");
    commit(&mut store);
    assert_eq!((store.revision(), store.reader().view().count(&KeyRange::all(), 0).unwrap()), (13, 12));
    let level = copy(&disk, "/d", &store);
    store.adopt(level).unwrap();
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Readers, a hub thread and a background thread run all the while; four contents follow each other.
#[test]
fn readers_and_threads_never_notice() {
    let disk = SimDisk::new(1);
    let mut store = Store::open(disk.clone(), Path::new("/0"), options()).unwrap();
    load(&mut store, 100);
    let over = AtomicBool::new(false);
    let over = &over;
    let (reader, hub, background) = (store.reader(), store.hub(), store.background());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    let view = reader.view();
                    assert!(view.revision() >= last);
                    last = view.revision();
                    let newest = view.get(format!("k{:02}", last % 40).as_bytes()).unwrap().unwrap();
                    assert_eq!((newest.mod_revision(), newest.value()), (last, last.to_string().into()));
                    let behind = Query { revision: last - 20, ..Query::new(KeyRange::all()) };
                    assert_eq!(view.range(&behind).unwrap().count, 40);
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                background.step(20).unwrap();
            }
        });
        let watching = scope.spawn(|| {
            let stream = hub.stream(Arc::new(|| {}));
            stream.watch(1, from(2));
            let mut next = 2;
            loop {
                let last = over.load(Ordering::SeqCst);
                for (_, revision) in drain(&hub, &stream).0 {
                    assert_eq!(revision, next);
                    next += 1;
                }
                if last {
                    return next;
                }
            }
        });
        // Also when something is wrong here: the others end then, too.
        let ending = Ending(over);
        for round in 1..=4 {
            load(&mut store, 100);
            let mut staged = copy(&disk, &format!("/{round}"), &store);
            load(&mut staged, 200);
            store.adopt(staged).unwrap();
        }
        drop(ending);
        assert_eq!(watching.join().unwrap(), store.revision() + 1);
    });
}
