//! The raft log of a member that starts: what is written into a new one, and what is read out of an old one.

use std::collections::BTreeMap;

use bytes::Bytes;
use ketch_raft::{ConfChange, Entry, HardState, Index, Payload, SnapshotMeta};
use ketch_wal::{Batch, Position, Wal};

use super::{Founding, StartError};
use crate::cluster::Context;
use crate::consensus::record::{self, LogRecord};
use crate::consensus::storage::LogStorage;

/// Writes the entries that configure a new cluster, as one durable batch.
pub(crate) fn found(wal: &Wal, founding: &Founding) -> Result<(), StartError> {
    let peers: Vec<_> = founding
        .members
        .iter()
        .map(|member| {
            let context = Context::of(member.clone());
            (member.id, Bytes::from(context.to_json()))
        })
        .collect();
    let (hard_state, entries) = ketch_raft::bootstrap(&peers);
    let mut batch = Batch::new();
    entries.iter().for_each(|entry| record::push_entry(&mut batch, entry));
    record::push_hard_state(&mut batch, &hard_state);
    wal.commit(&mut batch).map(|_| ()).map_err(StartError::LogWrite)
}

/// A member that joins begins with nothing: its log says that and no more, so that a log that was lost is told from it.
pub(super) fn join(wal: &Wal) -> Result<(), StartError> {
    let mut batch = Batch::new();
    record::push_hard_state(&mut batch, &HardState::default());
    wal.commit(&mut batch).map(|_| ()).map_err(StartError::LogWrite)
}

/// What the log holds.
pub(super) struct FoundLog {
    /// The entries.
    pub(super) storage: LogStorage,
    /// The last hard state; there is none in a log that was lost.
    pub(super) hard_state: Option<HardState>,
    /// The last snapshot that took the log's place.
    pub(super) snapshot: Option<SnapshotMeta>,
    /// Those of the entries that change the members.
    pub(super) conf_changes: BTreeMap<Index, ConfChange>,
}

/// The entries and the last hard state of the log, in its order; memory keeps what lies above `applied`.
pub(super) fn read(wal: &Wal, applied: Index) -> Result<FoundLog, StartError> {
    let mut storage: Option<LogStorage> = None;
    let (mut hard_state, mut snapshot) = (None, None);
    let mut conf_changes = BTreeMap::new();
    for found in wal.iter(Position::START) {
        let found = found.map_err(StartError::LogWrite)?;
        let unreadable = |why: String| StartError::Record { position: found.position, why };
        match record::decode(found.kind, &found.data).map_err(|error| unreadable(error.to_string()))? {
            LogRecord::HardState(state) => hard_state = Some(state),
            LogRecord::Snapshot(meta) => {
                storage = Some(LogStorage::new((meta.index, meta.term)));
                snapshot = Some(meta);
                conf_changes.clear();
            }
            LogRecord::Entry(entry) => {
                conf_changes.split_off(&entry.index);
                if let Payload::ConfChange(change) = &entry.payload {
                    conf_changes.insert(entry.index, change.clone());
                }
                match &mut storage {
                    // The log begins with what a later leader replaced: its order is the truth. Nothing below is needed, the
                    // log was purged up to here because all of it is applied.
                    Some(storage) if entry.index <= storage.before().0 => {
                        *storage = first_entry(entry, found.position);
                    }
                    Some(storage) => {
                        storage.set_applied(applied.min(entry.index));
                        storage.append(vec![entry], &[found.position]).map_err(|index| {
                            unreadable(format!("entry {index} does not follow its predecessor"))
                        })?;
                    }
                    None => storage = Some(first_entry(entry, found.position)),
                }
            }
        }
    }
    let storage = storage.unwrap_or_else(|| LogStorage::new((0, 0)));
    Ok(FoundLog { storage, hard_state, snapshot, conf_changes })
}

/// The log's first entry: in a log that was purged it only tells index and term of the base.
fn first_entry(entry: Entry, position: Position) -> LogStorage {
    if entry.index > 1 {
        return LogStorage::new((entry.index, entry.term));
    }
    let mut storage = LogStorage::new((0, 0));
    // The first index follows (0, 0): there is no gap to refuse.
    let _fits = storage.append(vec![entry], &[position]);
    storage
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use ketch_raft::Storage as _;
    use ketch_wal::{Disk, SimDisk};

    use super::*;

    #[test]
    fn a_log_may_begin_with_what_was_replaced_later() {
        let disk: Arc<dyn Disk> = SimDisk::new(1);
        let wal = Wal::open(disk, Path::new("/log"), ketch_wal::Options::default()).unwrap().wal;
        let mut batch = Batch::new();
        // What is kept of a purged log: entry 10 of term 1 was replaced from 7 on by the leader of term 2.
        for (term, index) in [(1, 10), (2, 7), (2, 8), (2, 9), (2, 10), (2, 11)] {
            record::push_entry(&mut batch, &Entry::normal(term, index, Bytes::new()));
        }
        wal.commit(&mut batch).unwrap();
        let storage = read(&wal, 8).unwrap().storage;
        assert_eq!((storage.first_index(), storage.last_index()), (8, 11));
        assert!([7, 8, 10, 11].iter().all(|&index| storage.term(index) == Ok(2)));
    }
}
