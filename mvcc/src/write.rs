//! One write transaction: changes that share a main revision and see each other.

use std::sync::Arc;

use bytes::Bytes;
use ketch_wal::RECORD_BYTES_MAX;

use crate::encoding::{self, Fields};
use crate::error::{Fault, ReadError, WriteError};
use crate::log::record::{CREATE, Change, DELETE, UPDATE};
use crate::planted::{Bug, planted};
use crate::read::View;
use crate::rest::Rest;
use crate::revision::Revision;
use crate::shared::{Epoch, Values};
use crate::store::{Store, next_head};
use crate::types::{KeyRange, KeyValue, Query, RangeResult};

/// A transaction on the [`Store`]. Its changes are in effect for later transactions as they are made and become readable
/// for everybody else with [`Store::commit`]; there is no rollback, so callers check before they change, and dropping
/// the transaction is the same as [`WriteTxn::finish`].
#[derive(Debug)]
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    /// The main revision of this transaction's changes.
    main: i64,
    /// Changes so far.
    subs: u32,
    /// What the store would have written without them.
    bytes_before: u64,
}

/// A version that a change replaced, read when asked for. Holding it delays the dropping of compacted data.
#[derive(Clone, Debug)]
pub struct Previous {
    values: Values,
    revision: Revision,
    /// Keeps compaction from dropping it.
    _epoch: Arc<Epoch>,
}

impl Previous {
    /// The replaced key-value.
    ///
    /// # Errors
    /// A [`Fault`] when the log cannot be read.
    pub fn read(&self) -> Result<KeyValue, Fault> {
        Ok(KeyValue::trusted(self.values.read(self.revision)?.wire))
    }

    /// Its revision.
    pub fn mod_revision(&self) -> i64 {
        self.revision.main
    }
}

/// A key that was deleted.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The key.
    pub key: Bytes,
    /// What it was.
    pub previous: Previous,
}

/// What a put takes in the log beside key and value, at most.
const PUT_OVERHEAD: u64 = 128;
/// What a tombstone takes beside its key, at most.
const TOMBSTONE_OVERHEAD: u64 = 64;

#[cfg(not(test))]
const fn bytes_max() -> u64 {
    WriteTxn::BYTES_MAX
}

#[cfg(test)]
use tests::bytes_max;

impl<'a> WriteTxn<'a> {
    /// The most bytes a transaction may write to the log, 320 MiB, of the 1 GiB that a commit can hold. Whoever commits
    /// when [`Store::pending_bytes`] is above 512 MiB never has one that does not fit.
    pub const BYTES_MAX: u64 = 320 << 20;

    /// Whether `more` bytes may be written on top of what was.
    fn admit(&self, more: u64) -> Result<(), WriteError> {
        let bytes = self.store.pending_bytes() - self.bytes_before + more;
        let limit = bytes_max();
        if bytes > limit { Err(WriteError::TransactionTooLarge { bytes, limit }) } else { Ok(()) }
    }

    pub(crate) fn new(store: &'a mut Store) -> WriteTxn<'a> {
        let (main, bytes_before) = (store.state.revision + 1, store.pending_bytes());
        WriteTxn { store, main, subs: 0, bytes_before }
    }

    /// What a response header says now: the transaction's revision once it changed something, else the store's.
    pub fn revision(&self) -> i64 {
        self.store.state.revision
    }

    /// The compaction point, as [`Store::compacted`].
    pub fn compacted(&self) -> i64 {
        self.store.state.compacted
    }

    /// Pins the state as of now, own changes included, for a read that may come later and elsewhere.
    pub fn view(&mut self) -> View {
        self.store.view_uncommitted()
    }

    /// The newest version of `key`, own changes included.
    ///
    /// # Errors
    /// A [`Fault`] when the log cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Fault> {
        match self.store.state.tree.get(key).filter(|head| head.is_live()) {
            Some(head) => Ok(Some(self.previous(head.revision).read()?)),
            None => Ok(None),
        }
    }

    /// Reads a range, own changes included.
    ///
    /// # Errors
    /// [`ReadError`] when the query's revision is compacted or in the future, or the log cannot be read.
    pub fn range(&self, query: &Query) -> Result<RangeResult, ReadError> {
        self.store.view_uncommitted().range(query)
    }

