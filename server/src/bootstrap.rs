//! From a data directory to the cores of a member: a new one is founded, an old one recovered.
//!
//! Everything here goes through the `Disk` seam, so the simulation starts members the same way.

mod error;
mod force;
mod log;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ketch_mvcc::Store;
use ketch_raft::{Config, Index, Node, SnapshotMeta};
use ketch_wal::{Disk, OpenError, Position, Recovery, Wal};

pub use error::StartError;
pub(crate) use log::found;

use crate::apply::core::ApplyCore;
use crate::cluster::Member;
use crate::consensus::core::ConsensusCore;
use crate::consensus::persist::LogWriter;
use crate::consensus::storage::LogStorage;
use crate::datadir::{DataDir, DataDirError, Identity};
use crate::staging::Staging;
use log::FoundLog;

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
    /// The member goes on as the only one of its cluster (`--force-new-cluster`); a new directory takes no notice.
    pub force_new_cluster: bool,
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
    let (wal, recovery) = open_log(disk, &dir, options, store.applied().index)?;
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
                log::join(&wal)?;
            }
        }
        identity
    } else {
        let missing = || DataDirError::Damaged(path.join("identity"), "it is missing".into());
        dir.identity(&**disk)?.ok_or_else(missing)?
    };
    let mut found = log::read(&wal, store.applied().index)?;
    let store = roll_forward(&staging, store, found.snapshot.as_ref())?;
    let applier = ApplyCore::new(identity.member_id, store).map_err(StartError::Tables)?;
    check(&found, &applier)?;
    let mut peers = if applier.cluster().members.is_empty() { dir.peers(&**disk)? } else { Vec::new() };
    if options.force_new_cluster && !new {
        if force::stand_alone(&wal, &found, identity.member_id, &applier, &peers)? {
            found = log::read(&wal, applier.store().applied().index)?;
        }
        peers.clear();
    }
    let storage = recover(found, &applier);
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

/// Opens the log. A tail that looks torn may be a flipped bit in what was acknowledged, which the log alone cannot tell: it is cut only
/// when what is left of the log still reaches what the store has applied.
fn open_log(
    disk: &Arc<dyn Disk>,
    dir: &DataDir,
    options: &CoreOptions,
    applied: Index,
) -> Result<(Wal, Recovery), StartError> {
    let log_options = ketch_wal::Options {
        segment_bytes: options.log_segment_bytes,
        unsafe_no_sync: options.unsafe_no_sync,
        cut_torn_tail: false,
        ..ketch_wal::Options::default()
    };
    let open = |options| Wal::open(Arc::clone(disk), &dir.log(), options);
    let opened = match open(log_options.clone()) {
        Err(OpenError::Torn { .. }) => {
            let read_only = ketch_wal::Options { read_only: true, ..log_options.clone() };
            let found = log::read(&open(read_only).map_err(StartError::Log)?.wal, applied)?;
            reaches(&found, applied)?;
            open(ketch_wal::Options { cut_torn_tail: true, ..log_options })
        }
        opened => opened,
    };
    let opened = opened.map_err(StartError::Log)?;
    Ok((opened.wal, opened.recovery))
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
fn check(found: &FoundLog, applier: &ApplyCore) -> Result<(), StartError> {
    let applied = applier.store().applied();
    let first = ketch_raft::Storage::first_index(&found.storage);
    if found.hard_state.is_none() || first > applied.index + 1 {
        let last = ketch_raft::Storage::last_index(&found.storage);
        return Err(StartError::Missing { applied: applied.index, first, last });
    }
    reaches(found, applied.index)?;
    let term = ketch_raft::Storage::term(&found.storage, applied.index).unwrap_or_default();
    if applied.index > 0 && term != applied.term {
        return Err(StartError::Diverged { applied: applied.index, store: applied.term, log: term });
    }
    Ok(())
}

/// Applied never passes persisted: a log that ends before what was applied has lost something.
fn reaches(found: &FoundLog, applied: Index) -> Result<(), StartError> {
    let (first, last) =
        (ketch_raft::Storage::first_index(&found.storage), ketch_raft::Storage::last_index(&found.storage));
    if last < applied { Err(StartError::Missing { applied, first, last }) } else { Ok(()) }
}

/// What raft begins with: a log that was found to fit the store.
fn recover(found: FoundLog, applier: &ApplyCore) -> LogStorage {
    let applied = applier.store().applied();
    let FoundLog { mut storage, hard_state, .. } = found;
    let mut state = hard_state.unwrap_or_default();
    state.commit = state.commit.max(applied.index);
    storage.set_hard_state(state);
    storage.set_applied(applied.index);
    storage.set_conf_state(applier.cluster().conf_state.clone());
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
