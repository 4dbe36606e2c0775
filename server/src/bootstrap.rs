//! From a data directory to the cores of a member: a new one is founded, an old one recovered.
//!
//! Everything here goes through the `Disk` seam, so the simulation starts members the same way.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ketch_mvcc::Store;
use ketch_raft::{Config, Fault, HardState, Index, Node, SnapshotMeta};
use ketch_wal::{Batch, Disk, Position, Recovery, Wal};

use crate::apply::core::ApplyCore;
use crate::cluster::{Context, Member};
use crate::consensus::core::ConsensusCore;
use crate::consensus::persist::LogWriter;
use crate::consensus::record::{self, LogRecord};
use crate::consensus::storage::LogStorage;
use crate::datadir::{DataDir, DataDirError, Identity};
use crate::staging::{RollForwardError, Staging};

/// How many bytes of commands may wait to be committed before further ones are refused.
const UNCOMMITTED_BYTES_MAX: u64 = 256 << 20;

/// What may be on its way to one follower: a slow one costs no more memory than this.
const INFLIGHT_MESSAGES_MAX: usize = 256;
const INFLIGHT_BYTES_MAX: u64 = 64 << 20;

/// What a new cluster starts from.
#[derive(Debug, Clone)]
pub struct Founding {
    /// The cluster and this member.
    pub identity: Identity,
    /// The first members; for one who joins, those of the cluster as its peers told, this member among them.
    pub members: Vec<Member>,
}

/// How a member comes into being.
#[derive(Debug, Clone)]
pub enum First {
    /// With the cluster.
    New(Founding),
    /// Into a cluster that exists: everything comes from the others.
    Join(Founding),
}

impl First {
    /// What it starts from.
    #[must_use]
    pub fn founding(&self) -> &Founding {
        match self {
            First::New(founding) | First::Join(founding) => founding,
        }
    }
}

/// How a member runs, as far as its cores are concerned.
#[derive(Debug, Clone)]
pub struct CoreOptions {
    /// Ticks without a leader until an election.
    pub election_ticks: u32,
    /// Whether a candidate asks first whether it could win.
    pub pre_vote: bool,
    /// The seed of raft's random election timeouts.
    pub seed: u64,
    /// Do not sync (`--unsafe-no-fsync`).
    pub unsafe_no_sync: bool,
    /// Where the raft log is kept (`--wal-dir`), if not in the data directory.
    pub log_dir: Option<PathBuf>,
    /// Size of the raft log's segments in bytes.
    pub log_segment_bytes: u64,
    /// Options of the revision store.
    pub store: ketch_mvcc::Options,
}

/// A member's cores, ready to run.
pub struct Opened {
    /// Who the member is.
    pub identity: Identity,
    /// The number of this life.
    pub boot: u64,
    /// Whether the data directory was new.
    pub founded: bool,
    /// What the recovery of the raft log found.
    pub recovery: Recovery,
    /// The consensus core.
    pub core: ConsensusCore,
    /// The writer of the raft log.
    pub log: LogWriter,
    /// The apply core.
    pub applier: ApplyCore,
    /// Where snapshots are staged.
    pub staging: Arc<Staging>,
    /// Whom a member that joins may ask and answer before it has learned of the members by itself.
    pub peers: Vec<Member>,
    /// Keeps the directory ours.
    pub dir: DataDir,
}

