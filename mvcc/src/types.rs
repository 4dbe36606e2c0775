//! What callers say and hear: ranges, queries, key-values as views of wire bytes.

use std::fmt;

use bytes::Bytes;

use crate::encoding::{self, Fields};

/// A set of keys: one key, or all keys from `start` up to (not including) `end`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KeyRange {
    /// Exactly this key.
    Single(Bytes),
    /// Every key that is `>= start` and, when there is an end, `< end`.
    Span {
        /// The first key.
        start: Bytes,
        /// The first key no longer in the range; `None` goes to the end of the key space.
        end: Option<Bytes>,
    },
}

impl KeyRange {
    /// Reads etcd's pair of `key` and `range_end`: an empty end names the single key, an end of one zero byte
    /// means "from `key` on", anything else is the first key behind the range. An end at or below the key gives
    /// an empty range, as in etcd.
    pub fn from_wire(key: Bytes, range_end: Bytes) -> KeyRange {
        if range_end.is_empty() {
            KeyRange::Single(key)
        } else if range_end[..] == [0] {
            KeyRange::Span { start: key, end: None }
        } else {
            KeyRange::Span { start: key, end: Some(range_end) }
        }
    }

    /// Every key there is.
    pub fn all() -> KeyRange {
        KeyRange::Span { start: Bytes::new(), end: None }
    }

    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> KeyRange {
        let start = prefix.into();
        let mut end = start.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        match end.last_mut() {
            Some(last) => *last += 1,
            None => return KeyRange::Span { start, end: None },
        }
        KeyRange::Span { start, end: Some(end.into()) }
    }

    /// The first key of the range.
    pub fn start(&self) -> &Bytes {
        match self {
            KeyRange::Single(key) => key,
            KeyRange::Span { start, .. } => start,
        }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Single(single) => single == key,
            KeyRange::Span { start, end } => {
                key >= &start[..] && end.as_ref().is_none_or(|end| key < &end[..])
            }
        }
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Span { start, end: Some(end) } if end <= start)
    }
}

/// What a range answer is sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SortTarget {
    /// The key, as stored.
    Key,
    /// The number of puts since the key's creation.
    Version,
    /// The revision the key was created at.
    Create,
    /// The revision of the version.
    Mod,
    /// The value.
    Value,
}

/// The direction of a sort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SortOrder {
    /// Not said. By key that is ascending; for any other target etcd fetches `limit + 1` key-values in the order of
    /// keys, and sorts those.
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// One range read, with etcd's fields and their meaning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// Which keys.
    pub range: KeyRange,
    /// The revision to read at; 0 or less is the newest.
    pub revision: i64,
    /// The most key-values in the answer, applied after filters and sorting; 0 is no limit.
    pub limit: u64,
    /// Only the count; no key-values.
    pub count_only: bool,
    /// No values. Unless sorted by value, the answer comes from the index and, as in etcd, has no lease.
    pub keys_only: bool,
    /// The order; `None` is by key, ascending.
    pub sort: Option<(SortTarget, SortOrder)>,
    /// Leaves out versions older than this; 0 is off.
    pub min_mod_revision: i64,
    /// Leaves out versions newer than this; 0 is off.
    pub max_mod_revision: i64,
    /// Leaves out keys created before this; 0 is off.
    pub min_create_revision: i64,
    /// Leaves out keys created after this; 0 is off.
    pub max_create_revision: i64,
}

impl Query {
    /// The newest version of everything in `range`.
    pub fn new(range: KeyRange) -> Query {
        Query {
            range,
            revision: 0,
            limit: 0,
            count_only: false,
            keys_only: false,
            sort: None,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    /// Whether a filter by revision is set.
    pub(crate) fn has_filters(&self) -> bool {
        self.min_mod_revision != 0
            || self.max_mod_revision != 0
            || self.min_create_revision != 0
            || self.max_create_revision != 0
    }

    /// Whether a version created and changed at these revisions passes the filters.
    pub(crate) fn passes(&self, create_revision: i64, mod_revision: i64) -> bool {
        (self.max_mod_revision == 0 || mod_revision <= self.max_mod_revision)
            && (self.min_mod_revision == 0 || mod_revision >= self.min_mod_revision)
            && (self.max_create_revision == 0 || create_revision <= self.max_create_revision)
            && (self.min_create_revision == 0 || create_revision >= self.min_create_revision)
    }
}

/// The answer to a [`Query`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeResult {
    /// The key-values, in the order asked for.
    pub kvs: Vec<KeyValue>,
    /// How many keys the range holds at the revision, regardless of limit and filters.
    pub count: u64,
    /// Whether the limit left something out.
    pub more: bool,
    /// The store's revision at the time of the read, for the response header.
    pub revision: i64,
}

/// One version of a key: a view of its wire encoding, which is stored and sent as it is.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct KeyValue {
    wire: Bytes,
}

