//! What a member measures about itself, under etcd's names, in the Prometheus text format.
//!
//! One [`Metrics`] per process: a struct of instruments, so that counting is one relaxed atomic addition at a
//! place known at compile time. Only what the server feeds has a field here; a gauge nobody has set yet, and a
//! histogram with labels nobody has used yet, are absent from the page rather than zero.

mod applied;
mod apply;
mod compaction;
pub(crate) mod grpc;
mod instrument;
mod member;
mod peer;
mod process;
mod render;
mod requests;
mod rpc_layer;
mod streams;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub use apply::ApplyDurations;
pub use compaction::{CompactionMeter, CompactionMetrics, Round};
pub use grpc::{CODES, GrpcMethod, GrpcMetrics, MethodKind};
pub use instrument::{Counter, Gauge, Histogram};
pub use member::{Feature, MemberMetrics};
pub use peer::{PeerMeter, PeerMetrics, Transfers};
pub(crate) use process::file_limit;
pub use requests::{Asked, CallKind, RequestMetrics, Timed, UNKNOWN_VERSION};
pub use rpc_layer::{CountRpcs, CountRpcsLayer, CountedBody};
pub use streams::StreamMetrics;
pub use text::CONTENT_TYPE;

/// Outcomes of the probes of `/livez` and `/readyz`.
#[derive(Debug, Default)]
pub(crate) struct CheckCounts {
    pub(crate) success: Counter,
    pub(crate) error: Counter,
    pub(crate) last: Gauge,
}

type Refresh = Box<dyn Fn(&Metrics) + Send + Sync>;

/// The queues that a command passes on its way: proposals that gather for the log, inputs of consensus, batches for the log, batches to
/// apply, requests for older entries.
pub const STATIONS: [&str; 5] = ["gather", "consensus", "log", "apply", "fetch"];