    /// Sets `key` to `value`, attached to `lease` (0 for none). Returns the version it replaces.
    ///
    /// # Errors
    /// [`WriteError`]: an empty key, one that is too long, too much for one transaction; or the fault that stopped the
    /// store.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Result<Option<Previous>, WriteError> {
        self.store.shared.check()?;
        let (bytes, limit) = ((key.len() + value.len()) as u64 + PUT_OVERHEAD, RECORD_BYTES_MAX);
        if key.is_empty() {
            return Err(WriteError::EmptyKey);
        }
        if bytes > limit {
            return Err(WriteError::RecordTooLarge { bytes, limit });
        }
        self.admit(bytes)?;
        let revision = self.next();
        let compacted = self.store.state.compacted;
        let place = self.store.state.next_place(&self.store.shared);
        let (mut before, mut create_revision, mut version) = (None, 0, 0);
        self.store.state.tree.upsert(key, place, |old| {
            before = old.map(|old| (old.revision, old.is_live()));
            let (head, marks) = next_head(old, revision, true, compacted);
            (create_revision, version) = (head.create_revision, head.version);
            (head, marks)
        });
        let fields = Fields { key, create_revision, mod_revision: self.main, version, value, lease };
        let live = before.is_some_and(|(_, live)| live);
        let previous = before.map_or(Revision::NONE, |(revision, _)| revision);
        self.record(revision, if live { UPDATE } else { CREATE }, previous, &fields);
        Ok(live.then(|| self.previous(previous)))
    }

    /// Deletes every key of `range`; they are returned in order. Deleting nothing makes no revision.
    ///
    /// # Errors
    /// [`WriteError::TransactionTooLarge`] when the tombstones, each as long as its key and up to 64 bytes more, would be
    /// too much: then none has been written. Or the fault that stopped the store.
    pub fn delete_range(&mut self, range: &KeyRange) -> Result<Vec<Deleted>, WriteError> {
        self.store.shared.check()?;
        let keys = self.live_keys(range)?;
        let mut deleted = Vec::with_capacity(keys.len());
        for (key, previous) in keys {
            self.delete(&key, previous);
            deleted.push(Deleted { key, previous: self.previous(previous) });
        }
        Ok(deleted)
    }

    /// Ends the transaction; returns what [`WriteTxn::revision`] says.
    pub fn finish(self) -> i64 {
        self.revision()
    }

    /// The keys that exist in `range`, when deleting them is not too much.
    fn live_keys(&self, range: &KeyRange) -> Result<Vec<(Bytes, Revision)>, WriteError> {
        let tree = &self.store.state.tree;
        if let KeyRange::Single(key) = range {
            let head = tree.get(key).filter(|head| head.is_live());
            return Ok(head.map(|head| (Bytes::copy_from_slice(key), head.revision)).into_iter().collect());
        }
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (key, head) in tree.iter(range) {
            if head.is_live() {
                bytes += key.len() as u64 + TOMBSTONE_OVERHEAD;
                self.admit(bytes)?;
                found.push((Bytes::copy_from_slice(key), head.revision));
            }
        }
        Ok(found)
    }

    fn delete(&mut self, key: &Bytes, previous: Revision) {
        let revision = self.next();
        let state = &mut self.store.state;
        let compacted = state.compacted;
        let place = state.next_place(&self.store.shared);
        state.tree.upsert(key, place, |old| next_head(old, revision, false, compacted));
        state.tombstones.push_back((revision.main, key.clone()));
        let fields = Fields { key, mod_revision: self.main, ..Fields::default() };
        self.record(revision, DELETE, previous, &fields);
    }

    /// The revision of the next change.
    fn next(&mut self) -> Revision {
        let sub = if planted(Bug::SubRevisionsBackwards) { u32::MAX - self.subs } else { self.subs };
        let revision = Revision::new(self.main, sub);
        self.subs += 1;
        self.store.state.revision = self.main;
        revision
    }

    fn record(&mut self, revision: Revision, kind: u8, previous: Revision, fields: &Fields<'_>) {
        let state = &mut self.store.state;
        let wire = encoding::encode_shared(fields, &mut state.arena);
        state.record(Change { revision, kind, previous, wire });
    }

    fn previous(&self, revision: Revision) -> Previous {
        let shared = Arc::clone(&self.store.shared);
        let pending = Some(Arc::clone(&self.store.state.pending));
        let _epoch = Arc::clone(&self.store.state.root.epoch);
        Previous { values: Values { shared, pending, rest: Rest::default() }, revision, _epoch }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ketch_wal::SimDisk;

    use super::*;
    use crate::{Applied, Options};

    /// Little enough for a quick test.
    pub(super) const fn bytes_max() -> u64 {
        WriteTxn::BYTES_MAX >> 10
    }

    #[test]
    fn a_delete_of_too_much_changes_nothing() {
        let mut store = Store::open(SimDisk::new(1), Path::new("/s"), Options::default()).unwrap();
        let key = |i: u8| [&[i][..], &[b'k'; 4 << 10]].concat();
        let commit = |store: &mut Store, index| store.commit(Applied { index, term: 1 }).unwrap();
        for i in 0..81 {
            store.txn().put(&key(i), b"", 0).unwrap();
            commit(&mut store, u64::from(i) + 1);
        }
        let refused = store.txn().delete_range(&KeyRange::all());
        assert!(
            matches!(refused, Err(WriteError::TransactionTooLarge { limit, .. }) if limit == bytes_max())
        );
        assert_eq!((store.revision(), store.pending_bytes(), store.sizes().keys), (82, 0, 81));
        let some = KeyRange::from_wire(key(0).into(), key(40).into());
        let mut txn = store.txn();
        assert_eq!(txn.delete_range(&some).unwrap().len(), 40);
        // The transaction as a whole has the limit.
        assert!(matches!(txn.delete_range(&KeyRange::all()), Err(WriteError::TransactionTooLarge { .. })));
        txn.finish();
        commit(&mut store, 100);
        assert_eq!(store.sizes().keys, 41);
    }
}
