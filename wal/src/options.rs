//! Options of a log, with units and dangers; and what opening it found.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::OpenError;
use crate::format::{METADATA_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::pool::Pool;
use crate::position::{Position, SegmentId};
use crate::wal::Wal;

/// How much opening a log reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Every frame of every segment.
    #[default]
    All,
    /// The tail that may be torn, and of the sealed segments the header and the end. Damage inside a sealed segment is found when
    /// it is read. For logs whose owner starts from a checkpoint.
    Tail,
}

/// Options of [`Wal::open`]. Only `metadata` is stored; everything else may change from one opening to the next.
#[derive(Debug, Clone)]
pub struct Options {
    /// The size of a segment's file, in bytes: 8 KiB to 2 GiB. Records that do not fit get a segment of their own.
    pub segment_bytes: u64,
    /// How many segments [`Wal::step`] keeps ready ahead of need.
    pub spare_segments: usize,
    /// Fill segments with zeroes ahead of use and recycle them: makes a sync of appended records a write of data alone. Without it
    /// files grow with the appends and are removed when purged.
    pub zero_fill: bool,
    /// Segments end by [`Wal::seal`] alone (and at 2 GiB).
    pub manual_rotation: bool,
    /// The user's bytes in the header of each new segment, up to 3968 bytes.
    pub metadata: Bytes,
    /// Change nothing on the disk and take no lock.
    pub read_only: bool,
    /// Cut a torn tail. Otherwise opening a log that has one for writing is refused as [`OpenError::Torn`], and nothing has changed: for whoever
    /// knows from elsewhere what the log must hold. A flipped bit in the last batches cannot be told from a lost write by the log
    /// alone, so look first, with `read_only`, and cut then.
    pub cut_torn_tail: bool,
    /// Where the log is known to have reached, by somebody who keeps that elsewhere: one whose end is found before this is refused as
    /// [`OpenError::Short`], and nothing has changed. [`Position::START`] asks for nothing.
    pub must_reach: Position,
    /// Danger: report records as durable without syncing them. A crash of the machine may lose anything, and since the log says of itself that
    /// it was durable, the next opening may find it damaged instead of torn. The promises of later openings without this option hold once
    /// the system has written what was left to it: after a bulk load, `sync` the file system before the log is trusted.
    pub unsafe_no_sync: bool,
    /// How much opening reads.
    pub verify: Verify,
    /// Without zero-filling: start write-back whenever this many bytes came in, so that a sync has little to do.
    pub write_back_bytes: u64,
    /// Write batches past the system's memory where it can (direct I/O): for a log that takes in much at once and is not read meanwhile.
    pub uncached: bool,
    /// Spare files shared with the other logs of the process.
    pub pool: Option<Arc<Pool>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            spare_segments: 2,
            zero_fill: true,
            manual_rotation: false,
            metadata: Bytes::new(),
            read_only: false,
            cut_torn_tail: true,
            must_reach: Position::START,
            unsafe_no_sync: false,
            verify: Verify::All,
            write_back_bytes: 4 << 20,
            uncached: false,
            pool: None,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let reason = if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            format!(
                "segment_bytes is {}, the limits are {SEGMENT_BYTES_MIN} and {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            )
        } else if self.metadata.len() > METADATA_BYTES_MAX {
            format!("metadata has {} bytes, the limit is {METADATA_BYTES_MAX}", self.metadata.len())
        } else {
            return Ok(());
        };
        Err(OpenError::Options { reason })
    }
}

/// A log that was opened, and what opening it found.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub wal: Wal,
    /// What was found.
    pub recovery: Recovery,
}

/// What the end of the log looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The last batch is whole, and nothing follows it.
    Clean,
    /// Something follows the last whole batch, and nothing proves that it was durable: it was cut.
    Torn {
        /// The segment of the cut.
        segment: SegmentId,
        /// The offset of the cut in its file, in bytes.
        offset: u64,
        /// How many bytes behind it look written, in all segments.
        cut_bytes: u64,
    },
}

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// True when there was no log: it was created.
    pub created: bool,
    /// True when the log had been closed by [`Wal::close`].
    pub closed: bool,
    /// The end of the log.
    pub tail: Tail,
    /// No record lies before this.
    pub first: Position,
    /// Every record lies before this.
    pub end: Position,
    /// What an earlier opening or sync is known to have made durable: the end lies at or past it.
    pub known_durable: Position,
    /// The number of live segments.
    pub segments: usize,
    /// Bytes read to find all this.
    pub bytes_read: u64,
    /// Metadata in the header of the newest segment.
    pub metadata: Bytes,
    /// Files in the folder that are not the log's; they were left alone.
    pub foreign: Vec<PathBuf>,
}
