//! The log lane: raft's persist batches become records, one write and one sync for all that are waiting.

use std::sync::Arc;
use std::time::Duration;

use ketch_raft::{Entry, Fetch, FetchToken, HardState, Index, Persist, PersistToken, SnapshotMeta};
use ketch_wal::{Batch, Position, Wal};

use super::record;
use crate::clock::Stopwatch;

/// A persist batch as the log thread takes it over.
pub type PersistJob = Persist;

/// A persist batch that is on disk: what the consensus core adds to its storage before it tells raft.
#[derive(Debug)]
pub struct Persisted {
    /// Raft's token of the batch.
    pub token: PersistToken,
    /// The batch's entries.
    pub entries: Vec<Entry>,
    /// The place of each entry.
    pub positions: Vec<Position>,
    /// The batch's hard state, if it had one.
    pub hard_state: Option<HardState>,
    /// The snapshot that takes the log's place, before the entries; if the batch had one.
    pub snapshot: Option<SnapshotMeta>,
}

/// Older entries that raft asked for.
#[derive(Debug)]
pub struct FetchJob {
    /// The first index wanted.
    pub low: Index,
    /// Where the entries lie, one place each.
    pub positions: Vec<Position>,
    /// How many bytes of entries are wanted at most (at least one entry comes).
    pub max_bytes: u64,
    /// Raft's token of the request.
    pub token: FetchToken,
}

impl FetchJob {
    /// The job for raft's request, with the places that its storage knows.
    #[must_use]
    pub fn new(fetch: Fetch, positions: Vec<Position>) -> FetchJob {
        FetchJob { low: fetch.low, positions, max_bytes: fetch.max_bytes, token: fetch.token }
    }
}

/// Why the log lane cannot go on. Either stops the member.
#[derive(Debug)]
pub enum LogFault {
    /// The log failed to write or to sync; it is poisoned.
    Wal(ketch_wal::Error),
    /// A record that was read back is not ours.
    Record(record::RecordError),
}

impl std::fmt::Display for LogFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wal(error) => write!(f, "the raft log failed: {error}"),
            Self::Record(error) => write!(f, "the raft log holds a foreign record: {error}"),
        }
    }
}

impl std::error::Error for LogFault {}

impl From<ketch_wal::Error> for LogFault {
    fn from(error: ketch_wal::Error) -> Self {
        Self::Wal(error)
    }
}

/// How much of the queue goes into one batch of the log; the rest follows in further ones before the sync. Far
/// below the log's own limit, so that a queue behind a slow disk can never outgrow a batch.
const BATCH_BYTES: u64 = 16 << 20;

/// The single writer of the raft log.
///
/// Every batch ends with the full hard state, so whatever part of the log is kept tells term and vote. A batch
/// that moves only the commit index is not written by itself, it rides with the next one.
#[derive(Debug)]
pub struct LogWriter {
    wal: Arc<Wal>,
    batch: Batch,
    state: HardState,
    /// The commit index that the log tells already: never beyond the entries before it.
    written_commit: Index,
    /// How long handing records to the system has taken, since that was asked last; `None` if there were none.
    write_time: Option<Duration>,
}

impl LogWriter {
    /// A writer at the end of `wal`, which tells the hard state `state` so far.
    #[must_use]
    pub fn new(wal: Arc<Wal>, state: HardState) -> LogWriter {
        LogWriter { wal, batch: Batch::new(), state, written_commit: state.commit, write_time: None }
    }

    /// The log written to.
    #[must_use]
    pub fn wal(&self) -> &Arc<Wal> {
        &self.wal
    }

    /// How long writing took since this was asked last, syncs apart; `None` if nothing was written.
    pub fn take_write_time(&mut self) -> Option<Duration> {
        self.write_time.take()
    }

    /// Writes all of `jobs` and, if any of them asks for it, syncs once. The jobs come back in their order.
    ///
    /// # Errors
    /// A fault of the log; nothing of these jobs may be acknowledged then.
    pub fn persist(&mut self, jobs: Vec<PersistJob>) -> Result<Vec<Persisted>, LogFault> {
        self.batch.clear();
        let mut must_sync = false;
        let mut places = Vec::new();
        for job in &jobs {
            must_sync |= job.must_sync;
            if let Some(snapshot) = &job.snapshot {
                self.flush(&mut places)?;
                self.state = job.hard_state.unwrap_or(self.state);
                self.write_snapshot(snapshot)?;
            }
            self.state = job.hard_state.unwrap_or(self.state);
            for entry in &job.entries {
                record::push_entry(&mut self.batch, entry);
                if self.batch.bytes() as u64 >= BATCH_BYTES {
                    // As new as the entries allow: raft relies on a log that knows what was committed before it.
                    let commit = self.state.commit.min(entry.index).max(self.written_commit);
                    self.write(commit, &mut places)?;
                    self.written_commit = commit;
                }
            }
        }
        if must_sync {
            self.write(self.state.commit, &mut places)?;
            self.written_commit = self.state.commit;
        } else {
            self.flush(&mut places)?;
        }
        if must_sync {
            self.wal.sync()?;
        }
        let mut places = places.into_iter();
        let done = jobs.into_iter().map(|job| {
            let positions = places.by_ref().take(job.entries.len()).collect();
            let PersistJob { token, entries, hard_state, snapshot, .. } = job;
            Persisted { token, entries, positions, hard_state, snapshot }
        });
        Ok(done.collect())
    }