impl KeyValue {
    /// Takes an encoding; `None` when it is not one.
    pub fn from_wire(wire: Bytes) -> Option<KeyValue> {
        encoding::decode(&wire)?;
        Some(KeyValue { wire })
    }

    /// Takes an encoding that a checksum or our own encoder vouches for.
    pub(crate) fn trusted(wire: Bytes) -> KeyValue {
        KeyValue { wire }
    }

    /// Encodes `fields`.
    pub fn encode(fields: &Fields<'_>) -> KeyValue {
        let mut out = Vec::with_capacity(encoding::encoded_len_max(fields));
        encoding::encode(fields, &mut out);
        KeyValue { wire: out.into() }
    }

    /// All fields, borrowed.
    pub fn fields(&self) -> Fields<'_> {
        encoding::decode(&self.wire).unwrap_or_default()
    }

    /// The key, sharing the encoding's memory.
    pub fn key(&self) -> Bytes {
        self.wire.slice_ref(self.fields().key)
    }

    /// The value, sharing the encoding's memory.
    pub fn value(&self) -> Bytes {
        self.wire.slice_ref(self.fields().value)
    }

    /// The revision the key's present life began at.
    pub fn create_revision(&self) -> i64 {
        self.fields().create_revision
    }

    /// The revision of this version.
    pub fn mod_revision(&self) -> i64 {
        self.fields().mod_revision
    }

    /// The number of puts since the key's creation.
    pub fn version(&self) -> i64 {
        self.fields().version
    }

    /// The lease the key is attached to; 0 for none.
    pub fn lease(&self) -> i64 {
        self.fields().lease
    }

    /// The protobuf encoding of `mvccpb.KeyValue`.
    pub fn as_wire(&self) -> &Bytes {
        &self.wire
    }

    /// The encoding itself.
    pub fn into_wire(self) -> Bytes {
        self.wire
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields();
        f.debug_struct("KeyValue")
            .field("key", &Bytes::copy_from_slice(fields.key))
            .field("create_revision", &fields.create_revision)
            .field("mod_revision", &fields.mod_revision)
            .field("version", &fields.version)
            .field("value", &Bytes::copy_from_slice(&fields.value[..fields.value.len().min(64)]))
            .field("lease", &fields.lease)
            .finish()
    }
}

/// The raft position a batch of changes stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Applied {
    /// Index of the last entry whose effects the store holds.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// How large the store is. Every figure is known without a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// Bytes of uncompacted revisions and of the tables, with a fixed charge for each version's framing and index
    /// entry; tombstones are free. This is what a quota counts; it shrinks as compaction proceeds.
    pub logical_bytes: u64,
    /// Bytes of the files that hold something not yet compacted away.
    pub in_use_bytes: u64,
    /// Bytes of the store's files.
    pub physical_bytes: u64,
    /// Live keys.
    pub keys: u64,
    /// Versions, tombstones included, that are not compacted away.
    pub revisions: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_ranges_mean_what_etcd_means() {
        let range =
            |end: &'static [u8]| KeyRange::from_wire(Bytes::from_static(b"b"), Bytes::from_static(end));
        assert!(range(b"").contains(b"b") && !range(b"").contains(b"ba"));
        assert!(range(b"\0").contains(b"zzz") && !range(b"\0").contains(b"a"));
        assert!(range(b"c").contains(b"bz") && !range(b"c").contains(b"c"));
        assert!(range(b"a").is_empty() && range(b"b").is_empty() && !range(b"\0").is_empty());
    }

    #[test]
    fn prefixes_end_behind_their_last_key() {
        let ends = |p: &'static [u8]| match KeyRange::prefix(p) {
            KeyRange::Span { end, .. } => end.map(|e| e.to_vec()),
            KeyRange::Single(_) => unreachable!(),
        };
        assert_eq!(ends(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(ends(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(ends(b"\xff\xff"), None);
        assert_eq!(ends(b""), None);
    }
}
