//! The bytes of a chunk: pure encoding and decoding.
//!
//! ```text
//! chunk   magic "KSC1" | revision u64 | compacted u64 | applied index u64 | applied term u64
//!         | from: stage u8, main u64, sub u32 | next: stage u8, main u64, sub u32 | body length u32 | body | crc32 u32
//! body    stage 0, tables:  { table u8 | key length, key | value length, value }
//!         stage 1, changes: { main varint | sub varint | wire length, wire encoding }
//!         stage 2, end:     hash u64
//! ```

use bytes::Bytes;

use crate::log::record::{u32_at, u64_at};
use crate::revision::Revision;
use crate::types::Applied;

const MAGIC: [u8; 4] = *b"KSC1";
const HEAD: usize = 4 + 32 + 13 + 13 + 4;

/// A place in a snapshot's stream: everything before it has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) stage: u8,
    pub(super) revision: Revision,
}

pub(super) const TABLES: u8 = 0;
pub(super) const CHANGES: u8 = 1;
pub(super) const END: u8 = 2;
pub(super) const DONE: u8 = 3;

impl Cursor {
    /// The beginning of the stream.
    pub const START: Cursor = Cursor { stage: TABLES, revision: Revision::NONE };

    /// Whether nothing follows.
    pub fn is_done(&self) -> bool {
        self.stage == DONE
    }

    /// The place as bytes, for the one who sends.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(13);
        self.encode(&mut out);
        out
    }

    /// Reads a place back; `None` when the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Cursor> {
        (bytes.len() == 13 && bytes[0] <= DONE).then(|| Cursor::decode(bytes, 0)).flatten()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.stage);
        out.extend_from_slice(&self.revision.main.to_le_bytes());
        out.extend_from_slice(&self.revision.sub.to_le_bytes());
    }

    fn decode(bytes: &[u8], at: usize) -> Option<Cursor> {
        let revision = Revision::new(u64_at(bytes, at + 1)? as i64, u32_at(bytes, at + 9)?);
        Some(Cursor { stage: bytes[at], revision })
    }
}

/// The state a stream is a picture of: equal in all its chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) applied: Applied,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// What to send.
    pub bytes: Bytes,
    /// Where the stream goes on.
    pub next: Cursor,
}

/// What a piece of a snapshot says of itself, for those who keep or forward pieces without taking them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    /// The revision of the state that the stream is a picture of.
    pub revision: i64,
    /// Its compaction point; -1 when it was never compacted.
    pub compacted: i64,
    /// Its raft position.
    pub applied: Applied,
    /// Where the piece begins: where the one before it ended.
    pub from: Cursor,
    /// Where the next piece begins.
    pub next: Cursor,
    /// The hash of the whole state; in the last piece only.
    pub hash: Option<u64>,
}

impl Chunk {
    /// Checks the bytes of a piece and reads what it says of itself; `None` when they are damaged or none.
    pub fn inspect(bytes: &[u8]) -> Option<ChunkHead> {
        let Decoded { point, from, next, body } = decode(bytes)?;
        let hash = if from.stage == END { Some(u64_at(body, 0)?) } else { None };
        let Point { revision, compacted, applied } = point;
        Some(ChunkHead { revision, compacted, applied, from, next, hash })
    }
}

pub(super) struct Decoded<'a> {
    pub(super) point: Point,
    pub(super) from: Cursor,
    pub(super) next: Cursor,
    pub(super) body: &'a [u8],
}

pub(super) fn encode(point: &Point, from: Cursor, next: Cursor, body: &[u8]) -> Chunk {
    let mut out = Vec::with_capacity(HEAD + body.len() + 4);
    out.extend_from_slice(&MAGIC);
    let words = [point.revision as u64, point.compacted as u64, point.applied.index, point.applied.term];
    words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    from.encode(&mut out);
    next.encode(&mut out);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    Chunk { bytes: out.into(), next }
}

/// Reads a chunk; `None` when it is damaged or none.
pub(super) fn decode(bytes: &[u8]) -> Option<Decoded<'_>> {
    let crc_at = bytes.len().checked_sub(4).filter(|&at| at >= HEAD)?;
    let right = bytes[..4] == MAGIC && u32_at(bytes, crc_at)? == crc32fast::hash(&bytes[..crc_at]);
    let body = &bytes[HEAD..crc_at];
    if !right || u32_at(bytes, HEAD - 4)? as usize != body.len() {
        return None;
    }
    let applied = Applied { index: u64_at(bytes, 20)?, term: u64_at(bytes, 28)? };
    let point = Point { revision: u64_at(bytes, 4)? as i64, compacted: u64_at(bytes, 12)? as i64, applied };
    Some(Decoded { point, from: Cursor::decode(bytes, 36)?, next: Cursor::decode(bytes, 49)?, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_back_and_damaged_ones_do_not() {
        let point = Point { revision: 9, compacted: -1, applied: Applied { index: 5, term: 2 } };
        let next = Cursor { stage: CHANGES, revision: Revision::new(7, 1) };
        assert_eq!(Cursor::from_bytes(&next.to_bytes()), Some(next));
        assert_eq!(Cursor::from_bytes(&next.to_bytes()[1..]), None);
        assert_eq!(Cursor::from_bytes(&[DONE + 1; 13]), None);
        let chunk = encode(&point, Cursor::START, next, b"body");
        let decoded = decode(&chunk.bytes).unwrap();
        assert_eq!((decoded.point, decoded.from, decoded.next), (point, Cursor::START, next));
        assert_eq!(decoded.body, b"body");
        let head = Chunk::inspect(&chunk.bytes).unwrap();
        assert_eq!((head.revision, head.compacted, head.from, head.hash), (9, -1, Cursor::START, None));
        for cut in 0..chunk.bytes.len() {
            assert!(decode(&chunk.bytes[..cut]).is_none());
        }
        for bit in 0..chunk.bytes.len() * 8 {
            let mut damaged = chunk.bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_none(), "bit {bit}");
        }
    }
}
