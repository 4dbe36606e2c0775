//! redb, fjall and LMDB (by heed) as revision stores: one table of versions by revision, one of keys.

use std::ops::Bound;

use ketch_mvcc::encoding::{Fields, encode};

use super::engine::{Engine, VALUE, key, put_message};

/// A key's entry: newest revision, creation, version.
type Entry = [u8; 24];

fn entry(words: [u64; 3]) -> Entry {
    let mut entry = [0; 24];
    for (to, word) in entry.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    entry
}

fn word(entry: &[u8], i: usize) -> u64 {
    u64::from_le_bytes(entry[8 * i..8 * i + 8].try_into().expect("eight bytes"))
}

/// The next version of a key: its entry, and its encoding in `out`.
fn next(key: &[u8], old: Option<&[u8]>, revision: u64, out: &mut Vec<u8>) -> Entry {
    let (created, version) = old.map_or((revision, 1), |old| (word(old, 1), word(old, 2) + 1));
    out.clear();
    let fields = Fields {
        key,
        create_revision: created as i64,
        mod_revision: revision as i64,
        version: version as i64,
        value: &VALUE,
        lease: 0,
    };
    encode(&fields, out);
    entry([revision, created, version])
}

pub(crate) struct Redb {
    db: redb::Database,
    revision: u64,
    wire: Vec<u8>,
    _dir: tempfile::TempDir,
}

const REDB_KEYS: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("keys");
const REDB_VERSIONS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("versions");

impl Engine for Redb {
    const NAME: &'static str = "redb";

    fn open() -> Redb {
        let dir = tempfile::tempdir().expect("a folder");
        let db = redb::Database::create(dir.path().join("db")).expect("a database");
        Redb { db, revision: 1, wire: Vec::new(), _dir: dir }
    }

    fn put(&mut self, numbers: impl Iterator<Item = u64>) {
        use redb::ReadableTable;
        let mut txn = self.db.begin_write().expect("a transaction");
        txn.set_durability(redb::Durability::None).expect("no durability");
        {
            let mut keys = txn.open_table(REDB_KEYS).expect("a table");
            let mut versions = txn.open_table(REDB_VERSIONS).expect("a table");
            for i in numbers {
                self.revision += 1;
                let key = key(i);
                let old = keys.get(&key[..]).expect("a get").map(|old| old.value().to_vec());
                let entry = next(&key, old.as_deref(), self.revision, &mut self.wire);
                versions.insert(self.revision, &self.wire[..]).expect("an insertion");
                keys.insert(&key[..], &entry[..]).expect("an insertion");
            }
        }
        txn.commit().expect("a commit");
    }

    fn get(&self, i: u64) -> usize {
        use redb::ReadableDatabase;
        let txn = self.db.begin_read().expect("a transaction");
        let keys = txn.open_table(REDB_KEYS).expect("a table");
        let versions = txn.open_table(REDB_VERSIONS).expect("a table");
        let entry = keys.get(&key(i)[..]).expect("a get").expect("the key");
        versions.get(word(entry.value(), 0)).expect("a get").map_or(0, |wire| wire.value().len())
    }

    fn page(&self, i: u64, limit: usize, out: &mut Vec<u8>) -> usize {
        use redb::ReadableDatabase;
        let txn = self.db.begin_read().expect("a transaction");
        let keys = txn.open_table(REDB_KEYS).expect("a table");
        let versions = txn.open_table(REDB_VERSIONS).expect("a table");
        let found = keys.range::<&[u8]>(&key(i)[..]..).expect("a range").take(limit);
        let mut count = 0;
        for next in found {
            let (_, entry) = next.expect("an entry");
            let wire = versions.get(word(entry.value(), 0)).expect("a get").expect("the version");
            put_message(wire.value(), out);
            count += 1;
        }
        count
    }
}

pub(crate) struct Fjall {
    db: fjall::Database,
    keys: fjall::Keyspace,
    versions: fjall::Keyspace,
    revision: u64,
    wire: Vec<u8>,
    _dir: tempfile::TempDir,
}

impl Engine for Fjall {
    const NAME: &'static str = "fjall";

