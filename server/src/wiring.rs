//! A member, put together: each core, thread, task and channel once.
//!
//! | who | runs on | talks to |
//! | --- | --- | --- |
//! | listeners, connections, requests | tokio, one task each | `Api` → `Proposer`, `ReadBarrier` → `Driver::submit` |
//! | `ketch-drive` | its own thread | consensus → log → consensus → applier → waiters |
//! | `ketch-fetch` | its own thread | old entries for followers that are behind: log → consensus |
//! | `ketch-tick` | its own thread | `Driver::tick` once a heartbeat interval |
//! | `ketch-upkeep` | its own thread | store and raft log: write-back, checkpoints, spares, purge |
//! | cluster version | one task | `Proposer`, when a downgrade moves it |
//! | `ketch-watch` | its own thread | watch hub → watch streams; woken by each commit |
//! | publishing | one task | `Proposer`: name, client URLs and cluster version, before the member is ready |
//!
//! Stopping goes the other way: listeners close, requests end, the driver lets everybody go, the threads end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ketch_wal::{Disk, RealDisk, Tail};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::api::streams::{self, OpenStreams};
use crate::api::watch::Watches;
use crate::api::{Api, LARGE_READS_MAX, Limits};
use crate::bootstrap::{self, CoreOptions, First, Founding, Opened};
use crate::cluster::Member;
use crate::config::{Bootstrap, Config, Url};
use crate::consensus::core::Input;
use crate::consensus::shell::{Driver, Stopped};
use crate::datadir::Identity;
use crate::http::HttpState;
use crate::metrics::Metrics;
use crate::probe::{MemberProbe, refresh_on_scrape};
use crate::propose::Proposer;
use crate::publish;
use crate::quota::{Quota, Reserve};
use crate::read::ReadBarrier;
use crate::serve::{self, Connections, Listener, Protocols};
use crate::state::Shared;
use crate::upkeep::Upkeep;
use crate::{compactor, deliver, http, version, versions};

/// How long handing leadership over may take once the member stops.
const HAND_OVER: Duration = Duration::from_millis(700);

/// How long open requests may take to end once the member stops.
const DRAIN: Duration = Duration::from_millis(500);

/// A running member.
pub struct Running {
    driver: Arc<Driver>,
    streams: Arc<OpenStreams>,
    listeners: JoinSet<()>,
    stop_listeners: watch::Sender<bool>,
    stop_threads: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _dir: crate::datadir::DataDir,
}

