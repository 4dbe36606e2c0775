//! The plain model of a revision store: slow, obvious, and what every test compares with.
//!
//! It keeps every change for ever in one list and answers each question by looking through it, straight from the words of
//! etcd's documentation. It shares no code with the store but the wire encoding and the hash of one version.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::encoding::Fields;
use crate::hash;
use crate::log::record::{CREATE, Change, DELETE, UPDATE};
use crate::revision::Revision;
use crate::types::{KeyRange, KeyValue, Query, RangeResult, SortOrder, SortTarget};

/// One change of one key, as a watcher would see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEvent {
    /// Where it happened.
    pub revision: Revision,
    /// Whether it is a deletion.
    pub delete: bool,
    /// The key-value; of a deletion it has key and mod_revision only.
    pub kv: KeyValue,
    /// What the key was before, if it existed.
    pub previous: Option<KeyValue>,
}

/// Why the model refuses; mirrors the store's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelError {
    /// The revision is below the compaction point, or a compaction would not move it.
    Compacted,
    /// The revision does not exist yet.
    Future,
}

/// See the file's comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    events: Vec<ModelEvent>,
    revision: i64,
    compacted: i64,
    subs: u32,
}

impl Default for Model {
    fn default() -> Model {
        Model { events: Vec::new(), revision: 1, compacted: -1, subs: 0 }
    }
}

impl Model {
    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The compaction point; -1 when never compacted.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Ends the transaction: the next change gets a new main revision.
    pub fn end_txn(&mut self) {
        self.subs = 0;
    }

