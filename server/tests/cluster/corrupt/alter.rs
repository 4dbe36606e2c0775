//! A value among a stopped member's data becomes another one, with checksums that are right.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ketch_mvcc::{Applied, KeyRange, Query, Store};
use ketch_server::apply::cluster::{TABLE_ALARMS, TABLE_CLUSTER, TABLE_MEMBERS, TABLE_MEMBERS_REMOVED};
use ketch_wal::{Disk, RealDisk};

/// The value that is altered.
pub(crate) const RIGHT: &str = "the value as it was written";

/// Makes every [`RIGHT`] in a member's directory `wrong`, which is as long. The store was only put to.
pub(crate) fn alter(dir: &Path, wrong: &str) {
    assert_eq!(RIGHT.len(), wrong.len());
    let etcd = dir.join("member/snap/db");
    if etcd.exists() { alter_pages(&etcd, wrong) } else { alter_store(dir, wrong) }
}

/// The real etcd's database has no checksums but those of its two first pages: the bytes are replaced where they lie.
fn alter_pages(path: &Path, wrong: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let found: Vec<usize> = (0..bytes.len() - RIGHT.len())
        .filter(|&at| bytes[at] == RIGHT.as_bytes()[0] && bytes[at..].starts_with(RIGHT.as_bytes()))
        .collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at..at + wrong.len()].copy_from_slice(wrong.as_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

/// Rewrites a store: revision by revision as it was, but for the value.
fn alter_store(dir: &Path, wrong: &str) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (path, new_path) = (dir.join("store"), dir.join("store-altered"));
    let old = Store::open(Arc::clone(&disk), &path, ketch_mvcc::Options::default()).unwrap();
    let mut new = Store::open(disk, &new_path, ketch_mvcc::Options::default()).unwrap();
    let applied = old.applied();
    for revision in 2..=old.revision() {
        let view = old.reader().view();
        let found = view.range(&Query { revision, ..Query::new(KeyRange::all()) }).unwrap();
        let mut txn = new.txn();
        for kv in found.kvs.iter().filter(|kv| kv.mod_revision() == revision) {
            let value =
                if kv.value() == RIGHT { Bytes::copy_from_slice(wrong.as_bytes()) } else { kv.value() };
            txn.put(&kv.key(), &value, 0).unwrap();
        }
        txn.finish();
        if revision == old.revision() {
            for table in [TABLE_MEMBERS, TABLE_MEMBERS_REMOVED, TABLE_CLUSTER, TABLE_ALARMS] {
                let rows: Vec<(Bytes, Bytes)> =
                    old.table(table).iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                rows.into_iter().for_each(|(key, value)| new.table_put(table, key, value));
            }
            new.commit(applied).unwrap();
        } else {
            let index = u64::try_from(revision).unwrap();
            new.commit(Applied { index, term: applied.term }).unwrap();
        }
    }
    assert_eq!(new.revision(), old.revision());
    let [left, right] = [&old, &new].map(|store| store.reader().view().hash(0).unwrap().hash);
    assert_ne!(left, right);
    drop((old, new));
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::rename(&new_path, &path).unwrap();
}
