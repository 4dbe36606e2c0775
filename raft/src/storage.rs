//! The read-only view of the owner's durable log.
//!
//! The owner writes what the persist lane hands out and only then calls [`Node::persisted`](crate::Node::persisted);
//! from that moment on the storage answers for it. Nothing here may wait for a disk.

use crate::error::StorageError;
use crate::membership::ConfState;
use crate::types::{Entry, HardState, Index, NodeId, SnapshotMeta, Term};

/// Entries, or the promise of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// A non-empty run that starts at the asked index; shorter than asked when `max_bytes` cuts it.
    Here(Vec<Entry>),
    /// They are on a disk: the node asks through the fetch lane and goes on without them.
    Pending,
}

/// What a node reads. Never blocks on a disk.
pub trait Storage {
    /// What was stored when the node stopped, and the members as of the owner's applied index (or of the snapshot).
    ///
    /// # Errors
    /// Any stops the node from starting.
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError>;

    /// Entries in `low..high`, at most `max_bytes` of [`Entry::wire_bytes`] but at least one.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] when `low` is below [`Storage::first_index`].
    fn entries(&self, low: Index, high: Index, max_bytes: u64) -> Result<Fetched, StorageError>;

    /// The term of an entry in `first_index() - 1 ..= last_index()`; always from memory.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] below, [`StorageError::Unavailable`] above.
    fn term(&self, index: Index) -> Result<Term, StorageError>;

    /// The first entry the log still holds; 1 in an empty one. One above a snapshot that stands for all before.
    fn first_index(&self) -> Index;

    /// The last entry the log holds; `first_index() - 1` in an empty one.
    fn last_index(&self) -> Index;

    /// The snapshot to send to `to`, which needs one at or above `at_least`.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] while it is being made: the node asks again later. Without a snapshot at or above
    /// `at_least` this is the moment to begin making one.
    fn snapshot(&self, at_least: Index, to: NodeId) -> Result<SnapshotMeta, StorageError>;
}