    /// Puts `key`; returns what it was.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Option<KeyValue> {
        let previous = self.get(key, i64::MAX);
        let revision = self.next();
        let old = previous.as_ref().map(KeyValue::fields);
        let kv = KeyValue::encode(&Fields {
            key,
            create_revision: old.map_or(revision.main, |old| old.create_revision),
            mod_revision: revision.main,
            version: old.map_or(1, |old| old.version + 1),
            value,
            lease,
        });
        self.events.push(ModelEvent { revision, delete: false, kv, previous: previous.clone() });
        previous
    }

    /// Deletes `range`; returns what was there, in the order of keys.
    pub fn delete_range(&mut self, range: &KeyRange) -> Vec<KeyValue> {
        let doomed = self.alive(range, i64::MAX);
        for previous in &doomed {
            let revision = self.next();
            let fields = Fields { key: &previous.key(), mod_revision: revision.main, ..Fields::default() };
            let kv = KeyValue::encode(&fields);
            self.events.push(ModelEvent { revision, delete: true, kv, previous: Some(previous.clone()) });
        }
        doomed
    }

    /// Compacts.
    ///
    /// # Errors
    /// At or below the present point, or in the future.
    pub fn compact(&mut self, revision: i64) -> Result<(), ModelError> {
        if revision <= self.compacted {
            return Err(ModelError::Compacted);
        }
        if revision > self.revision {
            return Err(ModelError::Future);
        }
        self.compacted = revision;
        Ok(())
    }

    /// Answers `query`.
    ///
    /// # Errors
    /// When its revision is compacted or in the future.
    pub fn range(&self, query: &Query) -> Result<RangeResult, ModelError> {
        let at = self.readable(query.revision)?;
        let mut kvs = self.alive(&query.range, at);
        let mut result =
            RangeResult { count: kvs.len() as u64, revision: self.revision, ..Default::default() };
        if query.count_only {
            return Ok(result);
        }
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let (target, order) = query.sort.unwrap_or((SortTarget::Key, SortOrder::None));
        let filters = query.min_mod_revision
            | query.max_mod_revision
            | query.min_create_revision
            | query.max_create_revision;
        if limit > 0 && order == SortOrder::None && filters == 0 {
            kvs.truncate(limit.saturating_add(1));
        }
        let bound = |limit: i64, keep: &dyn Fn(i64) -> bool| limit == 0 || keep(limit);
        kvs.retain(|kv| {
            bound(query.min_mod_revision, &|limit| kv.mod_revision() >= limit)
                && bound(query.max_mod_revision, &|limit| kv.mod_revision() <= limit)
                && bound(query.min_create_revision, &|limit| kv.create_revision() >= limit)
                && bound(query.max_create_revision, &|limit| kv.create_revision() <= limit)
        });
        if target != SortTarget::Key || order == SortOrder::Descend {
            kvs.sort_by(|a, b| {
                let ordering = match target {
                    SortTarget::Key => a.key().cmp(&b.key()),
                    SortTarget::Version => a.version().cmp(&b.version()),
                    SortTarget::Create => a.create_revision().cmp(&b.create_revision()),
                    SortTarget::Mod => a.mod_revision().cmp(&b.mod_revision()),
                    SortTarget::Value => a.value().cmp(&b.value()),
                };
                if order == SortOrder::Descend { ordering.reverse() } else { ordering }
            });
        }
        result.more = limit > 0 && kvs.len() > limit;
        if limit > 0 {
            kvs.truncate(limit);
        }
        if query.keys_only {
            for kv in &mut kvs {
                let keeps_lease = target == SortTarget::Value;
                let lease = if keeps_lease { kv.lease() } else { 0 };
                *kv = KeyValue::encode(&Fields { value: &[], lease, ..kv.fields() });
            }
        }
        result.kvs = kvs;
        Ok(result)
    }

    /// Every event from `start` on whose key is in `range`, in order.
    pub fn events(&self, range: &KeyRange, start: i64) -> Vec<ModelEvent> {
        let wanted = |event: &&ModelEvent| event.revision.main >= start && range.contains(&event.kv.key());
        self.events.iter().filter(wanted).cloned().collect()
    }

    /// The hash of everything visible at or after the compaction point, up to `revision` (0 for the newest).
    ///
    /// # Errors
    /// When the revision is compacted or in the future.
    pub fn hash(&self, revision: i64) -> Result<u64, ModelError> {
        let at = self.readable(revision)?;
        let kept = self.kept();
        let counted = self.events.iter().filter(|event| {
            event.revision.main <= at
                && (event.revision.main > self.compacted || (kept.contains(&event.revision) && !event.delete))
        });
        Ok(counted.fold(0u64, |sum, event| sum.wrapping_add(hash::change(&self.change(event)))))
    }

    /// The versions at or below the compaction point that survive it: the newest of each key, unless that is a
    /// tombstone below the point; and every tombstone at the point, for watches that start there.
    pub fn kept(&self) -> BTreeSet<Revision> {
        let mut newest = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.revision.main <= self.compacted) {
            newest.insert(event.kv.key(), event);
        }
        let alive = newest.into_values().filter(|event| !event.delete);
        let tombstones =
            self.events.iter().filter(|event| event.delete && event.revision.main == self.compacted);
        alive.chain(tombstones).map(|event| event.revision).collect()
    }

    /// How many versions are not compacted away.
    pub fn versions(&self) -> u64 {
        let later = self.events.iter().filter(|event| event.revision.main > self.compacted).count();
        (later + self.kept().len()) as u64
    }

    /// The newest version of `key` at or below `at`.
    pub fn get(&self, key: &[u8], at: i64) -> Option<KeyValue> {
        let newest =
            self.events.iter().rev().find(|event| event.revision.main <= at && event.kv.key() == key)?;
        (!newest.delete).then(|| newest.kv.clone())
    }

    fn alive(&self, range: &KeyRange, at: i64) -> Vec<KeyValue> {
        let mut alive = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.revision.main <= at) {
            let key = event.kv.key();
            if range.contains(&key) {
                if event.delete {
                    alive.remove(&key)
                } else {
                    alive.insert(key, event.kv.clone())
                };
            }
        }
        alive.into_values().collect()
    }

    fn readable(&self, revision: i64) -> Result<i64, ModelError> {
        if revision > self.revision {
            return Err(ModelError::Future);
        }
        let at = if revision <= 0 { self.revision } else { revision };
        if at < self.compacted { Err(ModelError::Compacted) } else { Ok(at) }
    }

    fn next(&mut self) -> Revision {
        if self.subs == 0 {
            self.revision += 1;
        }
        self.subs += 1;
        Revision::new(self.revision, self.subs - 1)
    }

    fn change(&self, event: &ModelEvent) -> Change {
        let kind = match (event.delete, &event.previous) {
            (true, _) => DELETE,
            (false, None) => CREATE,
            (false, Some(_)) => UPDATE,
        };
        let wire: Bytes = event.kv.as_wire().clone();
        Change { revision: event.revision, kind, previous: Revision::NONE, wire }
    }
}
