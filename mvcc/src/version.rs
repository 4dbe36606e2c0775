//! Which version of a key is visible at a revision, and how many keys are.

use std::cell::RefCell;

use bytes::Bytes;

use crate::encoding::Fields;
use crate::error::Fault;
use crate::index::{Entry, Head, Run};
use crate::log::cursor::{self, Cursor, Found};
use crate::log::record::{CREATE, Change, DELETE};
use crate::planted::{Bug, planted};
use crate::rest::Rest;
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
        KeyValue::encode(&key_only(&self.key, self.revision.main, self.create_revision, self.version))
    }
}

/// What a keys-only answer says of a version.
pub(crate) fn key_only(key: &[u8], mod_revision: i64, create_revision: i64, version: i64) -> Fields<'_> {
    let lease = i64::from(planted(Bug::KeysOnlyWithLease));
    Fields { key, create_revision, mod_revision, version, lease, ..Fields::default() }
}

/// A key-value that is borrowed where it can be.
pub(crate) enum Lent<'a> {
    Place(cursor::Lent<'a>),
    Log(Found<'a>),
    Own(Bytes),
}

impl Lent<'_> {
    pub(crate) fn wire(&self) -> &[u8] {
        match self {
            Lent::Place(lent) => lent.wire(),
            Lent::Log(found) => found.wire(),
            Lent::Own(wire) => wire,
        }
    }

    pub(crate) fn share(&self) -> Bytes {
        match self {
            Lent::Place(lent) => lent.share(),
            Lent::Log(found) => found.share(),
            Lent::Own(wire) => wire.clone(),
        }
    }
}

/// A root read as of a revision at or below its own.
pub(crate) struct Snapshot<'a> {
    pub(crate) root: &'a Root,
    values: &'a Values,
    at: i64,
    keys: bool,
    cursor: RefCell<Cursor>,
}

impl<'a> Snapshot<'a> {
    pub(crate) fn new(root: &'a Root, values: &'a Values, at: i64) -> Snapshot<'a> {
        Snapshot { root, values, at, keys: false, cursor: RefCell::new(Cursor::new(&values.shared.log)) }
    }

    /// What calls for rests among much that is read.
    pub(crate) fn rest(&self) -> Rest {
        self.values.rest
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
        if self.answers(&head) {
            let live = head.is_live();
            return Ok(live
                .then(|| found(head.revision, head.create_revision, head.version, None))
                .flatten());
        }
        let Some(change) = self.before(head)? else { return Ok(None) };
        let fields = change.fields();
        Ok(found(change.revision, fields.create_revision, fields.version, Some(change.wire.clone())))
    }

    /// Whether a key's newest version is what is asked for.
    pub(crate) fn answers(&self, head: &Head) -> bool {
        head.revision.main <= self.at
    }

    /// What a key was that has changed since; `None` when it did not exist.
    pub(crate) fn before(&self, head: Entry<'_>) -> Result<Option<Change>, Fault> {
        if head.create_revision > self.at && head.version == 1 && head.since_mark == 0 && head.marks.is_none()
        {
            return Ok(None); // the first version of a key never seen before
        }
        let mark = head.marks.and_then(|marks| marks.oldest_above(self.at));
        let mut change = self.read(mark.unwrap_or(head.revision))?;
        while change.previous.main > self.at {
            change = self.read(change.previous)?;
        }
        // The version before a creation is a tombstone, or nothing.
        if change.previous.is_none() || change.kind == CREATE {
            return Ok(None);
        }
        let change = self.read(change.previous)?;
        Ok((change.kind != DELETE).then_some(change))
    }

    fn read(&self, revision: Revision) -> Result<Change, Fault> {
        if let Some(change) = self.values.pending(revision)? {
            return Ok(change);
        }
        Ok(self.cursor.borrow_mut().read(&self.values.shared.log, revision, None)?.change())
    }

    /// Says whose newest versions are asked for next.
    pub(crate) fn expect<'e>(&self, entries: impl Iterator<Item = &'e Entry<'e>>) {
        if self.values.pending.is_none() {
            let mut cursor = self.cursor.borrow_mut();
            let places = entries.filter_map(Entry::place);
            places.for_each(|place| cursor.expect(&self.values.shared.log, place));
        }
    }

    /// Whether the newest version of each key is what is asked for, and in the log.
    pub(crate) fn is_newest(&self) -> bool {
        self.at == self.root.revision && self.values.pending.is_none()
    }

    /// Lends the key-values of a run's live keys, the first `limit` of them, to `f`; only for [`Snapshot::is_newest`]. How many there were,
    /// and whether one was left out.
    pub(crate) fn lend_run(
        &self,
        run: &Run<'_>,
        limit: u64,
        mut f: impl FnMut(Lent<'_>),
    ) -> Result<(u64, bool), Fault> {
        // What is this near to the one before is on its way already: memory is read ahead.
        const NEAR: u64 = 1024;
        self.values.shared.check()?;
        let log = &self.values.shared.log;
        let mut before = 0u64;
        let mut cursor = self.cursor.borrow_mut();
        for place in (0..run.len()).filter_map(|i| run.live_place(i)?).take(limit.min(64) as usize) {
            if place.as_u64().wrapping_sub(before) > NEAR {
                cursor.expect(log, place);
            }
            before = place.as_u64();
        }
        drop(cursor);
        let mut lent = 0;
        for i in 0..run.len() {
            let Some(place) = run.live_place(i) else { continue };
            if lent == limit {
                return Ok((lent, true));
            }
            lent += 1;
            if let Some(place) = place {
                let mut cursor = self.cursor.borrow_mut();
                if let Some(wire) = cursor.wire_at(log, place, || run.entry(i).revision)? {
                    f(Lent::Place(wire));
                    continue;
                }
            }
            self.lend(&run.entry(i), &mut f)?;
        }
        Ok((lent, false))
    }

    /// Lends the whole key-value of an entry's newest version to `f`.
    #[inline]
    pub(crate) fn lend<R>(&self, entry: &Entry<'_>, f: impl FnOnce(Lent<'_>) -> R) -> Result<R, Fault> {
        if let Some(change) = self.values.pending(entry.revision)? {
            return Ok(f(Lent::Own(change.wire)));
        }
        let mut cursor = self.cursor.borrow_mut();
        let place = entry.place();
        let found = cursor.read(&self.values.shared.log, entry.revision, place)?;
        if place != Some(found.position()) {
            entry.found_at(found.position());
        }
        Ok(f(Lent::Log(found)))
    }

    /// The whole key-value of a version.
    pub(crate) fn key_value(&self, version: Version) -> Result<KeyValue, Fault> {
        match version.wire {
            Some(wire) => Ok(KeyValue::trusted(wire)),
            None => Ok(KeyValue::trusted(self.read(version.revision)?.wire)),
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
        for (key, head) in self.root.tree.iter(range) {
            count += u64::from(self.visible(key, head)?.is_some());
        }
        Ok(count)
    }

    /// Takes back the creations and deletions after the revision.
    fn count_back(&self, range: &KeyRange, live: u64) -> Result<u64, Fault> {
        // What was created and deleted since counts below zero until its deletion comes.
        let (mut created, mut deleted) = (0, 0);
        for change in self.values.shared.log.changes(Revision::new(self.at + 1, 0), self.root.revision) {
            let change = change?;
            match change.kind {
                CREATE if planted(Bug::CountForgetsCreations) => {}
                CREATE if range.contains(change.fields().key) => created += 1,
                DELETE if range.contains(change.fields().key) => deleted += 1,
                _ => {}
            }
        }
        Ok((live + deleted).saturating_sub(created))
    }
}