    fn open() -> Fjall {
        let dir = tempfile::tempdir().expect("a folder");
        let db = fjall::Database::builder(dir.path()).open().expect("a database");
        let keys = db.keyspace("keys", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
        let versions = db.keyspace("versions", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
        Fjall { db, keys, versions, revision: 1, wire: Vec::new(), _dir: dir }
    }

    fn put(&mut self, numbers: impl Iterator<Item = u64>) {
        let mut batch = self.db.batch();
        for i in numbers {
            self.revision += 1;
            let key = key(i);
            let old = self.keys.get(key).expect("a get");
            let entry = next(&key, old.as_deref(), self.revision, &mut self.wire);
            batch.insert(&self.versions, self.revision.to_be_bytes(), &self.wire[..]);
            batch.insert(&self.keys, key, entry);
        }
        batch.commit().expect("a commit");
    }

    fn get(&self, i: u64) -> usize {
        let entry = self.keys.get(key(i)).expect("a get").expect("the key");
        let wire = self.versions.get(word(&entry, 0).to_be_bytes()).expect("a get");
        wire.map_or(0, |wire| wire.len())
    }

    fn page(&self, i: u64, limit: usize, out: &mut Vec<u8>) -> usize {
        let mut count = 0;
        for next in self.keys.range(key(i)..).take(limit) {
            let (_, entry) = next.into_inner().expect("an entry");
            let wire = self.versions.get(word(&entry, 0).to_be_bytes()).expect("a get").expect("the version");
            put_message(&wire, out);
            count += 1;
        }
        count
    }
}

pub(crate) struct Lmdb {
    env: heed::Env,
    keys: heed::Database<heed::types::Bytes, heed::types::Bytes>,
    versions: heed::Database<heed::types::Bytes, heed::types::Bytes>,
    revision: u64,
    wire: Vec<u8>,
    _dir: tempfile::TempDir,
}

impl Engine for Lmdb {
    const NAME: &'static str = "LMDB (heed)";

    fn open() -> Lmdb {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = heed::EnvOpenOptions::new();
        options.map_size(16 << 30).max_dbs(2);
        // SAFETY: no other process has the folder, and nothing is expected to survive a crash.
        unsafe { options.flags(heed::EnvFlags::NO_SYNC) };
        // SAFETY: the folder is new and opened once.
        let env = unsafe { options.open(dir.path()) }.expect("an environment");
        let mut txn = env.write_txn().expect("a transaction");
        let keys = env.create_database(&mut txn, Some("keys")).expect("a database");
        let versions = env.create_database(&mut txn, Some("versions")).expect("a database");
        txn.commit().expect("a commit");
        Lmdb { env, keys, versions, revision: 1, wire: Vec::new(), _dir: dir }
    }

    fn put(&mut self, numbers: impl Iterator<Item = u64>) {
        let mut txn = self.env.write_txn().expect("a transaction");
        for i in numbers {
            self.revision += 1;
            let key = key(i);
            let old = self.keys.get(&txn, &key).expect("a get");
            let entry = next(&key, old, self.revision, &mut self.wire);
            // Revisions only grow, and LMDB has a short way for what is appended.
            let at = self.revision.to_be_bytes();
            let append = heed::PutFlags::APPEND;
            self.versions.put_with_flags(&mut txn, append, &at, &self.wire).expect("an insertion");
            self.keys.put(&mut txn, &key, &entry).expect("an insertion");
        }
        txn.commit().expect("a commit");
    }

    fn get(&self, i: u64) -> usize {
        let txn = self.env.read_txn().expect("a transaction");
        let entry = self.keys.get(&txn, &key(i)).expect("a get").expect("the key");
        let wire = self.versions.get(&txn, &word(entry, 0).to_be_bytes()).expect("a get");
        wire.map_or(0, <[u8]>::len)
    }

    fn page(&self, i: u64, limit: usize, out: &mut Vec<u8>) -> usize {
        let txn = self.env.read_txn().expect("a transaction");
        let from = key(i);
        let bounds = (Bound::Included(&from[..]), Bound::Unbounded);
        let mut count = 0;
        for next in self.keys.range(&txn, &bounds).expect("a range").take(limit) {
            let (_, entry) = next.expect("an entry");
            let wire = self.versions.get(&txn, &word(entry, 0).to_be_bytes()).expect("a get");
            put_message(wire.expect("the version"), out);
            count += 1;
        }
        count
    }
}
