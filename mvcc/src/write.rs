//! One write transaction: changes that share a main revision and see each other.

use std::sync::Arc;

use bytes::Bytes;

use crate::encoding::{self, Fields};
use crate::error::{Fault, ReadError};
use crate::index::Entry;
use crate::log::record::{CREATE, Change, DELETE, UPDATE};
use crate::planted::{Bug, planted};
use crate::read::View;
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

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(store: &'a mut Store) -> WriteTxn<'a> {
        let main = store.state.revision + 1;
        WriteTxn { store, main, subs: 0 }
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
    /// The [`Fault`] that stopped the store.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Result<Option<Previous>, Fault> {
        self.store.shared.check()?;
        let revision = self.next();
        let compacted = self.store.state.compacted;
        let (mut before, mut create_revision, mut version) = (None, 0, 0);
        self.store.state.tree.upsert(key, |old| {
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
    /// The [`Fault`] that stopped the store.
    pub fn delete_range(&mut self, range: &KeyRange) -> Result<Vec<Deleted>, Fault> {
        self.store.shared.check()?;
        let keys = self.live_keys(range);
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

    fn live_keys(&self, range: &KeyRange) -> Vec<(Bytes, Revision)> {
        let tree = &self.store.state.tree;
        let found = |(key, head): (&[u8], Entry<'_>)| (Bytes::copy_from_slice(key), head.revision);
        match range {
            KeyRange::Single(key) => tree
                .get(key)
                .filter(|head| head.is_live())
                .map(|head| found((key, head)))
                .into_iter()
                .collect(),
            KeyRange::Span { start, .. } => tree
                .iter_from(start)
                .take_while(|(key, _)| range.contains(key))
                .filter(|(_, head)| head.is_live())
                .map(found)
                .collect(),
        }
    }

    fn delete(&mut self, key: &Bytes, previous: Revision) {
        let revision = self.next();
        let state = &mut self.store.state;
        let compacted = state.compacted;
        state.tree.upsert(key, |old| next_head(old, revision, false, compacted));
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
        Previous { values: Values { shared, pending }, revision, _epoch }
    }
}
