//! A [`Storage`] in memory, for tests, examples and owners who keep the recent log in memory anyway.

use crate::error::StorageError;
use crate::membership::ConfState;
use crate::storage::{Fetched, Storage};
use crate::types::{Entry, EntryId, HardState, Index, NodeId, SnapshotMeta, Term, fitting};

/// Entries after a snapshot point, the hard state, and the newest snapshot's metadata.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    hard_state: HardState,
    conf_state: ConfState,
    /// Just below the first entry held.
    base: EntryId,
    entries: Vec<Entry>,
    snapshot: SnapshotMeta,
}

impl MemoryStorage {
    /// An empty log without members.
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    /// An empty log with `voters`, as if they had been there always.
    pub fn with_voters(voters: impl Into<Vec<NodeId>>) -> MemoryStorage {
        let conf_state = ConfState::of_voters(voters);
        MemoryStorage { conf_state, ..MemoryStorage::default() }
    }

    /// Replaces the hard state.
    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Replaces the members handed out at the next start.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// The stored hard state.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Every entry held.
    pub fn all(&self) -> &[Entry] {
        &self.entries
    }

    /// Appends a consecutive run; entries at or after its first index are replaced. What the snapshot covers is skipped.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when it would leave a gap; nothing is changed then.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        let skipped = entries.iter().take_while(|entry| entry.index <= self.base.index).count();
        let entries = &entries[skipped..];
        let Some(first) = entries.first() else { return Ok(()) };
        let keep = first.index - self.base.index - 1;
        if keep > self.entries.len() as u64 {
            return Err(StorageError::Unavailable);
        }
        self.entries.truncate(keep as usize);
        self.entries.extend_from_slice(entries);
        Ok(())
    }

    /// Replaces everything by a snapshot that was received.
    pub fn apply_snapshot(&mut self, meta: SnapshotMeta) {
        if meta.index < self.base.index {
            return;
        }
        self.base = meta.id();
        self.entries.clear();
        self.conf_state = meta.conf_state.clone();
        self.snapshot = meta;
    }

    /// Notes a snapshot the owner made of its own state, to be sent to those who need one.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when the log does not hold `index`.
    pub fn create_snapshot(&mut self, index: Index, conf_state: ConfState) -> Result<(), StorageError> {
        let term = self.term(index)?;
        self.snapshot = SnapshotMeta { index, term, conf_state };
        Ok(())
    }

    /// Drops the entries up to and including `index`.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] when they are gone already, [`StorageError::Unavailable`] beyond the end.
    pub fn compact(&mut self, index: Index) -> Result<(), StorageError> {
        if index <= self.base.index {
            return Err(StorageError::Compacted);
        }
        let term = self.term(index)?;
        self.entries.drain(..(index - self.base.index) as usize);
        self.base = EntryId { term, index };
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        Ok((self.hard_state, self.conf_state.clone()))
    }

    fn entries(&self, low: Index, high: Index, max_bytes: u64) -> Result<Fetched, StorageError> {
        if low <= self.base.index {
            return Err(StorageError::Compacted);
        }
        if low >= high || high > self.last_index() + 1 {
            return Err(StorageError::Unavailable);
        }
        let at = |index: Index| (index - self.base.index - 1) as usize;
        let run = &self.entries[at(low)..at(high)];
        Ok(Fetched::Here(run[..fitting(run, max_bytes)].to_vec()))
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        if index == self.base.index {
            return Ok(self.base.term);
        }
        if index < self.base.index {
            return Err(StorageError::Compacted);
        }
        let entry = self.entries.get((index - self.base.index - 1) as usize);
        entry.map(|entry| entry.term).ok_or(StorageError::Unavailable)
    }

    fn first_index(&self) -> Index {
        self.base.index + 1
    }

    fn last_index(&self) -> Index {
        self.base.index + self.entries.len() as u64
    }

    fn snapshot(&self, at_least: Index, _to: NodeId) -> Result<SnapshotMeta, StorageError> {
        if self.snapshot.index == 0 || self.snapshot.index < at_least {
            return Err(StorageError::Unavailable);
        }
        Ok(self.snapshot.clone())
    }
}