/// Why a member cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The data directory.
    DataDir(DataDirError),
    /// The flags that a new cluster needs.
    Founding(String),
    /// The raft log does not open.
    Log(ketch_wal::OpenError),
    /// The raft log failed.
    LogWrite(ketch_wal::Error),
    /// A record of the raft log is not readable.
    Record {
        /// Where it is.
        position: Position,
        /// What is wrong with it.
        why: String,
    },
    /// The store does not open.
    Store(ketch_mvcc::OpenError),
    /// What the store's tables hold does not decode.
    Tables(String),
    /// The raft log ends before what the store has applied, or begins after it: entries that were
    /// acknowledged are missing.
    Missing {
        /// What the store has applied.
        applied: u64,
        /// The first entry of the log, 0 if it has none.
        first: u64,
        /// The last entry of the log.
        last: u64,
    },
    /// The log and the store tell different histories.
    Diverged {
        /// What the store has applied.
        applied: u64,
        /// The term of that entry as the store knows it.
        store: u64,
        /// The term of that entry in the log.
        log: u64,
    },
    /// The log begins after a snapshot that is not there.
    Snapshot(RollForwardError),
    /// Raft refuses its state.
    Raft(Fault),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::Founding(why) => f.write_str(why),
            Self::Log(error) => write!(f, "the raft log does not open: {error}"),
            Self::LogWrite(error) => write!(f, "the raft log failed: {error}"),
            Self::Record { position, why } => write!(f, "the raft log is not readable at {position}: {why}"),
            Self::Store(error) => write!(f, "the store does not open: {error}"),
            Self::Tables(why) => write!(f, "the store is not readable: {why}"),
            Self::Missing { applied, first, last } => write!(
                f,
                "the raft log (entries {first} to {last}) does not reach what the store has applied ({applied}): \
                 entries that were acknowledged are missing, the member must not serve"
            ),
            Self::Diverged { applied, store, log } => write!(
                f,
                "the raft log and the store are not of one history: the store applied entry {applied} of term \
                 {store}, the log has it in term {log}"
            ),
            Self::Snapshot(error) => write!(
                f,
                "the raft log begins after a snapshot that is not there ({error}): the member must not serve"
            ),
            Self::Raft(fault) => write!(f, "raft refuses to start: {fault}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<DataDirError> for StartError {
    fn from(error: DataDirError) -> Self {
        Self::DataDir(error)
    }
}

/// Opens the member in the directory `path`; `first` is asked only if it is new.
///
/// # Errors
/// See [`StartError`]. Nothing was served, and nothing that was acknowledged is touched.
pub fn open(
    disk: &Arc<dyn Disk>,
    path: &Path,
    options: &CoreOptions,
    first: impl FnOnce() -> Result<First, String>,
) -> Result<Opened, StartError> {
    let mut dir = DataDir::open(&**disk, path)?;
    if let Some(log) = &options.log_dir {
        dir = dir.with_log_in(&**disk, log)?;
    }
    let half = dir.current(&**disk)?;
    let staging = Staging::new(Arc::clone(disk), path, half, options.store.clone());
    let store = Store::open(Arc::clone(disk), &path.join(half.folder()), options.store.clone())
        .map_err(StartError::Store)?;
    let (wal, recovery) = open_log(disk, &dir, options)?;
    // Before the first start is counted nothing was served: a founding that was cut short may begin anew.
    let new = dir.boots(&**disk)? == 0 && wal.iter(Position::START).next().is_none();
    let identity = if new {
        let first = first().map_err(StartError::Founding)?;
        let identity = first.founding().identity;
        dir.set_identity(&**disk, identity)?;
        match &first {
            First::New(founding) => found(&wal, founding)?,
            First::Join(founding) => {
                dir.set_peers(&**disk, &founding.members)?;
                join(&wal)?;
            }
        }
        identity
    } else {
        let missing = || DataDirError::Damaged(path.join("identity"), "it is missing".into());
        dir.identity(&**disk)?.ok_or_else(missing)?
    };
    let found = read_log(&wal, store.applied().index)?;
    let store = roll_forward(&staging, store, found.snapshot.as_ref())?;
    let applier = ApplyCore::new(identity.member_id, store).map_err(StartError::Tables)?;
    let storage = recover(found, &applier)?;
    let peers = if applier.cluster().members.is_empty() { dir.peers(&**disk)? } else { Vec::new() };
    let state = storage.hard_state();
    let boot = dir.next_boot(&**disk)?;
    let node = start_raft(identity, boot, storage, &applier, options)?;
    Ok(Opened {
        identity,
        boot,
        founded: new,
        recovery,
        core: ConsensusCore::new(node, identity.member_id, boot),
        log: LogWriter::new(Arc::new(wal), state),
        applier,
        staging: Arc::new(staging),
        peers,
        dir,
    })
}

fn open_log(
    disk: &Arc<dyn Disk>,
    dir: &DataDir,
    options: &CoreOptions,
) -> Result<(Wal, Recovery), StartError> {
    let log_options = ketch_wal::Options {
        segment_bytes: options.log_segment_bytes,
        unsafe_no_sync: options.unsafe_no_sync,
        ..ketch_wal::Options::default()
    };
    let opened = Wal::open(Arc::clone(disk), &dir.log(), log_options).map_err(StartError::Log)?;
    Ok((opened.wal, opened.recovery))
}

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
fn join(wal: &Wal) -> Result<(), StartError> {
    let mut batch = Batch::new();
    record::push_hard_state(&mut batch, &HardState::default());
    wal.commit(&mut batch).map(|_| ()).map_err(StartError::LogWrite)
}

