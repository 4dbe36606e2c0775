//! The records of the revision log: pure encoding and decoding. Drawn in `docs/format/revision-log.md`.
//!
//! ```text
//! CREATE, UPDATE, DELETE   0 sub u32 | 4 previous sub u32 | 8 previous main u64 | 16 KeyValue wire encoding
//! COMMIT                   0 revision u64 | 8 applied index u64 | 16 applied term u64
//! COMPACT                  0 revision u64
//! TABLE_PUT                0 table u8 | 1 key length u32 | 5 key | value
//! TABLE_DELETE             0 table u8 | 1 key
//! FOOTER                   0 rows u64 | 8 bytes of the rows' records u64
//! ROWS                     a multiple of: 0 main u64 | 8 offset u32 | 12 sub u32
//! ```
//!
//! All integers are little-endian. The main revision of a change is the `mod_revision` inside its wire encoding.

use bytes::Bytes;

use crate::encoding::{self, Fields};
use crate::revision::Revision;
use crate::types::Applied;

/// A put of a key that did not exist.
pub(crate) const CREATE: u8 = 1;
/// A put of a key that existed.
pub(crate) const UPDATE: u8 = 2;
/// A tombstone.
pub(crate) const DELETE: u8 = 3;
/// The end of a batch: the store's revision and the raft position it stands for.
pub(crate) const COMMIT: u8 = 4;
/// A logical compaction.
pub(crate) const COMPACT: u8 = 5;
/// An entry of a small table.
pub(crate) const TABLE_PUT: u8 = 6;
/// A removal from a small table.
pub(crate) const TABLE_DELETE: u8 = 7;
/// The beginning of a segment's footer.
pub(crate) const FOOTER: u8 = 8;
/// Rows of a footer.
pub(crate) const ROWS: u8 = 9;

/// The length of what stands before the wire encoding in a change.
pub(crate) const CHANGE_HEADER: usize = 16;
/// The length of a row.
pub(crate) const ROW_BYTES: usize = 16;
/// The most rows in one ROWS record.
pub(crate) const ROWS_MAX: usize = 1 << 20;

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    pub(crate) kind: u8,
    /// The key's version before this one, of whatever life; none for a key never seen.
    pub(crate) previous: Revision,
    /// The `KeyValue`; of a tombstone it has key and mod_revision only, as in a watch event.
    pub(crate) wire: Bytes,
}

impl Change {
    /// The bytes that stand before the wire encoding.
    pub(crate) fn header(&self) -> [u8; CHANGE_HEADER] {
        let mut header = [0; CHANGE_HEADER];
        header[..4].copy_from_slice(&self.revision.sub.to_le_bytes());
        header[4..8].copy_from_slice(&self.previous.sub.to_le_bytes());
        header[8..].copy_from_slice(&self.previous.main.to_le_bytes());
        header
    }

    /// Reads a change; `None` when it is none.
    pub(crate) fn decode(kind: u8, data: &Bytes) -> Option<Change> {
        if !(CREATE..=DELETE).contains(&kind) || data.len() < CHANGE_HEADER {
            return None;
        }
        let wire = data.slice(CHANGE_HEADER..);
        let main = encoding::decode(&wire)?.mod_revision;
        Some(Change {
            revision: Revision::new(main, u32_at(data, 0)?),
            kind,
            previous: Revision::new(u64_at(data, 8)? as i64, u32_at(data, 4)?),
            wire,
        })
    }

    pub(crate) fn fields(&self) -> Fields<'_> {
        encoding::decode(&self.wire).unwrap_or_default()
    }

    pub(crate) fn is_delete(&self) -> bool {
        self.kind == DELETE
    }

    /// The version this change made obsolete, if it was a live one.
    pub(crate) fn superseded(&self) -> Option<Revision> {
        (self.kind != CREATE && !self.previous.is_none()).then_some(self.previous)
    }
}

