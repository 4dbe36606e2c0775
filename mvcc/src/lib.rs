//! A log-structured multi-version revision store with watches and checkpoints.

mod background;
mod checkpoint;
mod compaction;
pub mod encoding;
mod error;
mod hash;
mod index;
mod log;
#[cfg(any(test, feature = "testing"))]
pub mod model;
mod options;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
mod query;
mod read;
mod recovery;
mod revision;
mod ring;
mod shared;
mod snapshot;
mod store;
mod tables;
mod types;
mod version;
mod watch;
mod write;

pub use background::Background;
pub use error::{CompactError, Fault, FaultKind, OpenError, ReadError};
pub use hash::StoreHash;
pub use options::Options;
pub use read::{Iter, Reader, View};
pub use revision::Revision;
pub use snapshot::{Chunk, Cursor, Export, Import, ImportError};
pub use store::{CompactionProgress, Progress, Store};
pub use tables::{Table, TableId};
pub use types::{Applied, KeyRange, KeyValue, Query, RangeResult, Sizes, SortOrder, SortTarget};
pub use watch::event::Event;
pub use watch::stream::{Wake, WatchBatch, WatchHub, WatchStream};
pub use watch::watcher::WatchRequest;
pub use write::{Deleted, Previous, WriteTxn};