    /// Writes what was gathered so far, if anything was.
    fn flush(&mut self, places: &mut Vec<Position>) -> Result<(), LogFault> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.write(self.state.commit, places)?;
        self.written_commit = self.state.commit;
        Ok(())
    }

    /// Writes that the log begins anew after `snapshot`, as a batch of its own.
    fn write_snapshot(&mut self, snapshot: &SnapshotMeta) -> Result<(), LogFault> {
        record::push_snapshot(&mut self.batch, snapshot);
        let commit = self.state.commit.max(snapshot.index);
        let mut no_entries = Vec::new();
        self.write(commit, &mut no_entries)?;
        self.written_commit = commit;
        Ok(())
    }

    /// Ends the batch with the hard state and writes it; adds the places of its entries.
    fn write(&mut self, commit: Index, places: &mut Vec<Position>) -> Result<(), LogFault> {
        let entries = self.batch.len();
        record::push_hard_state(&mut self.batch, &HardState { commit, ..self.state });
        let watch = Stopwatch::start();
        self.wal.append(&mut self.batch)?;
        self.write_time = Some(self.write_time.unwrap_or_default() + watch.elapsed());
        places.extend_from_slice(&self.batch.positions()[..entries]);
        self.batch.clear();
        Ok(())
    }
}

/// Reads older entries back from the log. Never called on the consensus thread.
///
/// # Errors
/// A damaged or foreign record.
pub fn fetch(wal: &Wal, job: &FetchJob) -> Result<Vec<Entry>, LogFault> {
    let mut entries = Vec::with_capacity(job.positions.len());
    let mut bytes = 0;
    for &position in &job.positions {
        let found = wal.read(position)?;
        bytes += found.data.len() as u64;
        if bytes > job.max_bytes && !entries.is_empty() {
            break;
        }
        match record::decode(found.kind, &found.data).map_err(LogFault::Record)? {
            record::LogRecord::Entry(entry) => entries.push(entry),
            record::LogRecord::HardState(_) | record::LogRecord::Snapshot(_) => {
                return Err(LogFault::Record(record::RecordError::UnknownKind(found.kind)));
            }
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ketch_raft::{ConfState, Config, MemoryStorage, Node, bootstrap};
    use ketch_wal::SimDisk;
    use std::path::Path;

    use crate::consensus::record::LogRecord;

    fn open(disk: &Arc<SimDisk>) -> Arc<Wal> {
        let disk: Arc<dyn ketch_wal::Disk> = Arc::<SimDisk>::clone(disk);
        Arc::new(Wal::open(disk, Path::new("/log"), ketch_wal::Options::default()).unwrap().wal)
    }

    /// A persist batch of a sole voter's campaign: its token is real, its content is the test's to change.
    fn any_job() -> PersistJob {
        let mut storage = MemoryStorage::new();
        let (state, entries) = bootstrap(&[(1, Bytes::new())]);
        storage.set_hard_state(state);
        storage.append(&entries).unwrap();
        storage.set_conf_state(ConfState::of_voters([1]));
        let mut node = Node::new(Config { id: 1, applied: 1, ..Config::default() }, storage).unwrap();
        node.campaign().unwrap();
        node.ready().persist.unwrap()
    }

    #[test]
    fn what_is_persisted_can_be_fetched_after_a_crash() {
        let disk = SimDisk::new(1);
        let entries: Vec<Entry> =
            (1..=40u64).map(|i| Entry::normal(2, i, vec![i as u8; 700_000].into())).collect();
        let state = HardState { term: 2, vote: 1, commit: 0 };
        let mut writer = LogWriter::new(open(&disk), state);
        // A real token, around entries of our own.
        let mut job = any_job();
        job.entries.clone_from(&entries);
        job.hard_state = Some(HardState { commit: 40, ..state });
        job.must_sync = true;
        let done = writer.persist(vec![job]).unwrap();
        assert_eq!(done[0].positions.len(), entries.len());
        let batches = {
            let states = writer.wal().iter(Position::START).map(Result::unwrap);
            let states = states.filter_map(|found| match record::decode(found.kind, &found.data).unwrap() {
                LogRecord::HardState(state) => Some(state.commit),
                LogRecord::Entry(_) | LogRecord::Snapshot(_) => None,
            });
            states.collect::<Vec<_>>()
        };
        // 28 MB are more than one batch; a commit index never comes before its entries, nor later than it must.
        assert_eq!(batches, [24, 40]);
        disk.crash();
        let wal = open(&disk);
        for (entry, &position) in entries.iter().zip(&done[0].positions) {
            let found = wal.read(position).unwrap();
            assert_eq!(record::decode(found.kind, &found.data), Ok(LogRecord::Entry(entry.clone())));
        }
    }

    #[test]
    fn a_moved_commit_index_waits_for_the_next_batch() {
        let disk = SimDisk::new(1);
        let mut writer = LogWriter::new(open(&disk), HardState::default());
        let mut job = any_job();
        job.entries.clear();
        job.hard_state = Some(HardState { term: 1, vote: 0, commit: 7 });
        job.must_sync = false;
        writer.persist(vec![job]).unwrap();
        assert_eq!(writer.wal().iter(Position::START).count(), 0);
        let mut job = any_job();
        job.entries = vec![Entry::normal(1, 8, Bytes::from_static(b"x"))];
        job.hard_state = None;
        job.must_sync = true;
        writer.persist(vec![job]).unwrap();
        let last = writer.wal().iter(Position::START).last().unwrap().unwrap();
        let state = HardState { term: 1, vote: 0, commit: 7 };
        assert_eq!(record::decode(last.kind, &last.data), Ok(LogRecord::HardState(state)));
    }
}
