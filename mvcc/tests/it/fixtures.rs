//! Bytes of the first formats, which must be read for ever: revision log, checkpoint and snapshot stream.
//!
//! `KETCH_WRITE_FIXTURES=v2 cargo test -p ketch-mvcc --test it fixtures` writes a new set under `tests/fixtures/v2`, to be done
//! once when a format changes; the old ones are never written again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ketch_mvcc::{Applied, Cursor, Import, KeyRange, Options, Progress, Query, Store, TableId, View};
use ketch_wal::{Disk, RealDisk, SimDisk};

const LOG_FILES: [&str; 2] = ["store/log", "store"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn options() -> Options {
    Options { segment_bytes: 4 << 10, ..Options::default() }
}

/// A history with everything the formats can say: sealed segments, marks, tombstones, a compaction, tables, a tail.
fn write(dir: &Path) {
    let mut store = Store::open(Arc::new(RealDisk), &dir.join("store"), options()).unwrap();
    let commit = |store: &mut Store| {
        let index = store.applied().index + 1;
        store.commit(Applied { index, term: 3 }).unwrap();
        store.step(10).unwrap();
    };
    for i in 0..120 {
        let mut txn = store.txn();
        txn.put(format!("key{}", i % 7).as_bytes(), format!("value {i}").as_bytes(), i % 3).unwrap();
        txn.put(b"often", &[i as u8], 0).unwrap();
        txn.finish();
        commit(&mut store);
    }
    store.txn().delete_range(&KeyRange::prefix("key3")).unwrap();
    store.table_put(TableId(1), Bytes::from_static(b"member"), Bytes::from_static(b"one"));
    store.table_put(TableId(2), Bytes::from_static(b"gone"), Bytes::new());
    commit(&mut store);
    store.compact(60).unwrap();
    commit(&mut store);
    while store.background().step(1000).unwrap() == Progress::More {}
    store.background().checkpoint().unwrap();
    store.txn().put(b"tail", b"behind the checkpoint", 0).unwrap();
    store.table_delete(TableId(2), b"gone");
    commit(&mut store);
    store.background().sync().unwrap();
    let view = store.reader().view();
    let mut export = view.export(Cursor::START);
    let chunks = std::iter::from_fn(|| export.next_chunk(1000).unwrap());
    for (i, chunk) in chunks.enumerate() {
        std::fs::write(dir.join(format!("snapshot-{i:02}")), &chunk.bytes).unwrap();
    }
}

fn check(view: &View) {
    assert_eq!((view.revision(), view.compacted()), (123, 60));
    assert_eq!(view.applied(), Applied { index: 123, term: 3 });
    assert_eq!(view.hash(0).unwrap().hash, 18_313_480_127_959_852_093);
    let at = |revision| view.range(&Query { revision, ..Query::new(KeyRange::all()) }).unwrap();
    let value = |revision: i64, key: &[u8]| {
        at(revision).kvs.iter().find(|kv| kv.key() == key).map(|kv| (kv.value(), kv.version()))
    };
    assert_eq!(value(123, b"tail").unwrap().0, "behind the checkpoint");
    assert_eq!(value(123, b"key3"), None);
    assert_eq!(value(121, b"key3").unwrap().0, "value 115");
    assert_eq!(value(80, b"often"), Some((Bytes::from_static(&[78]), 79)));
    assert_eq!((at(60).count, at(121).count, at(122).count, at(123).count), (8, 8, 7, 8));
    assert_eq!(view.table(TableId(1)).get(b"member").unwrap(), "one");
    assert!(view.table(TableId(2)).is_empty());
}

/// The fixture's store on a disk of its own.
fn copy(version: &Path) -> Arc<SimDisk> {
    let disk = SimDisk::new(1);
    for folder in LOG_FILES {
        disk.create_dir_all(&Path::new("/").join(folder)).unwrap();
        for entry in std::fs::read_dir(version.join(folder)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                let to = Path::new("/").join(folder).join(entry.file_name());
                disk.put(&to, &std::fs::read(entry.path()).unwrap());
            }
        }
    }
    disk
}

#[test]
fn old_bytes_are_read() {
    if let Ok(version) = std::env::var("KETCH_WRITE_FIXTURES") {
        let dir = root().join(version);
        std::fs::create_dir_all(&dir).unwrap();
        return write(&dir);
    }
    for version in std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()) {
        let store = Store::open(copy(&version), Path::new("/store"), options()).unwrap();
        check(&store.reader().view());
        let mut import = Import::begin(SimDisk::new(2), Path::new("/s"), options()).unwrap();
        let mut chunks: Vec<PathBuf> =
            std::fs::read_dir(&version).unwrap().map(|entry| entry.unwrap().path()).collect();
        chunks.retain(|path| path.is_file());
        chunks.sort();
        for chunk in &chunks {
            import.chunk(&std::fs::read(chunk).unwrap()).unwrap();
        }
        check(&import.finish().unwrap().reader().view());
    }
}
