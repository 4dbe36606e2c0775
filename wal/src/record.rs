//! Records and the batches that carry them: a reusable builder that encodes frames as they come.

use bytes::Bytes;

use crate::format::{self, FRAME_BYTES, PART_BYTES, RECORD_BYTES_MAX};
use crate::position::Position;

/// One record, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub position: Position,
    /// The kind it was pushed with, 0 to 239.
    pub kind: u8,
    /// Its bytes. They keep their segment's file alive and never change.
    pub data: Bytes,
}

impl Record {
    /// Where its frame ends: the next record of the same batch begins there, unless the batch goes on in another segment.
    pub fn end(&self) -> Position {
        let end = self.position.offset() + format::frame_bytes(self.data.len());
        Position::new(self.position.segment().0, end)
    }
}

/// Records that become durable together or not at all.
///
/// A batch is meant to be used again and again: [`clear`](Batch::clear) keeps its memory, so that in a steady state a record
/// costs no allocation. Checksums are computed while pushing, outside of any lock of the log.
///
/// ```
/// let mut batch = ketch_wal::Batch::new();
/// batch.push(1, &[b"term ", b"7"]);
/// batch.push_with(2, |bytes| bytes.extend_from_slice(b"encoded in place"));
/// assert_eq!(batch.len(), 2);
/// ```
#[derive(Debug, Default, Clone)]
pub struct Batch {
    /// Room for a part header, then whole frames whose checksums are not yet bound to a place.
    frames: Vec<u8>,
    records: u32,
    largest: u64,
    bad_kind: Option<u8>,
    positions: Vec<Position>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.records = 0;
        self.largest = 0;
        self.bad_kind = None;
        self.positions.clear();
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.records as usize
    }

    /// The bytes the records take up in the log, frames included.
    pub fn bytes(&self) -> usize {
        self.frames.len()
    }

    /// Adds one record, the concatenation of `parts`. `kind` is the user's, 0 to 239; a greater one, and a record over
    /// [`RECORD_BYTES_MAX`], are refused by the append.
    pub fn push(&mut self, kind: u8, parts: &[&[u8]]) {
        self.push_with(kind, |bytes| {
            for part in parts {
                bytes.extend_from_slice(part);
            }
        });
    }

    /// Adds one record that `fill` encodes in place. It must only append to the vector it is given.
    pub fn push_with(&mut self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        if kind > format::KIND_USER_MAX {
            self.bad_kind = Some(kind);
        }
        self.push_frame(kind, fill);
    }

    pub(crate) fn push_frame(&mut self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.frames.len();
        self.frames.resize(start + FRAME_BYTES, 0);
        fill(&mut self.frames);
        let len = self.frames.len().saturating_sub(start + FRAME_BYTES);
        self.frames.resize(start + FRAME_BYTES + format::padded(len), 0);
        self.largest = self.largest.max(len as u64);
        // A record too long for the field is refused by the append, which looks at `largest`.
        format::frame_finish(&mut self.frames[start..], kind, len as u32);
        self.records += 1;
    }

    /// After an append, the place of each record, in order. Empty before.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    pub(crate) fn positions_mut(&mut self) -> &mut Vec<Position> {
        &mut self.positions
    }

    pub(crate) fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// The length of the largest record, in bytes.
    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }

    pub(crate) fn bad_kind(&self) -> Option<u8> {
        self.bad_kind
    }

    /// What the batch takes up in a segment when it is one part.
    pub(crate) fn part_bytes(&self) -> u64 {
        (2 * PART_BYTES + self.frames.len()) as u64
    }
}

const _: () = assert!(RECORD_BYTES_MAX <= u32::MAX as u64);
