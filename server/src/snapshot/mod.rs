//! Snapshot files: made by `Maintenance.Snapshot` out of a pinned view of the store while writes go on, looked at by
//! `ketch snapshot status`, and made into the data directory of a new cluster by `ketch snapshot restore`.
//!
//! The bytes are in `docs/format/snapshot.md`. [`format`](mod@format) is the file's frame, the chunks in it are
//! [`ketch_mvcc`]'s.

mod check;
pub mod command;
mod flags;
pub mod format;
mod print;
pub mod restore;
pub mod source;

pub use check::{FileError, Status, status};
