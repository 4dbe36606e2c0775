//! The bytes of a checkpoint: pure encoding and decoding. Drawn in `docs/format/checkpoint.md`.
//!
//! ```text
//! file    magic "KETCHCKP" | version u32 | zero u32 | chunk | chunk | …
//! chunk   length u32 | crc32 u32 over number and content | content: kind u8 | …
//! kinds   1 HEADER first | 2 DEAD a segment's marks | 3 TABLE entries | 4 KEYS entries | 5 END last
//! ```

use bytes::Bytes;
use ketch_wal::{Position, SegmentId};

use crate::compaction::Physical;
use crate::encoding::{put_prefixed, put_varint, take_bytes, take_varint};
use crate::index::marks::Mark;
use crate::index::{Entry, Head, Marks};
use crate::log::segment::Dead;
use crate::revision::Revision;
use crate::shared::Totals;
use crate::types::Applied;

pub(crate) const MAGIC: [u8; 8] = *b"KETCHCKP";
pub(crate) const VERSION: u32 = 1;
pub(crate) const FILE_HEADER: usize = 16;
pub(crate) const CHUNK_HEADER: usize = 8;
/// No chunk is longer than this: a loader refuses one that claims to be, a writer never makes one.
pub(crate) const CHUNK_MAX: usize = 128 << 20;
/// A chunk ends with the entry that reaches this. Keys and values are limited by the log's largest record, so no
/// chunk comes near [`CHUNK_MAX`].
pub(crate) const CHUNK_FULL: usize = 1 << 20;

pub(crate) const HEADER: u8 = 1;
pub(crate) const DEAD: u8 = 2;
pub(crate) const TABLE: u8 = 3;
pub(crate) const KEYS: u8 = 4;
pub(crate) const END: u8 = 5;

/// The facts of the root that was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The log's end at that root: replay begins here.
    pub(crate) end: Position,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) applied: Applied,
    pub(crate) written: Totals,
    pub(crate) physical: Physical,
    pub(crate) keys: u64,
}

impl Header {
    const WORDS: usize = 14;

    fn words(&self) -> [u64; Self::WORDS] {
        let (written, dead) = (self.written, self.physical.dead);
        [
            self.end.as_u64(),
            self.revision as u64,
            self.compacted as u64,
            self.applied.index,
            self.applied.term,
            written.bytes,
            written.versions,
            written.hash,
            self.physical.done as u64,
            dead.bytes,
            dead.versions,
            self.physical.dead_hash,
            self.keys,
            0,
        ]
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(HEADER);
        self.words().iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }

    pub(crate) fn decode(content: &[u8]) -> Option<Header> {
        let (words, rest) = content.as_chunks::<8>();
        if words.len() != Self::WORDS || !rest.is_empty() {
            return None;
        }
        let word = |i: usize| u64::from_le_bytes(words[i]);
        Some(Header {
            end: Position::from_u64(word(0)),
            revision: word(1) as i64,
            compacted: word(2) as i64,
            applied: Applied { index: word(3), term: word(4) },
            written: Totals { bytes: word(5), versions: word(6), hash: word(7) },
            physical: Physical {
                done: word(8) as i64,
                dead: Totals { bytes: word(9), versions: word(10), hash: 0 },
                dead_hash: word(11),
            },
            keys: word(12),
        })
    }
}

/// Wraps `content` as chunk number `number`.
pub(crate) fn chunk(number: u64, content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.extend_from_slice(&check(number, content).to_le_bytes());
    out.extend_from_slice(content);
}

/// The checksum of a chunk: of its number too, so that none can stand in for another.
pub(crate) fn check(number: u64, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}

