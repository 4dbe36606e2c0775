//! Who opens a store meets what somebody else has just left there; and what the writer's step may not do.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ketch_mvcc::{Applied, KeyRange, Options, Progress, Query, Store};
use ketch_wal::{Disk, DiskFile, SimDisk, Space};

fn small() -> Options {
    Options { segment_bytes: 16 << 10, checkpoint_versions: 1000, sync_bytes: 8 << 10, ..Options::default() }
}

fn put(store: &mut Store, i: u32) {
    store.txn().put(format!("k{:02}", i % 50).as_bytes(), &[i as u8; 200], 0).unwrap();
    let index = store.applied().index + 1;
    store.commit(Applied { index, term: 1 }).unwrap();
}

fn settle(store: &mut Store) {
    while store.background().step(100).unwrap() == Progress::More {
        store.step(1000).unwrap();
    }
}

/// A disk that does something of its own before a lock is taken or, when it says so, at every other operation.
struct Watched {
    disk: Arc<SimDisk>,
    before_lock: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Operations that a file or folder was made, or made durable, by.
    slow: Mutex<Vec<(&'static str, PathBuf)>>,
}

impl Watched {
    fn new(before_lock: Option<Box<dyn FnOnce() + Send>>, disk: Arc<SimDisk>) -> Arc<Watched> {
        Arc::new(Watched { disk, before_lock: Mutex::new(before_lock), slow: Mutex::default() })
    }

    fn note(&self, what: &'static str, path: &Path) {
        self.slow.lock().unwrap().push((what, path.to_owned()));
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl Disk for Watched {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.note("create", path);
        self.disk.create(path)
    }
    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path, writable)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", to);
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.note("sync", dir);
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let before = self.before_lock.lock().unwrap().take();
        before.into_iter().for_each(|before| before());
        self.disk.lock(path)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.disk.space(dir)
    }
    fn unique(&self) -> u64 {
        self.disk.unique()
    }
}

/// The store that still runs makes a checkpoint and drops what that one knows to be dead, then it ends: all that between
/// the moment the other opening begins and the moment it gets the lock.
#[test]
fn a_checkpoint_is_read_under_the_lock() {
    let disk = SimDisk::new(1);
    let mut first = Store::open(disk.clone(), Path::new("/s"), small()).unwrap();
    for i in 0..600 {
        put(&mut first, i);
        first.step(1000).unwrap();
    }
    first.background().checkpoint().unwrap();
    let ending = move || {
        (0..600).for_each(|i| put(&mut first, i));
        first.step(1000).unwrap();
        first.compact(first.revision()).unwrap();
        put(&mut first, 0);
        settle(&mut first);
        assert!(first.compaction_progress().is_done());
        assert!(first.sizes().physical_bytes < 100_000, "{:?}", first.sizes());
        first.background().checkpoint().unwrap();
    };
    let watched = Watched::new(Some(Box::new(ending)), disk);
    let mut second = Store::open(watched, Path::new("/s"), small()).unwrap();
    assert_eq!((second.revision(), second.compacted()), (1202, 1201));
    assert_eq!(second.reader().view().range(&Query::new(KeyRange::all())).unwrap().kvs.len(), 50);
    put(&mut second, 1);
    second.compact(second.revision()).unwrap();
    put(&mut second, 2);
    settle(&mut second);
    assert!(second.compaction_progress().is_done());
}

/// Closing a full segment is the writer's: the next one has been made by the background before.
#[test]
fn the_writers_step_makes_no_file_and_nothing_durable() {
    let watched = Watched::new(None, SimDisk::new(1));
    let mut store = Store::open(watched.clone(), Path::new("/s"), small()).unwrap();
    for i in 0..1000 {
        settle(&mut store);
        watched.slow.lock().unwrap().clear();
        put(&mut store, i);
        store.step(100).unwrap();
        let slow = watched.slow.lock().unwrap();
        assert!(slow.iter().all(|(what, _)| *what == "rename"), "put {i}: {slow:?}");
    }
    assert!(store.sizes().physical_bytes > 10 * (16 << 10), "several segments were closed");
}
