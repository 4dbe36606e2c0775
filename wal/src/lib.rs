//! A segmented, checksummed write-ahead log with group commit and zero-filled segments.

pub mod blob;
pub mod disk;
mod disk_real;
mod error;
mod format;
mod map;
mod options;
mod pool;
mod position;
mod record;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
mod stats;
mod sys;
mod wal;

pub use disk::{Access, Disk, DiskFile, Space};
pub use disk_real::RealDisk;
pub use error::{Damage, Error, OpenError};
pub use format::{
    BATCH_BYTES_MAX, FORMAT_VERSION, METADATA_BYTES_MAX, RECORD_BYTES_MAX, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN,
};
pub use options::{Opened, Options, Recovery, Tail, Verify};
pub use pool::Pool;
pub use position::{Position, SegmentId};
pub use record::{Batch, Record};
#[cfg(any(test, feature = "testing"))]
pub use sim::SimDisk;
pub use stats::Stats;
pub use wal::{Appended, BuiltSegment, Progress, Reader, SegmentBuilder, SegmentInfo, Wal};