/// All instruments of one process.
pub struct Metrics {
    /// `etcd_disk_wal_fsync_duration_seconds`: one fdatasync of the raft log.
    pub wal_fsync: Histogram,
    /// `etcd_disk_wal_write_bytes_total`: bytes appended to the raft log.
    pub wal_write_bytes: Gauge,
    /// `etcd_disk_wal_write_duration_seconds`: what the raft log was given before one sync, handed to the system.
    pub wal_write: Histogram,
    /// `etcd_disk_backend_commit_duration_seconds`: one batch of applied commands into the store.
    pub backend_commit: Histogram,
    /// `etcd_server_apply_duration_seconds`: one command.
    pub apply: ApplyDurations,
    /// `etcd_disk_backend_snapshot_duration_seconds`: one snapshot sent to a client.
    pub backend_snapshot: Histogram,
    /// `etcd_snap_db_save_total_duration_seconds`: one snapshot of a peer, from its first byte until it is staged.
    pub snapshot_save: Histogram,
    /// `etcd_snap_db_fsync_duration_seconds`: the end of that, which makes it durable.
    pub snapshot_sync: Histogram,
    /// `etcd_server_snapshot_apply_in_progress_total`: snapshots that take the store's place right now.
    pub snapshot_apply: Gauge,
    /// `etcd_mvcc_hash_duration_seconds`: one hash of everything.
    pub hash: Histogram,
    /// `etcd_mvcc_hash_rev_duration_seconds`: one hash of the keys at a revision.
    pub hash_rev: Histogram,
    /// `etcd_server_proposals_committed_total`: the commit index.
    pub proposals_committed: Gauge,
    /// `etcd_server_proposals_applied_total`: the applied index.
    pub proposals_applied: Gauge,
    /// `etcd_server_proposals_pending`: proposed and not answered yet.
    pub proposals_pending: Gauge,
    /// `ketch_server_proposals_parked`: waiting for a leader to take them.
    pub proposals_parked: Gauge,
    /// `ketch_server_reads_waiting`: linearizable reads that wait for their index, or until it is applied.
    pub reads_waiting: Gauge,
    /// `ketch_server_queue_length`: what waits at each of [`STATIONS`].
    pub queues: [Gauge; STATIONS.len()],
    /// `etcd_server_proposals_failed_total`: proposals that were dropped or timed out.
    pub proposals_failed: Counter,
    /// `etcd_server_has_leader`.
    pub has_leader: Gauge,
    /// `etcd_server_is_leader`.
    pub is_leader: Gauge,
    /// `etcd_server_is_learner`.
    pub is_learner: Gauge,
    /// `etcd_server_leader_changes_seen_total`.
    pub leader_changes_seen: Counter,
    /// `etcd_server_slow_apply_total`: commands and reads that took longer than the flag allows.
    pub slow_apply: Counter,
    /// `etcd_server_heartbeat_send_failures_total`: heartbeats that left late.
    pub heartbeats_late: Counter,
    /// `etcd_server_read_indexes_failed_total`: questions for an index that raft refused, or that a change of leader overtook.
    pub read_indexes_failed: Counter,
    /// `etcd_server_slow_read_indexes_total`: reads that waited for their index in vain.
    pub read_indexes_slow: Counter,
    /// `etcd_server_quota_backend_bytes`.
    pub quota_bytes: Gauge,
    /// `etcd_mvcc_db_total_size_in_bytes`.
    pub db_total_bytes: Gauge,
    /// `etcd_mvcc_db_total_size_in_use_in_bytes`.
    pub db_in_use_bytes: Gauge,
    /// `etcd_debugging_mvcc_current_revision`.
    pub current_revision: Gauge,
    /// `etcd_debugging_mvcc_compact_revision`.
    pub compact_revision: Gauge,
    /// `etcd_debugging_mvcc_keys_total`.
    pub keys: Gauge,
    /// `etcd_debugging_mvcc_total_put_size_in_bytes`: bytes of keys and values that were put.
    pub put_bytes: Counter,
    /// `etcd_debugging_mvcc_*compaction*`.
    pub compaction: CompactionMetrics,
    /// `etcd_debugging_mvcc_watch_stream_total`: watch streams that are open.
    pub watch_streams: Gauge,
    /// `etcd_debugging_mvcc_watcher_total`: watches on all streams.
    pub watchers: Gauge,
    /// `etcd_debugging_mvcc_slow_watcher_total`: watches that are behind.
    pub slow_watchers: Gauge,
    /// `etcd_debugging_mvcc_pending_events_total`: events that watchers have not taken yet.
    pub pending_events: Gauge,
    /// `etcd_debugging_mvcc_events_total`: events sent to watchers.
    pub watch_events: Counter,
    /// What watch streams cost and how they fail.
    pub streams: StreamMetrics,
    /// What the member knows of itself and of the others.
    pub member: MemberMetrics,
    /// How long requests take, and who asks.
    pub requests: RequestMetrics,
    /// `grpc_server_*` and the bytes of gRPC messages; fed by [`CountRpcsLayer`].
    pub grpc: GrpcMetrics,
    /// `etcd_network_*` of each peer.
    pub peers: PeerMetrics,
    pub(crate) put: Counter,
    pub(crate) delete: Counter,
    pub(crate) txn: Counter,
    pub(crate) txn_range: Counter,
    pub(crate) counts_applied: AtomicBool,
    pub(crate) health_success: Counter,
    pub(crate) health_failures: Counter,
    pub(crate) checks: [(&'static str, &'static str, CheckCounts); 5],
    alarms: Mutex<BTreeMap<(String, String), bool>>,
    server_id: OnceLock<String>,
    cluster_version: Mutex<Option<String>>,
    refresh: OnceLock<Refresh>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        let disk = || Histogram::doubling(Duration::from_millis(1), 14);
        let check = |kind, name| (kind, name, CheckCounts::default());
        Self {
            wal_fsync: disk(),
            wal_write_bytes: Gauge::default(),
            wal_write: disk(),
            backend_commit: disk(),
            apply: ApplyDurations::default(),
            backend_snapshot: Histogram::doubling(Duration::from_millis(10), 17),
            snapshot_save: Histogram::doubling(Duration::from_millis(100), 10),
            snapshot_sync: disk(),
            snapshot_apply: Gauge::zero(),
            hash: Histogram::doubling(Duration::from_millis(10), 15),
            hash_rev: Histogram::doubling(Duration::from_millis(10), 15),
            proposals_committed: Gauge::default(),
            proposals_applied: Gauge::default(),
            proposals_pending: Gauge::zero(),
            proposals_parked: Gauge::zero(),
            reads_waiting: Gauge::zero(),
            queues: std::array::from_fn(|_| Gauge::zero()),
            proposals_failed: Counter::default(),
            has_leader: Gauge::default(),
            is_leader: Gauge::default(),
            is_learner: Gauge::default(),
            leader_changes_seen: Counter::default(),
            txn_range: Counter::default(),
            counts_applied: AtomicBool::new(false),
            put: Counter::default(),
            delete: Counter::default(),
            txn: Counter::default(),
            slow_apply: Counter::default(),
            heartbeats_late: Counter::default(),
            read_indexes_failed: Counter::default(),
            read_indexes_slow: Counter::default(),
            quota_bytes: Gauge::default(),
            db_total_bytes: Gauge::default(),
            db_in_use_bytes: Gauge::default(),
            current_revision: Gauge::default(),
            compact_revision: Gauge::default(),
            keys: Gauge::default(),
            put_bytes: Counter::default(),
            compaction: CompactionMetrics::default(),
            watch_streams: Gauge::zero(),
            watchers: Gauge::zero(),
            slow_watchers: Gauge::zero(),
            pending_events: Gauge::zero(),
            watch_events: Counter::default(),
            streams: StreamMetrics::default(),
            member: MemberMetrics::default(),
            requests: RequestMetrics::default(),
            grpc: GrpcMetrics::new(),
            peers: PeerMetrics::default(),
            health_success: Counter::default(),
            health_failures: Counter::default(),
            checks: [
                check("livez", "serializable_read"),
                check("readyz", "data_corruption"),
                check("readyz", "serializable_read"),
                check("readyz", "linearizable_read"),
                check("readyz", "non_learner"),
            ],
            alarms: Mutex::default(),
            server_id: OnceLock::new(),
            cluster_version: Mutex::new(None),
            refresh: OnceLock::new(),
        }
    }

    /// The same, with the time that each RPC takes (`--metrics=extensive`).
    #[must_use]
    pub fn extensive() -> Self {
        let mut metrics = Self::new();
        metrics.grpc.time_handling();
        metrics
    }

    /// Shows the member's id. Later calls change nothing: a process is one member.
    pub fn set_server_id(&self, id: u64) {
        let _ = self.server_id.set(format!("{id:x}"));
    }

    /// Shows these alarms, by type and the member they are about, as raised, and all that were shown before as lowered.
    pub fn set_alarms(&self, raised: impl IntoIterator<Item = (String, u64)>) {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.values_mut().for_each(|raised| *raised = false);
        alarms.extend(raised.into_iter().map(|(alarm, member)| ((alarm, format!("{member:x}")), true)));
    }

    /// Shows the cluster version by its first two numbers: `3.7.0` as `3.7`.
    pub fn set_cluster_version(&self, version: &str) {
        let short = version.match_indices('.').nth(1).map_or(version, |(end, _)| &version[..end]);
        *self.cluster_version.lock().unwrap_or_else(PoisonError::into_inner) = Some(short.to_owned());
    }

    /// Called before every scrape: the place to set gauges that are cheaper to ask for than to keep. The first
    /// call wins.
    pub fn on_scrape(&self, refresh: impl Fn(&Self) + Send + Sync + 'static) {
        let _ = self.refresh.set(Box::new(refresh));
    }

    /// The page of a scrape.
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(refresh) = self.refresh.get() {
            refresh(self);
        }
        render::page(self)
    }
}