pub(crate) fn encode_dead(id: SegmentId, dead: &Dead, out: &mut Vec<u8>) {
    out.push(DEAD);
    out.extend_from_slice(&id.0.to_le_bytes());
    dead.bits.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

pub(crate) fn decode_dead(content: &[u8]) -> Option<(SegmentId, Dead)> {
    let (words, rest) = content.as_chunks::<8>();
    let (id, bits) = words.split_first().filter(|_| rest.is_empty())?;
    let bits: Vec<u64> = bits.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let count = bits.iter().map(|word| u64::from(word.count_ones())).sum();
    Some((SegmentId(u64::from_le_bytes(*id)), Dead { bits, count }))
}

/// Appends one entry of a TABLE chunk, whose content begins with kind and table number.
pub(crate) fn encode_table_entry(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    put_prefixed(key, out);
    put_prefixed(value, out);
}

pub(crate) fn take_table_entry(rest: &mut &[u8]) -> Option<(Bytes, Bytes)> {
    let (key, value) = (take_bytes(rest)?, take_bytes(rest)?);
    Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
}

/// Appends one entry of a KEYS chunk.
pub(crate) fn encode_key(key: &[u8], head: Entry<'_>, out: &mut Vec<u8>) {
    put_prefixed(key, out);
    put_varint(head.revision.main as u64, out);
    put_varint(u64::from(head.revision.sub), out);
    put_varint(head.version as u64, out);
    put_varint(head.create_revision as u64, out);
    put_varint(u64::from(head.since_mark), out);
    let marks = head.marks.map(|marks| marks.above(0)).unwrap_or_default();
    put_varint(marks.len() as u64, out);
    for mark in marks {
        put_varint(mark.main as u64, out);
        put_varint(u64::from(mark.sub), out);
    }
}

pub(crate) fn take_key<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Head, Option<Marks>)> {
    let key = take_bytes(rest)?;
    let revision = take_revision(rest)?;
    let version = take_varint(rest)? as i64;
    let create_revision = take_varint(rest)? as i64;
    let since_mark = u8::try_from(take_varint(rest)?).ok()?;
    let mut marks = None;
    for _ in 0..take_varint(rest)? {
        marks = Some(Mark::push(marks.as_ref(), take_revision(rest)?));
    }
    Some((key, Head { revision, since_mark, create_revision, version }, marks))
}

fn take_revision(rest: &mut &[u8]) -> Option<Revision> {
    Some(Revision::new(take_varint(rest)? as i64, u32::try_from(take_varint(rest)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        let header = Header {
            end: Position::from_u64(9 << 32 | 5),
            revision: 7,
            compacted: -1,
            applied: Applied { index: 4, term: 2 },
            written: Totals { bytes: 1, versions: 2, hash: u64::MAX },
            physical: Physical { done: -1, dead: Totals { bytes: 3, versions: 4, hash: 0 }, dead_hash: 77 },
            keys: 6,
        };
        let mut out = Vec::new();
        header.encode(&mut out);
        assert_eq!(Header::decode(&out[1..]), Some(header));
        assert_eq!(Header::decode(&out[2..]), None);
    }

    #[test]
    fn keys_and_their_marks_come_back_and_cuts_do_not() {
        let marks: Vec<Revision> = (1..40).map(|i| Revision::new(i, 0)).collect();
        let head = Head { revision: Revision::new(41, 3), since_mark: 2, create_revision: 1, version: 41 };
        let mut out = Vec::new();
        encode_key(b"key", Entry::apart(head, Mark::rebuild(&marks).as_ref()), &mut out);
        let mut rest = &out[..];
        let (key, found, found_marks) = take_key(&mut rest).unwrap();
        assert_eq!((key, found), (&b"key"[..], head));
        assert_eq!(found_marks.unwrap().above(0), marks);
        assert!(rest.is_empty());
        for cut in 0..out.len() {
            assert!(take_key(&mut &out[..cut]).is_none());
        }
    }

    #[test]
    fn marks_of_the_dead_come_back() {
        let mut dead = Dead::default();
        for i in [3, 64, 200] {
            dead.mark(i);
        }
        let mut out = Vec::new();
        encode_dead(SegmentId(8), &dead, &mut out);
        assert_eq!(decode_dead(&out[1..]), Some((SegmentId(8), dead)));
    }
}
