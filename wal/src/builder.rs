//! Segments built apart from the log's end, to take the place of sealed ones.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::Core;
use crate::disk::Access;
use crate::error::Error;
use crate::format::{
    BATCH_BYTES_MAX, FrameHeader, HEADER_BYTES, KIND_COMMIT, KIND_USER_MAX, NEXT_BUILT, NEXT_NONE,
    PART_BYTES, Part, PartEnd, PartMix, RECORD_BYTES_MAX, SEGMENT_BYTES_MAX, frame_bind,
};
use crate::position::{Position, SegmentId};
use crate::record::{Batch, Record};
use crate::segment::{Segment, SegmentInfo};
use crate::write_behind::WriteBehind;

/// A segment under construction: batches are written as they come, nothing is synced before
/// [`finish`](SegmentBuilder::finish). It can be left and taken up again at any time; dropped, its file is removed.
#[derive(Debug)]
pub struct SegmentBuilder {
    core: Arc<Core>,
    segment: Option<Arc<Segment>>,
    out: Vec<u8>,
    next: u64,
    write_behind: WriteBehind,
    sequence: u64,
}

/// So many bytes are left to the system's memory before their write-back begins, and so many more until that must be over: another
/// file's sync stands behind few of them, not behind a whole segment.
const WRITE_BACK_BYTES: u64 = 256 << 10;

/// A finished segment, durable, waiting for [`Wal::replace`](crate::Wal::replace). Dropped, its file is removed.
#[derive(Debug)]
pub struct BuiltSegment {
    core: Arc<Core>,
    segment: Option<Arc<Segment>>,
}

impl SegmentBuilder {
    pub(crate) fn new(core: Arc<Core>) -> Result<SegmentBuilder, Error> {
        if core.options().read_only {
            return Err(Error::ReadOnly);
        }
        let generation = core.table().order().iter().map(|segment| segment.generation).max().unwrap_or(0);
        let segment =
            core.maker.build(generation.saturating_add(1)).map_err(|e| Error::io("begin a segment", e))?;
        let (next, out) = (HEADER_BYTES, Vec::new());
        let write_behind = WriteBehind::default();
        Ok(SegmentBuilder { core, segment: Some(segment), out, next, write_behind, sequence: 1 })
    }

    /// The segment's number.
    pub fn id(&self) -> SegmentId {
        SegmentId(self.segment.as_ref().map_or(0, |segment| segment.id))
    }

    /// Where the next batch goes: its records lie past this.
    pub fn position(&self) -> Position {
        Position::new(self.id().0, self.next)
    }

