//! A segmented, checksummed write-ahead log with group commit and zero-filled segments.
//!
//! What is promised:
//!
//! * **Acknowledged means durable.** [`Wal::commit`], [`Wal::sync`] and [`Durable`] report success after `fdatasync` of every file
//!   involved. Once a write or a sync failed, nothing is acknowledged any more until the log is opened again.
//! * **A batch is whole or not there**, over any crash, even when it spans segments.
//! * **Recovery decides** between a clean end, a torn tail (cut and reported: nobody was told that it is durable) and damage
//!   (a typed error: something proves that it was durable; nothing is skipped or deleted).
//! * **Bytes once handed out never change**, whatever is truncated, purged or recycled.
//! * **No thread, no timer.** Background duties are slices of [`Wal::step`] (or of a [`Worker`], if you start one), so a log on the simulated disk runs in one
//!   thread from one seed. The clock is looked at by threads that wait for each other's sync, to choose between giving way and sleeping.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//! use ketch_wal::{Batch, Options, Position, RealDisk, Tail, Wal};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path();
//! # let options = Options { segment_bytes: 64 << 10, ..Options::default() };
//! let wal = Wal::open(Arc::new(RealDisk), dir, options.clone())?.wal;
//! let mut batch = Batch::new();
//! batch.push(1, &[b"a record, ", b"in parts"]);
//! batch.push(2, &[b"another one of the same batch"]);
//! let appended = wal.commit(&mut batch)?; // durable from here on
//! assert_eq!(wal.read(appended.first)?.data, "a record, in parts");
//! drop(wal);
//!
//! let opened = Wal::open(Arc::new(RealDisk), dir, options)?;
//! assert_eq!(opened.recovery.tail, Tail::Clean);
//! let kinds: Vec<u8> = opened.wal.iter(Position::START).map(|record| Ok(record?.kind)).collect::<Result<_, ketch_wal::Error>>()?;
//! assert_eq!(kinds, [1, 2]);
//! # Ok(())
//! # }
//! ```
//!
//! On the disk, a log is a folder of segments; each is a header and a sequence of batches of frames:
//!
//! ```text
//! 000…01.wal | header, 4 KiB | PART layout COMMIT | PART record record … COMMIT | PART record COMMIT | 0 0 0 …
//!                                                   └── one batch: one write ──┘
//! frame      | check u32 | epoch u32 | length u32 | kind u8 | "KW1" | payload, padded to 8 |
//! ```
//!
//! The check of a frame is bound to log, segment, epoch (the life of the log) and offset, so neither what a recycled file held nor
//! what a cut left behind is ever taken for a record. A PART says up to where the log was durable when it was written:
//! the proof recovery goes by. `docs/format/wal.md` draws every byte and argues every crash.
//!
//! Two kinds of use are in mind: a log whose every batch is synced (zero-filled, recycled segments; a sync writes data and no
//! metadata), and a log store that appends far ahead of its syncs, seals segments with a footer and rewrites them
//! ([`Options::zero_fill`] off, [`Wal::seal`], [`Wal::build_segment`], [`Wal::replace`]).

pub mod blob;
mod builder;
mod core;
mod direct;
pub mod disk;
mod disk_real;
mod error;
mod folder;
mod format;
mod gate;
mod group;
mod handle;
mod header;
mod layout;
mod leaving;
mod map;
mod open;
mod options;
mod patience;
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
mod stage;
mod stats;
mod sys;
mod table;
mod users;
mod verify;
mod view;
mod wal;
mod walk;
mod worker;
mod write_behind;
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
pub use leaving::Leaving;
pub use options::{Opened, Options, Recovery, Tail, Verify};
pub use pool::Pool;
pub use position::{Position, SegmentId};
pub use reader::Reader;
pub use record::{Batch, Record};
pub use segment::SegmentInfo;
#[cfg(any(test, feature = "testing"))]
pub use sim::SimDisk;
pub use stats::Stats;
pub use sys::name_bus_errors;
pub use view::{Borrowed, SegmentView};
pub use wal::{Appended, Progress, Wal};
pub use worker::Worker;
pub use write_behind::WriteBehind;