/// Starts a member as `config` says and returns once it is ready to serve clients.
///
/// # Errors
/// One line that says what stands in the way.
pub async fn start(config: &Config) -> Result<Running, String> {
    check_request_bytes(config)?;
    // Ports first: a second server on the same ports must not touch anything.
    let clients = listen_all(&config.listen_client_urls).await?;
    let peers = listen_all(&config.listen_peer_urls).await?;
    let probes = listen_all(&config.listen_metrics_urls).await?;
    let opened = open(config)?;
    let Opened { identity, boot, core, log, applier, staging, dir, .. } = opened;

    let metrics = Arc::new(Metrics::new());
    let watches = Arc::new(Watches::new(applier.store().hub(), config.watch_progress_notify_interval));
    let shared = Arc::new(Shared::new(identity.member_id, identity.cluster_id, applier.store().reader()));
    let driver = Driver::new(core, log, applier, staging, Arc::clone(&shared), Arc::clone(&metrics));
    let driver = Arc::new(
        driver.warn_of_slow_batches(config.warning_apply_duration).stall_after(config.election_ticks()),
    );
    let stop_threads = Arc::new(AtomicBool::new(false));
    let threads = start_threads(&driver, &watches, config, &stop_threads)?;

    let api = Arc::new(Api {
        shared: Arc::clone(&shared),
        proposer: Proposer::new(Arc::clone(&driver), identity.member_id, boot, config.max_request_bytes),
        barrier: ReadBarrier::new(Arc::clone(&driver)),
        limits: Limits {
            txn_ops_max: config.max_txn_ops,
            request_bytes_max: config.max_request_bytes,
            request_timeout: config.request_timeout(),
            quota: Quota::of_flag(config.quota_backend_bytes),
        },
        metrics: Arc::clone(&metrics),
        streams: Arc::default(),
        watches: Arc::clone(&watches),
        large_reads: Arc::new(Semaphore::new(LARGE_READS_MAX)),
    });
    metrics.set_server_id(identity.member_id);
    api.limits.quota.log();
    metrics.quota_bytes.set(api.limits.quota.bytes());
    refresh_on_scrape(&metrics, &driver, watches.hub().clone());
    publish::until_ready(&api, &config.name, &config.advertise_client_urls).await?;

    let (stop_listeners, stop) = watch::channel(false);
    let connections = Connections {
        streams_max: config.max_concurrent_streams,
        ping_min: config.grpc_keepalive_min_time,
        keepalive: (config.grpc_keepalive_interval, config.grpc_keepalive_timeout),
    };
    let mut listeners = JoinSet::new();
    let state = HttpState {
        probe: Arc::new(MemberProbe::new(Arc::clone(&api))),
        metrics: Arc::clone(&metrics),
        access: Arc::new(http::Access::new(config)),
    };
    let full = Protocols { grpc: Some(Arc::clone(&api)), http: http::client_router(state.clone()) };
    let metrics_only = Protocols { grpc: None, http: http::metrics_router(state) };
    let peer_info = Protocols { grpc: None, http: crate::peer::router(Arc::clone(&api)) };
    for (opened, protocols) in [(clients, full), (peers, peer_info), (probes, metrics_only)] {
        for listener in opened {
            listeners.spawn(serve::serve(listener, protocols.clone(), connections.clone(), stop.clone()));
        }
    }
    tracing::info!("ready to serve client requests");
    if let Some(retention) = config.auto_compaction {
        listeners.spawn(compactor::run(Arc::clone(&api), retention, stop.clone()));
    }
    listeners.spawn(versions::watch(Arc::clone(&api), stop.clone()));
    listeners.spawn(streams::watch_leader(Arc::clone(&api), config.election_timeout, stop));
    let streams = Arc::clone(&api.streams);
    Ok(Running { driver, streams, listeners, stop_listeners, stop_threads, threads, _dir: dir })
}

impl Running {
    /// Waits until the member stops by itself, which it does only when it must not go on.
    pub async fn until_stopped(&self) -> Stopped {
        self.driver.until_stopped().await
    }

    /// Stops the member: leadership goes to somebody else, no new requests, a moment for the open ones, then the threads.
    pub async fn stop(mut self) {
        self.hand_over().await;
        let _nobody = self.stop_listeners.send(true);
        self.streams.stop();
        let drained = async {
            while self.listeners.join_next().await.is_some() {}
            // Each connection holds a receiver until its last request has ended.
            self.stop_listeners.closed().await;
            while self.driver.proposals().pending() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let _late = tokio::time::timeout(DRAIN, drained).await;
        self.driver.stop(Stopped("the member was asked to stop".into()));
        self.stop_threads.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let _ended = thread.join();
        }
    }
}

impl Running {
    /// A leader that goes leaves another one behind, so that nobody waits for an election.
    async fn hand_over(&self) {
        let Some(to) = self.driver.successor() else { return };
        let mut leader = self.driver.shared().leader_changed.subscribe();
        self.driver.submit(Input::Transfer { to });
        let led = leader.wait_for(|&leader| leader != 0 && leader != self.driver.shared().member_id);
        if tokio::time::timeout(HAND_OVER, led).await.is_err() {
            tracing::warn!(%to, "leadership was not handed over in time");
        }
    }
}

async fn listen_all(urls: &[Url]) -> Result<Vec<Listener>, String> {
    let mut listeners = Vec::new();
    for url in urls {
        listeners.push(serve::listen(url).await?);
    }
    Ok(listeners)
}

