//! A simulated machine: its disk, and the member that runs on it while it runs.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ketch_mvcc::Background;
use ketch_raft::{Apply, ConfChange, Index, NodeId};
use ketch_wal::sim::{Fault, Op};
use ketch_wal::{Disk, SimDisk, Tail};

use super::options::Options;
use super::planted::Bug;
use super::queue::What;
use crate::apply::core::ApplyCore;
use crate::bootstrap::{self, CoreOptions, First, Founding};
use crate::cluster::Member;
use crate::consensus::core::{ConsensusCore, Input, Outputs};
use crate::consensus::persist::{LogWriter, PersistJob, Persisted};
use crate::datadir::{DataDir, Identity};
use crate::staging::{Pinned, Staging};

/// The cluster's id.
pub(super) const CLUSTER_ID: u64 = 1;

/// A machine.
pub(super) struct Node {
    /// The member's id; another one after a replacement.
    pub(super) id: NodeId,
    pub(super) disk: Arc<SimDisk>,
    pub(super) first: First,
    pub(super) live: Option<Box<Live>>,
    /// What happened to the process while it was stopped.
    pub(super) deferred: Option<Vec<What>>,
    pub(super) tick_us: u64,
    /// The disk was made to fail: the member may stop by itself.
    pub(super) armed: bool,
    /// The disk has no room.
    pub(super) full: bool,
    /// Bits have flipped on the disk.
    pub(super) rotten: bool,
    /// The disk hangs.
    pub(super) stuck: bool,
    /// It is not to be started for now.
    pub(super) away: bool,
    /// It is about to be switched off.
    pub(super) retiring: bool,
    /// It is switched off, or burnt, for good.
    pub(super) gone: bool,
    /// What the store had applied and synced when it was last looked at.
    pub(super) durable: u64,
    /// A change of members that was applied, for a bug that applies it again.
    pub(super) last_change: Option<ConfChange>,
    /// The command applied last, for a bug that applies it again.
    pub(super) last_command: Option<bytes::Bytes>,
}

/// A member in one of its lives.
pub(super) struct Live {
    /// Names the life in the whole run.
    pub(super) life: u64,
    pub(super) boot: u64,
    pub(super) core: ConsensusCore,
    pub(super) log: LogWriter,
    pub(super) applier: ApplyCore,
    pub(super) background: Background,
    pub(super) staging: Arc<Staging>,
    pub(super) pinned: Option<Pinned>,
    /// What was there before the last batch, for a bug that sends it.
    pub(super) older: Option<Pinned>,
    pub(super) inbox: Vec<Input>,
    pub(super) outputs: Outputs,
    /// It will look into its inbox.
    pub(super) woken: bool,
    pub(super) persist: Vec<PersistJob>,
    pub(super) syncing: Option<Syncing>,
    pub(super) apply: VecDeque<Apply>,
    /// So many of them are being applied.
    pub(super) applying: usize,
    /// Reads that wait for an index: index and operation.
    pub(super) reads: Vec<(Index, u64)>,
    /// Commands that wait for their outcome: serial number and operation.
    pub(super) waiters: BTreeMap<u64, u64>,
    pub(super) counter: u64,
    pub(super) purged: u64,
    /// Whether it has been stopped and goes on, for a bug.
    pub(super) resumed: bool,
    _dir: DataDir,
}

/// What the log's disk is doing.
pub(super) enum Syncing {
    /// It writes when it is done: a crash before that loses all of it, or tears it.
    Late(Vec<PersistJob>),
    /// It is durable, nobody knows yet.
    Early(Vec<Persisted>),
}

impl Node {
    /// A machine with an empty disk.
    pub(super) fn new(id: NodeId, first: First, seed: u64, tick_us: u64) -> Node {
        Node {
            id,
            disk: SimDisk::new(seed),
            first,
            live: None,
            deferred: None,
            tick_us,
            armed: false,
            full: false,
            rotten: false,
            stuck: false,
            away: false,
            retiring: false,
            gone: false,
            durable: 0,
            last_change: None,
            last_command: None,
        }
    }

    /// The present life, if it is `life`.
    pub(super) fn in_life(&mut self, life: u64) -> Option<&mut Live> {
        self.live.as_deref_mut().filter(|live| live.life == life)
    }

