//! A segmented, checksummed write-ahead log with group commit and zero-filled segments.

pub mod blob;
mod builder;
mod core;
pub mod disk;
mod disk_real;
mod error;
mod format;
mod group;
mod handle;
mod map;
mod open;
mod options;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
mod pool;
mod position;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
mod spares;
mod stats;
mod sys;
mod table;
mod wal;
mod walk;
mod writer;

pub use builder::{BuiltSegment, SegmentBuilder};
pub use disk::{Access, Disk, DiskFile, Space};
pub use disk_real::RealDisk;
pub use error::{Damage, Error, OpenError};
pub use format::{
    BATCH_BYTES_MAX, FORMAT_VERSION, METADATA_BYTES_MAX, RECORD_BYTES_MAX, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN,
};
pub use handle::Durable;
pub use options::{Opened, Options, Recovery, Tail, Verify};
pub use pool::Pool;
pub use position::{Position, SegmentId};
pub use reader::Reader;
pub use record::{Batch, Record};
pub use segment::SegmentInfo;
#[cfg(any(test, feature = "testing"))]
pub use sim::SimDisk;
pub use stats::Stats;
pub use wal::{Appended, Progress, Wal};
