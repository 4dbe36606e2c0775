//! Snapshots: a store's logical content as a stream of checksummed chunks.
//!
//! The stream says nothing about how the sender keeps its files: any store at the same revision, compaction point and
//! applied position produces the same bytes, so a stream that breaks off can be continued by another one. One in another state
//! can go on, too, as long as the compaction point is the same (`held.rs`). Drawn in `docs/format/snapshot.md`.

mod export;
mod format;
mod held;
mod import;

pub use export::Export;
pub use format::{Chunk, ChunkHead, Cursor};
pub use held::Held;
pub use import::{Import, ImportError};

pub(crate) use import::MARKER;
