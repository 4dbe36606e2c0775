//! Many records of one segment: it is looked up and mapped once, not once a record.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::Core;
use crate::disk::Access;
use crate::error::Error;
use crate::format::{FRAME_BYTES, FrameHeader, HEADER_BYTES, KIND_USER_MAX, frame_valid};
use crate::position::Position;
use crate::reader::damaged;
use crate::segment::Segment;
use crate::sys::prefetch;

/// A segment as far as it was written when the view was taken. Neither a purge nor a rewrite disturbs it: it keeps the file's map
/// alive.
#[derive(Debug, Clone)]
pub struct SegmentView {
    segment: Arc<Segment>,
    /// From the beginning of the file.
    bytes: Bytes,
}

/// One record of a [`SegmentView`], borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Borrowed<'a> {
    /// The kind it was pushed with, 0 to 239.
    pub kind: u8,
    /// Its bytes.
    pub data: &'a [u8],
}

impl SegmentView {
    /// Whether a record at this offset of the segment can be in the view.
    #[inline]
    pub fn reaches(&self, offset: u64) -> bool {
        offset < self.bytes.len() as u64
    }

    /// The record at an offset of the segment. Its checksum is verified when `verify` says so: whoever has done that before, for as long
    /// as the log is open, may leave it out.
    ///
    /// # Errors
    /// [`Error::NotARecord`], [`Error::Damage`]. Without verification a damaged record may be taken for a good one.
    #[inline]
    pub fn record(&self, offset: u64, verify: bool) -> Result<Borrowed<'_>, Error> {
        let not_a_record = || Error::NotARecord { position: self.segment.position(offset) };
        let from =
            usize::try_from(offset).ok().filter(|from| from % 8 == 0 && *from >= HEADER_BYTES as usize);
        let rest = from.and_then(|from| self.bytes.get(from..)).ok_or_else(not_a_record)?;
        let header = FrameHeader::decode(rest).ok_or_else(not_a_record)?;
        let frame = rest.get(..header.bytes() as usize).ok_or_else(not_a_record)?;
        if header.kind > KIND_USER_MAX {
            return Err(not_a_record());
        }
        if verify && !frame_valid(frame, &header, self.segment.seed, offset) {
            return Err(damaged(&self.segment, offset, "a frame whose checksum does not match its place"));
        }
        Ok(Borrowed { kind: header.kind, data: &frame[FRAME_BYTES..FRAME_BYTES + header.len as usize] })
    }

    /// Brings the beginning of the record at `offset` near, a few hundred bytes of it, so that a read that follows soon finds it there. When
    /// several records that lie apart are wanted, calling this for all of them first lets the memory work on them side by side.
    pub fn touch(&self, offset: u64) {
        const BYTES: usize = 6 * 64;
        let Ok(from) = usize::try_from(offset) else { return };
        let until = self.bytes.len().min(from.saturating_add(BYTES));
        prefetch(self.bytes.get(from..until).unwrap_or_default());
    }

    /// A handle to bytes that a record of this view lent, or to a part of them.
    ///
    /// # Panics
    /// When they are another's.
    pub fn share(&self, data: &[u8]) -> Bytes {
        self.bytes.slice_ref(data)
    }
}

impl Core {
    pub(crate) fn view(&self, at: Position) -> Result<Option<SegmentView>, Error> {
        if self.options().read_only {
            return Ok(None);
        }
        let segment = {
            let table = self.table();
            // What was truncated must not be met, and is not looked for record by record.
            if !table.dead().is_empty() {
                return Ok(None);
            }
            Arc::clone(table.find(at)?)
        };
        if at.offset() >= segment.end() {
            self.flush()?;
        }
        let end = segment.end();
        if at.offset() >= end {
            return Err(Error::Ahead { position: at, end: segment.position(end) });
        }
        let bytes = segment.file.read(0, end as usize, Access::Map);
        let bytes = bytes.map_err(|error| Error::io("map a segment", error))?;
        Ok(Some(SegmentView { segment, bytes }))
    }
}
