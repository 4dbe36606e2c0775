//! A log-structured multi-version revision store with watches and checkpoints: etcd's data model as a library.
//!
//! # The model in one picture
//!
//! ```text
//! revision   2      3      4           5      6        compaction point: 4
//! key a      put ── put ───────────── del
//! key b             ·      put ─────────────── put
//! key c                    put
//!                          └┬┘ one transaction: 4.0 and 4.1
//! ```
//!
//! Every transaction that changes something has one *main* revision, counted from 2; its changes have *sub* revisions.
//! A key's life goes from a put to a tombstone; in each life `version` counts its puts and `create_revision` names the
//! first. A read at revision R sees of every key its newest version at or below R. Compaction to C keeps, of all versions
//! at or below C, the newest of each key that is alive there, and tombstones at C itself; reads below C are refused.
//!
//! # How it is kept
//!
//! ```text
//! Store (one writer) ── commit ──► revision log (ketch-wal segments): every version, in order, in wire encoding
//!    │                                 ▲ each names the version it replaced: a key's history is a list in the log
//!    └─ publish ──► Root: counted copy-on-write tree, key → newest version; small tables
//!                     ▲ pinned by a View without a lock; kept a while for lists that are read page by page
//! ```
//!
//! * **Writing** is in the caller's hands: transactions on [`Store`], then [`Store::commit`] makes them one atomic batch
//!   with the raft position they stand for. It does not sync: the caller's own log has the commands, and
//!   [`Store::durable_applied`] says from where it must keep them.
//! * **Reading** goes through [`Reader`] and [`View`]; neither waits for the writer nor makes it wait.
//! * **Watching**: [`WatchHub`]. Every watcher is a place in the log and a short queue.
//! * **Blocking work** — syncing, compaction, checkpoints, giving space back — is [`Background::step`], a slice at a time, on
//!   whatever thread the caller likes. Nothing here has a thread, a clock or randomness of its own.
//! * **Checksums**: of each record at its first read since the store was opened; damage is a [`Fault`], never an answer.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use ketch_mvcc::{Applied, KeyRange, Options, Query, Store};
//! use ketch_wal::RealDisk;
//!
//! let dir = tempfile::tempdir()?;
//! let mut store = Store::open(Arc::new(RealDisk), dir.path(), Options::default())?;
//! store.txn().put(b"planet", b"mars", 0)?;
//! store.txn().put(b"planet", b"venus", 0)?;
//! store.commit(Applied { index: 1, term: 1 })?;
//!
//! let view = store.reader().view();
//! let then = Query { revision: 2, ..Query::new(KeyRange::all()) };
//! assert_eq!(view.range(&then)?.kvs[0].value(), "mars");
//! assert_eq!(view.get(b"planet")?.expect("it is there").value(), "venus");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod background;
mod checkpoint;
mod compaction;
pub mod encoding;
mod error;
mod front;
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
mod rest;
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
mod write_back;

pub use background::Background;
pub use error::{CompactError, Fault, FaultKind, OpenError, ReadError, WriteError};
pub use hash::StoreHash;
pub use options::Options;
pub use read::{Iter, Reader, View};
pub use revision::Revision;
pub use snapshot::{Chunk, ChunkHead, Cursor, Export, Held, Import, ImportError};
pub use store::{CompactionProgress, Progress, Store};
pub use tables::{Table, TableId};
pub use types::{Applied, KeyRange, KeyValue, Query, RangeResult, Sizes, SortOrder, SortTarget};
pub use watch::event::Event;
pub use watch::stream::{Wake, WatchBatch, WatchHub, WatchStream};
pub use watch::watcher::WatchRequest;
pub use write::{Deleted, Previous, WriteTxn};