    /// The bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.next
    }

    /// Adds a batch; its positions are those the records will have in the log.
    ///
    /// # Errors
    /// [`Error::Io`]; then the builder is of no more use. [`Error::RecordTooLarge`], [`Error::BadKind`], and
    /// [`Error::BatchTooLarge`] when the segment would exceed 2 GiB; then nothing was added.
    pub fn append(&mut self, batch: &mut Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        self.write(batch, NEXT_NONE).map(|_| ())
    }

    /// Adds the last batch, which may be empty, and makes the segment durable.
    ///
    /// # Errors
    /// As those of [`append`](SegmentBuilder::append); the file is removed.
    pub fn finish(mut self, footer: &mut Batch) -> Result<BuiltSegment, Error> {
        let footer = self.write(footer, NEXT_BUILT)?;
        let Some(segment) = self.segment.take() else { return Err(Error::ReadOnly) };
        segment.seal(footer);
        let built = BuiltSegment { core: Arc::clone(&self.core), segment: Some(Arc::clone(&segment)) };
        if !self.core.options().unsafe_no_sync {
            segment.file.sync().map_err(|e| Error::io("sync a built segment", e))?;
        }
        Ok(built)
    }

    /// The record at a position of this segment, before it is part of the log.
    ///
    /// # Errors
    /// As those of [`Wal::read`](crate::Wal::read).
    pub fn read(&self, at: Position) -> Result<Record, Error> {
        match &self.segment {
            Some(segment) if at.segment().0 == segment.id => {
                crate::reader::read_at(segment, at, Access::Copy)
            }
            _ => Err(Error::NotARecord { position: at }),
        }
    }

    fn write(&mut self, batch: &mut Batch, next: u64) -> Result<u64, Error> {
        if let Some(kind) = batch.bad_kind() {
            return Err(Error::BadKind { kind, limit: KIND_USER_MAX });
        }
        if batch.largest() > RECORD_BYTES_MAX {
            return Err(Error::RecordTooLarge { bytes: batch.largest(), limit: RECORD_BYTES_MAX });
        }
        if batch.part_bytes() > BATCH_BYTES_MAX || self.next + batch.part_bytes() > SEGMENT_BYTES_MAX {
            let limit = BATCH_BYTES_MAX.min(SEGMENT_BYTES_MAX - self.next);
            return Err(Error::BatchTooLarge { bytes: batch.part_bytes(), limit });
        }
        let Some(segment) = self.segment.clone() else { return Err(Error::ReadOnly) };
        let start = self.next;
        let footer = self.encode(&segment, batch, next);
        segment.file.write_at(start, &self.out).map_err(|e| Error::io("write a built segment", e))?;
        segment.set_end(self.next);
        if !self.core.options().unsafe_no_sync {
            let outcome = self.write_behind.wrote(&*segment.file, self.next, WRITE_BACK_BYTES);
            outcome.map_err(|e| Error::io("write back a built segment", e))?;
        }
        Ok(if next == NEXT_BUILT { footer } else { 0 })
    }

    fn encode(&mut self, segment: &Segment, batch: &mut Batch, next: u64) -> u64 {
        self.out.clear();
        let part = Part { sequence: self.sequence, durable: 0, index: 0, flags: 0 };
        self.sequence += 1;
        let (mut mix, mut records, mut footer) = (PartMix::new(&part), 0, 0);
        part.encode(&mut self.out, segment.seed, self.next);
        self.next += PART_BYTES as u64;
        let mut at = self.out.len();
        self.out.extend_from_slice(batch.frames());
        let mut positions = mem::take(batch.positions_mut());
        positions.clear();
        while let Some(header) = FrameHeader::decode_unbound(&self.out[at..]) {
            mix.add(frame_bind(&mut self.out[at..], segment.seed, self.next));
            positions.push(segment.position(self.next));
            footer = if footer == 0 { self.next } else { footer };
            records += 1;
            at += header.bytes() as usize;
            self.next += header.bytes();
        }
        *batch.positions_mut() = positions;
        let footer = if next == NEXT_BUILT { footer } else { 0 };
        let end = PartEnd { mix, next, records, footer: footer as u32 };
        end.encode(&mut self.out, KIND_COMMIT, segment.seed, self.next);
        self.next += PART_BYTES as u64;
        footer
    }
}

impl Drop for SegmentBuilder {
    fn drop(&mut self) {
        remove(&self.core, self.segment.take());
    }
}

impl BuiltSegment {
    /// The segment's shape.
    pub fn info(&self) -> SegmentInfo {
        let none = SegmentInfo {
            id: SegmentId(0),
            first: Position::START,
            footer: Position::START,
            end: Position::START,
            bytes: 0,
            generation: 0,
            sealed: true,
        };
        self.segment.as_ref().map_or(none, |segment| segment.info())
    }

    /// The log it was built for, in this opening.
    pub(crate) fn belongs_to(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.core, core)
    }

    pub(crate) fn take(&mut self) -> Option<Arc<Segment>> {
        self.segment.take()
    }

    /// The bytes of a record's data, as the log will give them.
    ///
    /// # Errors
    /// As those of [`Wal::read`](crate::Wal::read).
    pub fn read(&self, at: Position) -> Result<Bytes, Error> {
        match &self.segment {
            Some(segment) if at.segment().0 == segment.id => {
                crate::reader::read_at(segment, at, Access::Copy).map(|record| record.data)
            }
            _ => Err(Error::NotARecord { position: at }),
        }
    }
}

impl Drop for BuiltSegment {
    fn drop(&mut self) {
        remove(&self.core, self.segment.take());
    }
}

fn remove(core: &Core, segment: Option<Arc<Segment>>) {
    if let Some(segment) = segment {
        core.maker.discard(&segment.path);
    }
}
