//! Which version of a key is visible at a revision, and how many keys are.

use bytes::Bytes;

use crate::encoding::Fields;
use crate::error::Fault;
use crate::index::Entry;
use crate::log::record::{CREATE, DELETE};
use crate::planted::{Bug, planted};
use crate::revision::Revision;
use crate::shared::{Root, Values};
use crate::types::{KeyRange, KeyValue};

/// A visible version: what the index or its record says, and the record when it was read already.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// Empty unless the snapshot was asked for keys.
    pub(crate) key: Bytes,
    pub(crate) revision: Revision,
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
    pub(crate) wire: Option<Bytes>,
}

impl Version {
    /// The key-value that a keys-only answer has: no value and, as in etcd, no lease.
    pub(crate) fn key_only(&self) -> KeyValue {
        KeyValue::encode(&Fields {
            key: &self.key,
            create_revision: self.create_revision,
            mod_revision: self.revision.main,
            version: self.version,
            lease: i64::from(planted(Bug::KeysOnlyWithLease)),
            ..Fields::default()
        })
    }
}

/// A root read as of a revision at or below its own.
pub(crate) struct Snapshot<'a> {
    pub(crate) root: &'a Root,
    values: &'a Values,
    at: i64,
    keys: bool,
}

impl<'a> Snapshot<'a> {
    pub(crate) fn new(root: &'a Root, values: &'a Values, at: i64) -> Snapshot<'a> {
        Snapshot { root, values, at, keys: false }
    }

    /// Whether the versions found carry their keys, which only keys-only answers need.
    pub(crate) fn with_keys(self, keys: bool) -> Snapshot<'a> {
        Snapshot { keys, ..self }
    }

    /// The version of a key that is visible; `None` when the key did not exist.
    ///
    /// A head at or below the revision answers by itself. Otherwise the walk goes back through the key's history, from
    /// the oldest mark above the revision.
    pub(crate) fn visible(&self, key: &[u8], head: Entry<'_>) -> Result<Option<Version>, Fault> {
        let found = |revision, create_revision, version, wire| {
            let key = if self.keys { Bytes::copy_from_slice(key) } else { Bytes::new() };
            Some(Version { key, revision, create_revision, version, wire })
        };
        if head.revision.main <= self.at {
            let live = head.is_live();
            return Ok(live
                .then(|| found(head.revision, head.create_revision, head.version, None))
                .flatten());
        }
        if head.create_revision > self.at && head.version == 1 && head.since_mark == 0 && head.marks.is_none()
        {
            return Ok(None); // the first version of a key never seen before
        }
        let mark = head.marks.and_then(|marks| marks.oldest_above(self.at));
        let mut change = self.values.read(mark.unwrap_or(head.revision))?;
        while change.previous.main > self.at {
            change = self.values.read(change.previous)?;
        }
        // The version before a creation is a tombstone, or nothing.
        if change.previous.is_none() || change.kind == CREATE {
            return Ok(None);
        }
        let change = self.values.read(change.previous)?;
        if change.kind == DELETE {
            return Ok(None);
        }
        let fields = change.fields();
        Ok(found(change.revision, fields.create_revision, fields.version, Some(change.wire.clone())))
    }

    /// The whole key-value of a version.
    pub(crate) fn key_value(&self, version: Version) -> Result<KeyValue, Fault> {
        match version.wire {
            Some(wire) => Ok(KeyValue::trusted(wire)),
            None => Ok(KeyValue::trusted(self.values.read(version.revision)?.wire)),
        }
    }

    /// How many keys of `range` exist. O(log n) at the root's own revision; else the cheaper of looking at each key and
    /// of looking at each change since.
    pub(crate) fn count(&self, range: &KeyRange) -> Result<u64, Fault> {
        let count = self.root.tree.count_in(range);
        if self.at == self.root.revision {
            return Ok(count.live);
        }
        let changes = (self.root.revision - self.at) as u64;
        if count.entries <= changes.max(16) || self.values.pending.is_some() {
            return self.count_keys(range);
        }
        self.count_back(range, count.live)
    }

    fn count_keys(&self, range: &KeyRange) -> Result<u64, Fault> {
        let mut count = 0;
        for (key, head) in self.root.tree.iter_from(range.start()).take_while(|(key, _)| range.contains(key))
        {
            count += u64::from(self.visible(key, head)?.is_some());
        }
        Ok(count)
    }

    /// Takes back the creations and deletions after the revision.
    fn count_back(&self, range: &KeyRange, live: u64) -> Result<u64, Fault> {
        let mut count = live;
        for change in self.values.shared.log.changes(Revision::new(self.at + 1, 0), self.root.revision) {
            let change = change?;
            match change.kind {
                CREATE if planted(Bug::CountForgetsCreations) => {}
                CREATE if range.contains(change.fields().key) => count = count.saturating_sub(1),
                DELETE if range.contains(change.fields().key) => count += 1,
                _ => {}
            }
        }
        Ok(count)
    }
}
