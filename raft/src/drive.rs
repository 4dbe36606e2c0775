//! The loop for simple owners: persists, then applies, then reports, until nothing is due.

use crate::error::{Fault, StorageError};
use crate::membership::ConfState;
use crate::message::Message;
use crate::node::Node;
use crate::ready::ReadState;
use crate::storage::Storage;
use crate::storage_memory::MemoryStorage;
use crate::types::{Entry, HardState, Payload, SnapshotMeta};

/// A log that can be written to. All of one call must be durable when it returns, if `must_sync`.
pub trait Log: Storage {
    /// Keeps one batch: the snapshot replaces the log, the entries replace what it holds at or after the first of them.
    ///
    /// # Errors
    /// Any stops the loop; nothing of the batch is reported.
    fn persist(
        &mut self,
        hard_state: Option<HardState>,
        entries: &[Entry],
        snapshot: Option<&SnapshotMeta>,
        must_sync: bool,
    ) -> Result<(), StorageError>;

    /// Keeps the members in force after a change, for the next start.
    ///
    /// # Errors
    /// Any stops the loop.
    fn keep_members(&mut self, members: &ConfState) -> Result<(), StorageError>;
}

impl Log for MemoryStorage {
    fn persist(
        &mut self,
        hard_state: Option<HardState>,
        entries: &[Entry],
        snapshot: Option<&SnapshotMeta>,
        _must_sync: bool,
    ) -> Result<(), StorageError> {
        if let Some(meta) = snapshot {
            self.apply_snapshot(meta.clone());
        }
        self.append(entries)?;
        if let Some(hard_state) = hard_state {
            self.set_hard_state(hard_state);
        }
        Ok(())
    }

    fn keep_members(&mut self, members: &ConfState) -> Result<(), StorageError> {
        self.set_conf_state(members.clone());
        Ok(())
    }
}

/// What a state machine is handed.
#[derive(Debug)]
pub enum Committed<'a> {
    /// The next entry. Changes of members are in force already.
    Entry(&'a Entry),
    /// The state is replaced by this snapshot's payload.
    Snapshot(&'a SnapshotMeta),
}

/// What is left for the caller of [`drive`].
#[derive(Debug, Default)]
#[must_use = "messages are to be sent and reads to be served"]
pub struct Driven {
    /// To be sent.
    pub messages: Vec<Message>,
    /// Reads that may be served now or, if their index is not applied yet, later.
    pub reads: Vec<ReadState>,
}

/// The first batch is most often the only one: it is taken over as it is.
fn gather<T>(all: &mut Vec<T>, mut more: Vec<T>) {
    if all.is_empty() {
        *all = more;
    } else {
        all.append(&mut more);
    }
}

/// Carries out everything that is due on `node`, in the only right order: persist, apply, report. Works with either
/// [`ApplyTiming`](crate::ApplyTiming). The storage must hold its entries in memory or read them at once.
///
/// # Errors
/// The log failed, or the node stopped: see [`Node::fault`].
pub fn drive<L: Log>(node: &mut Node<L>, mut apply: impl FnMut(Committed<'_>)) -> Result<Driven, Fault> {
    let mut driven = Driven::default();
    let failed = |error: StorageError| Fault::Storage(error.to_string());
    while node.has_ready() {
        let ready = node.ready();
        gather(&mut driven.messages, ready.send);
        gather(&mut driven.reads, ready.reads);
        if let Some(persist) = ready.persist {
            let log = node.storage_mut();
            log.persist(persist.hard_state, &persist.entries, persist.snapshot.as_ref(), persist.must_sync)
                .map_err(failed)?;
            node.persisted(persist.token)?;
        }
        if let Some(batch) = ready.apply {
            for entry in &batch.entries {
                if let Payload::ConfChange(change) = &entry.payload {
                    let members = node.apply_conf_change(change)?;
                    node.storage_mut().keep_members(&members).map_err(failed)?;
                }
                apply(Committed::Entry(entry));
            }
            if let Some(snapshot) = &batch.snapshot {
                apply(Committed::Snapshot(snapshot));
            }
            node.applied(batch.token)?;
        }
        for fetch in ready.fetch {
            node.fetched(
                fetch.token,
                Err(StorageError::Failed("the log answers pending to drive".to_string())),
            );
        }
    }
    node.fault().cloned().map_or(Ok(driven), Err)
}
