//! A member's log on a disk that loses what was not synced.

use std::collections::VecDeque;

use crate::error::StorageError;
use crate::membership::ConfState;
use crate::ready::{Persist, PersistToken};
use crate::storage::{Fetched, Storage};
use crate::storage_memory::MemoryStorage;
use crate::types::{Entry, HardState, Index, NodeId, SnapshotMeta, Term};

/// What the node reads: everything reported persisted, newest entries in memory, older ones *pending*.
#[derive(Clone, Debug)]
pub(crate) struct SimStorage {
    pub(crate) log: MemoryStorage,
    pub(crate) hot_entries: u64,
    /// Somebody needs a newer snapshot.
    pub(crate) wanted: std::cell::Cell<bool>,
}

impl Storage for SimStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.log.initial_state()
    }

    fn entries(&self, low: Index, high: Index, max_bytes: u64) -> Result<Fetched, StorageError> {
        if low >= self.first_index() && self.last_index() - low.min(self.last_index()) > self.hot_entries {
            return Ok(Fetched::Pending);
        }
        self.log.entries(low, high, max_bytes)
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        self.log.term(index)
    }

    fn first_index(&self) -> Index {
        self.log.first_index()
    }

    fn last_index(&self) -> Index {
        self.log.last_index()
    }

    fn snapshot(&self, at_least: Index, to: NodeId) -> Result<SnapshotMeta, StorageError> {
        let snapshot = self.log.snapshot(at_least, to);
        self.wanted.set(self.wanted.get() || snapshot.is_err());
        snapshot
    }
}

/// One batch as written.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) snapshot: Option<SnapshotMeta>,
}

impl Write {
    pub(crate) fn apply(&self, log: &mut MemoryStorage) -> Result<(), StorageError> {
        if let Some(meta) = &self.snapshot {
            log.apply_snapshot(meta.clone());
        }
        log.append(&self.entries)?;
        if let Some(hard_state) = self.hard_state {
            log.set_hard_state(hard_state);
        }
        Ok(())
    }
}

/// The platter, and what is on its way there, in order.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Survives a crash.
    pub(crate) synced: MemoryStorage,
    /// Handed to the disk; may or may not survive.
    pub(crate) queue: VecDeque<Queued>,
    /// Reported persisted without a sync (only the commit index moved); rides with the next.
    pub(crate) riding: Vec<Write>,
    /// A sync is running.
    pub(crate) busy: bool,
}

#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) write: Write,
    pub(crate) must_sync: bool,
    pub(crate) token: PersistToken,
}

impl Disk {
    pub(crate) fn push(&mut self, persist: Persist) {
        let Persist { hard_state, entries, snapshot, must_sync, token } = persist;
        self.queue.push_back(Queued { write: Write { hard_state, entries, snapshot }, must_sync, token });
    }

    /// A sync that covers the first `batches` of the queue ends: they are durable now.
    pub(crate) fn complete(&mut self, batches: usize) -> Result<Vec<Queued>, StorageError> {
        let done: Vec<Queued> = self.queue.drain(..batches.min(self.queue.len())).collect();
        for batch in &done {
            if batch.must_sync {
                for write in self.riding.drain(..) {
                    write.apply(&mut self.synced)?;
                }
                batch.write.apply(&mut self.synced)?;
            } else {
                self.riding.push(batch.write.clone());
            }
        }
        Ok(done)
    }

    /// The power goes: of what was not synced, the first `kept` writes happen to survive. Answers the batches and
    /// entries that were lost.
    pub(crate) fn crash(&mut self, kept: usize) -> Result<(u64, u64), StorageError> {
        let writes: Vec<Write> =
            self.riding.drain(..).chain(self.queue.drain(..).map(|queued| queued.write)).collect();
        self.busy = false;
        for write in writes.iter().take(kept) {
            write.apply(&mut self.synced)?;
        }
        let lost = writes.get(kept..).unwrap_or_default();
        Ok((lost.len() as u64, lost.iter().map(|write| write.entries.len() as u64).sum()))
    }
}