fn open(config: &Config) -> Result<Opened, String> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options = CoreOptions {
        election_ticks: config.election_ticks(),
        pre_vote: config.pre_vote,
        seed: u64::from(std::process::id()),
        unsafe_no_sync: config.unsafe_no_fsync,
        log_segment_bytes: LOG_SEGMENT_BYTES,
        store: store_options(config),
    };
    let opened = bootstrap::open(&disk, &config.data_dir, &options, || founding(config))
        .map_err(|error| error.to_string())?;
    let Identity { cluster_id, member_id } = opened.identity;
    if let Tail::Torn { segment, offset, cut_bytes } = &opened.recovery.tail {
        tracing::warn!(
            ?segment,
            offset,
            cut_bytes,
            "cut a torn tail off the raft log: writes that were never acknowledged, unless the disk is at fault"
        );
    }
    tracing::info!(
        local_member_id = %format_args!("{member_id:x}"),
        cluster_id = %format_args!("{cluster_id:x}"),
        data_dir = %config.data_dir.display(),
        new = opened.founded,
        version = version::KETCH,
        "starting member"
    );
    Ok(opened)
}

fn store_options(config: &Config) -> ketch_mvcc::Options {
    ketch_mvcc::Options {
        ring_roots: RING_ROOTS,
        unsafe_no_sync: config.unsafe_no_fsync,
        ..ketch_mvcc::Options::default()
    }
}

/// A command must fit into one record of the raft log, whatever the flag says.
fn check_request_bytes(config: &Config) -> Result<(), String> {
    let limit = ketch_wal::RECORD_BYTES_MAX as usize - (1 << 20);
    if config.max_request_bytes <= limit {
        return Ok(());
    }
    Err(format!("--max-request-bytes={} is above the limit of {limit} bytes", config.max_request_bytes))
}

fn founding(config: &Config) -> Result<First, String> {
    Ok(First::New(founding_of(config.bootstrap().map_err(|error| error.to_string())?)))
}

/// What a cluster starts from whose first configuration is `first`.
pub(crate) fn founding_of(first: Bootstrap) -> Founding {
    let members = first.members.into_iter().map(|member| Member {
        id: member.id,
        peer_urls: member.peer_urls.iter().map(Url::to_string).collect(),
        is_learner: false,
        name: member.name,
        client_urls: Vec::new(),
    });
    Founding {
        identity: Identity { cluster_id: first.cluster_id, member_id: first.member_id },
        members: members.collect(),
    }
}

fn start_threads(
    driver: &Arc<Driver>,
    watches: &Arc<Watches>,
    config: &Config,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<JoinHandle<()>>, String> {
    let reserve = Reserve::new(Arc::new(RealDisk), config.data_dir.clone());
    let upkeep = Upkeep::new(Arc::clone(driver), config.snapshot_count, KEEP_ENTRIES, reserve);
    let (drive, fetcher, ticker) = (Arc::clone(driver), Arc::clone(driver), Arc::clone(driver));
    let (stop_tick, stop_upkeep) = (Arc::clone(stop), Arc::clone(stop));
    let (deliverer, watches, stop_deliver) = (Arc::clone(driver), Arc::clone(watches), Arc::clone(stop));
    let interval = config.heartbeat_interval;
    Ok(vec![
        spawn("ketch-drive", move || drive.drive())?,
        spawn("ketch-fetch", move || fetcher.fetch())?,
        spawn("ketch-tick", move || tick(&ticker, interval, &stop_tick))?,
        spawn("ketch-upkeep", move || upkeep.run(&stop_upkeep))?,
        spawn("ketch-watch", move || deliver::run(&watches, &deliverer, &stop_deliver))?,
    ])
}

/// Size of the raft log's segments. Spares of this size are filled with zeroes at the first start; later ones
/// are recycled.
pub(crate) const LOG_SEGMENT_BYTES: u64 = 16 << 20;

/// Roots of the recent past that the store keeps for reads at older revisions. Each holds on to the index nodes
/// that changed since; lists that are being paged pin theirs apart from these.
const RING_ROOTS: usize = 4;

/// Entries that stay in the raft log once they are durable in the store (etcd's default).
const KEEP_ENTRIES: u64 = 5000;

fn tick(driver: &Driver, interval: Duration, stop: &AtomicBool) {
    let mut next = Instant::now() + interval;
    while !stop.load(Ordering::SeqCst) {
        let now = Instant::now();
        if now < next {
            std::thread::park_timeout(next - now);
            continue;
        }
        driver.tick();
        // A process that was paused does not catch up on the ticks it missed.
        next = (next + interval).max(now);
    }
}

fn spawn(name: &str, life: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(life).map_err(|error| format!("cannot start the thread {name}: {error}"))
}