    /// Starts the process.
    ///
    /// # Errors
    /// Why it does not start, in words.
    pub(super) fn start(&mut self, life: u64, seed: u64, options: &Options) -> Result<bool, String> {
        let disk: Arc<dyn Disk> = Arc::<SimDisk>::clone(&self.disk);
        let first = self.first.clone();
        let opened = bootstrap::open(&disk, Path::new("/member"), &core_options(seed, options), || Ok(first))
            .map_err(|error| error.to_string())?;
        let torn = !matches!(opened.recovery.tail, Tail::Clean);
        let mut core = opened.core;
        core.keep_in_memory(options.memory_bytes);
        let background = opened.applier.store().background();
        self.live = Some(Box::new(Live {
            life,
            boot: opened.boot,
            core,
            log: opened.log,
            applier: opened.applier,
            background,
            staging: opened.staging,
            pinned: None,
            older: None,
            inbox: vec![Input::Tick],
            outputs: Outputs::default(),
            woken: false,
            persist: Vec::new(),
            syncing: None,
            apply: VecDeque::new(),
            applying: 0,
            reads: Vec::new(),
            waiters: BTreeMap::new(),
            counter: 0,
            purged: 0,
            resumed: false,
            _dir: opened.dir,
        }));
        Ok(torn)
    }

    /// The process dies. What it was doing is forgotten.
    pub(super) fn kill(&mut self) {
        self.live = None;
        self.deferred = None;
        self.stuck = false;
        self.disk.kill();
    }

    /// The machine loses power; if `in_sync`, while the log's disk is at work. Says whether it was.
    pub(super) fn crash(&mut self, in_sync: bool) -> bool {
        let syncing = self.live.as_mut().and_then(|live| live.syncing.take());
        let torn = in_sync && matches!(syncing, Some(Syncing::Late(_)));
        if let (true, Some(live), Some(Syncing::Late(jobs))) = (torn, &mut self.live, syncing) {
            // Written, and the power fails before it is synced: the crash decides what is left of it.
            self.disk.heal();
            self.disk.fail(Op::Sync, 0, Fault::Eio);
            let _unacknowledged = live.log.persist(jobs);
        }
        self.live = None;
        self.deferred = None;
        self.stuck = false;
        self.disk.heal();
        self.disk.crash();
        torn
    }

    /// Files in which bits may flip: all but the end of the raft log, where a flip cannot be told from a torn tail.
    pub(super) fn rot_paths(&self) -> Vec<PathBuf> {
        let (mut log, mut paths): (Vec<_>, Vec<_>) =
            self.disk.paths().into_iter().partition(|path| path.starts_with("/member/log"));
        log.sort_unstable();
        log.truncate(log.len().saturating_sub(2));
        paths.append(&mut log);
        paths
    }

    /// Flips a bit of a file; false if it is empty.
    pub(super) fn flip(&mut self, path: &Path, bit: u64) -> bool {
        let bits = self.disk.content(path).map_or(0, |content| content.len() as u64 * 8);
        self.rotten |= bits > 0;
        bits > 0 && self.disk.flip_bit(path, bit % bits)
    }

    /// Whether the process runs and is not stopped.
    pub(super) fn is_up(&self) -> bool {
        self.live.is_some() && self.deferred.is_none()
    }

    /// The index of the last entry applied and visible, 0 while it is down.
    pub(super) fn applied(&self) -> u64 {
        self.live.as_ref().map_or(0, |live| live.applier.store().applied().index)
    }
}

fn core_options(seed: u64, options: &Options) -> CoreOptions {
    CoreOptions {
        election_ticks: options.election_ticks,
        pre_vote: true,
        seed,
        unsafe_no_sync: options.planted == Some(Bug::AckBeforePersist),
        force_new_cluster: false,
        log_dir: None,
        log_segment_bytes: options.segment_bytes,
        store: ketch_mvcc::Options {
            segment_bytes: options.segment_bytes,
            checkpoint_versions: 200,
            sync_bytes: 16 << 10,
            watch_window_events: 16,
            ..ketch_mvcc::Options::default()
        },
    }
}

/// A member as the cluster knows it.
pub(super) fn member(id: NodeId, is_learner: bool) -> Member {
    Member {
        id,
        peer_urls: vec![format!("http://sim{id:x}:2380")],
        is_learner,
        name: format!("sim{id:x}"),
        client_urls: Vec::new(),
    }
}

/// What member `id` starts from, one of the founders `1..=founders`.
pub(super) fn founding(id: NodeId, founders: u64) -> First {
    let members = (1..=founders).map(|id| member(id, false)).collect();
    First::New(Founding { identity: Identity { cluster_id: CLUSTER_ID, member_id: id }, members })
}