/// What the log holds.
struct FoundLog {
    storage: LogStorage,
    /// The last hard state; there is none in a log that was lost.
    hard_state: Option<HardState>,
    /// The last snapshot that took the log's place.
    snapshot: Option<SnapshotMeta>,
}

/// The store that the log goes on from: what was staged, if the log has begun anew after it and the store has not.
fn roll_forward(
    staging: &Staging,
    store: Store,
    snapshot: Option<&SnapshotMeta>,
) -> Result<Store, StartError> {
    match snapshot.filter(|meta| meta.index > store.applied().index) {
        Some(meta) => {
            // Two stores are not open at once.
            drop(store);
            staging.roll_forward(meta).map_err(StartError::Snapshot)
        }
        None => Ok(store),
    }
}

/// Checks the log against what the store has applied.
fn recover(found: FoundLog, applier: &ApplyCore) -> Result<LogStorage, StartError> {
    let applied = applier.store().applied();
    let FoundLog { mut storage, hard_state, .. } = found;
    let (first, last) =
        (ketch_raft::Storage::first_index(&storage), ketch_raft::Storage::last_index(&storage));
    let Some(mut state) = hard_state.filter(|_| last >= applied.index && first <= applied.index + 1) else {
        return Err(StartError::Missing { applied: applied.index, first, last });
    };
    let term = ketch_raft::Storage::term(&storage, applied.index).unwrap_or_default();
    if applied.index > 0 && term != applied.term {
        return Err(StartError::Diverged { applied: applied.index, store: applied.term, log: term });
    }
    state.commit = state.commit.max(applied.index);
    storage.set_hard_state(state);
    storage.set_applied(applied.index);
    storage.set_conf_state(applier.cluster().conf_state.clone());
    Ok(storage)
}

/// The entries and the last hard state of the log, in its order; memory keeps what lies above `applied`.
fn read_log(wal: &Wal, applied: Index) -> Result<FoundLog, StartError> {
    let mut storage: Option<LogStorage> = None;
    let (mut hard_state, mut snapshot) = (None, None);
    for found in wal.iter(Position::START) {
        let found = found.map_err(StartError::LogWrite)?;
        let unreadable = |why: String| StartError::Record { position: found.position, why };
        match record::decode(found.kind, &found.data).map_err(|error| unreadable(error.to_string()))? {
            LogRecord::HardState(state) => hard_state = Some(state),
            LogRecord::Snapshot(meta) => {
                storage = Some(LogStorage::new((meta.index, meta.term)));
                snapshot = Some(meta);
            }
            LogRecord::Entry(entry) => match &mut storage {
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
            },
        }
    }
    let storage = storage.unwrap_or_else(|| LogStorage::new((0, 0)));
    Ok(FoundLog { storage, hard_state, snapshot })
}

/// The log's first entry: in a log that was purged it only tells index and term of the base.
fn first_entry(entry: ketch_raft::Entry, position: Position) -> LogStorage {
    if entry.index > 1 {
        return LogStorage::new((entry.index, entry.term));
    }
    let mut storage = LogStorage::new((0, 0));
    // The first index follows (0, 0): there is no gap to refuse.
    let _fits = storage.append(vec![entry], &[position]);
    storage
}

fn start_raft(
    identity: Identity,
    boot: u64,
    storage: LogStorage,
    applier: &ApplyCore,
    options: &CoreOptions,
) -> Result<Node<LogStorage>, StartError> {
    let config = Config {
        id: identity.member_id,
        election_ticks: options.election_ticks,
        heartbeat_ticks: 1,
        pre_vote: options.pre_vote,
        check_quorum: true,
        applied: applier.store().applied().index,
        seed: options.seed ^ boot,
        max_uncommitted_bytes: UNCOMMITTED_BYTES_MAX,
        max_inflight_messages: INFLIGHT_MESSAGES_MAX,
        max_inflight_bytes: INFLIGHT_BYTES_MAX,
        ..Config::default()
    };
    Node::new(config, storage).map_err(StartError::Raft)
}

#[cfg(test)]
mod tests {
    use ketch_raft::{Entry, Storage as _};
    use ketch_wal::SimDisk;

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
        let storage = read_log(&wal, 8).unwrap().storage;
        assert_eq!((storage.first_index(), storage.last_index()), (8, 11));
        assert!([7, 8, 10, 11].iter().all(|&index| storage.term(index) == Ok(2)));
    }
}