/// What the end of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) revision: i64,
    pub(crate) applied: Applied,
}

impl Commit {
    pub(crate) fn encode(&self) -> [u8; 24] {
        let mut out = [0; 24];
        out[..8].copy_from_slice(&self.revision.to_le_bytes());
        out[8..16].copy_from_slice(&self.applied.index.to_le_bytes());
        out[16..].copy_from_slice(&self.applied.term.to_le_bytes());
        out
    }

    pub(crate) fn decode(data: &[u8]) -> Option<Commit> {
        if data.len() != 24 {
            return None;
        }
        let applied = Applied { index: u64_at(data, 8)?, term: u64_at(data, 16)? };
        Some(Commit { revision: u64_at(data, 0)? as i64, applied })
    }
}

/// Splits a TABLE_PUT into table, key and value.
pub(crate) fn decode_table_put(data: &Bytes) -> Option<(u8, Bytes, Bytes)> {
    let len = u32_at(data, 1)? as usize;
    let value = 5usize.checked_add(len).filter(|&at| at <= data.len())?;
    Some((data[0], data.slice(5..value), data.slice(value..)))
}

/// One line of a segment's table of contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) revision: Revision,
    /// Where the record lies in its segment.
    pub(crate) offset: u32,
}

impl Row {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let [main, place] = self.words();
        out.extend_from_slice(&main.to_le_bytes());
        out.extend_from_slice(&place.to_le_bytes());
    }

    /// Row number `i` of `rows`, which has it.
    pub(crate) fn decode(rows: &[u8], i: usize) -> Option<Row> {
        Some(Row::from_words([u64_at(rows, i * ROW_BYTES)?, u64_at(rows, i * ROW_BYTES + 8)?]))
    }

    pub(crate) fn words(&self) -> [u64; 2] {
        [self.revision.main as u64, u64::from(self.revision.sub) << 32 | u64::from(self.offset)]
    }

    pub(crate) fn from_words([main, place]: [u64; 2]) -> Row {
        Row { revision: Revision::new(main as i64, (place >> 32) as u32), offset: place as u32 }
    }
}

/// The `u32` at `at`; `None` behind the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The `u64` at `at`; `None` behind the end.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> Change {
        let mut wire = Vec::new();
        encoding::encode(&Fields { key: b"k", mod_revision: 9, version: 2, ..Fields::default() }, &mut wire);
        Change {
            revision: Revision::new(9, 4),
            kind: UPDATE,
            previous: Revision::new(5, 1),
            wire: wire.into(),
        }
    }

    #[test]
    fn changes_come_back() {
        let mut data = change().header().to_vec();
        data.extend_from_slice(&change().wire);
        assert_eq!(Change::decode(UPDATE, &data.clone().into()), Some(change()));
        assert_eq!(Change::decode(COMMIT, &data.clone().into()), None);
        for cut in 0..CHANGE_HEADER {
            assert_eq!(Change::decode(UPDATE, &Bytes::copy_from_slice(&data[..cut])), None);
        }
    }

    #[test]
    fn commits_and_rows_come_back() {
        let commit = Commit { revision: 7, applied: Applied { index: 3, term: 2 } };
        assert_eq!(Commit::decode(&commit.encode()), Some(commit));
        assert_eq!(Commit::decode(&commit.encode()[1..]), None);
        let row = Row { revision: Revision::new(i64::MAX, u32::MAX), offset: 77 };
        let mut out = Vec::new();
        row.encode(&mut out);
        row.encode(&mut out);
        assert_eq!(Row::decode(&out, 1), Some(row));
        assert_eq!(Row::decode(&out, 2), None);
    }

    #[test]
    fn a_cut_table_record_is_refused() {
        let data = Bytes::from_static(&[3, 9, 0, 0, 0, 1]);
        assert_eq!(decode_table_put(&data), None);
        assert_eq!(decode_table_put(&data.slice(..2)), None);
    }
}
