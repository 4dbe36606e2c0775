//! A member, put together: each core, thread, task and channel once.
//!
//! | who | runs on | talks to |
//! | --- | --- | --- |
//! | listeners, connections, requests | tokio, one task each | `Api` → `Proposer`, `ReadBarrier` → `Driver::submit` |
//! | `ketch-large` | threads that give way to all others | large reads, the pieces of long answers → their connections |
//! | `ketch-drive` | its own thread | consensus → log → consensus → applier → waiters |
//! | `ketch-lane` | a thread for each peer | its entries → `Driver::receive_appends` |
//! | `ketch-peer`, `ketch-bulk` | a thread with an event loop each | peers: other messages → `Driver::receive`, a lone put's answer → its connection; snapshots → `Staging` |
//! | `ketch-fetch` | its own thread | old entries for followers that are behind: log → consensus; the log, while something long is applied |
//! | `ketch-tick` | its own thread | `Driver::tick` once a heartbeat interval |
//! | `ketch-upkeep` | its own thread | store and raft log, in stints: write-back, checkpoints, spares, purge |
//! | first election | one task, for five seconds at most | forwards raft's ticks once peers are connected |
//! | cluster version | one task | `Proposer`, when a downgrade moves it |
//! | corruption checks | a task for each that is on | peers' `/members/hashkv`; `Proposer`, to raise `CORRUPT` |
//! | `ketch-watch` | its own thread | watch hub → watch streams; woken by each commit |
//! | publishing | one task | `Proposer`: name, client URLs and cluster version, before the member is ready |
//!
//! Stopping goes the other way: listeners close, requests end, the driver lets everybody go, the threads end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::slow::apply::SlowCommands;
use crate::api::streams::{self, OpenStreams};
use crate::api::watch::Watches;
use crate::api::{Api, Limits};
use crate::aside::Aside;
use crate::bootstrap::Opened;
use crate::config::{Config, Url};
use crate::consensus::core::Input;
use crate::consensus::shell::{Driver, Stopped};
use crate::http::HttpState;
use crate::metrics::Metrics;
use crate::peer::Network;
use crate::probe::{MemberProbe, refresh_on_scrape};
use crate::propose::Proposer;
use crate::publish;
use crate::quota::Quota;
use crate::read::ReadBarrier;
use crate::serve::{self, Connections, Listener, Protocols};
use crate::state::Shared;
use crate::{compactor, corrupt, http, peer, versions};

mod network;
mod open;
mod threads;
mod told;

pub(crate) use open::{LOG_SEGMENT_BYTES, founding_of};

/// How long handing leadership over may take once the member stops.
const HAND_OVER: Duration = Duration::from_millis(700);

/// How long open requests may take to end once the member stops.
const DRAIN: Duration = Duration::from_millis(500);

/// A member that is asked to end is gone this soon, a moment for its threads included.
const _EXIT: () = assert!(HAND_OVER.as_millis() + DRAIN.as_millis() <= 1300);

/// A running member.
pub struct Running {
    driver: Arc<Driver>,
    network: Arc<Network>,
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
    open::check_request_bytes(config)?;
    told::socket_options(config);
    // Ports first: a second server on the same ports must not touch anything.
    let shared = config.socket_reuse_port;
    let clients = listen_all(&config.listen_client_urls, shared).await?;
    let plain_clients = listen_all(&config.listen_client_http_urls, shared).await?;
    let peers = listen_all(&config.listen_peer_urls, shared).await?;
    let probes = listen_all(&config.listen_metrics_urls, shared).await?;
    let remote = open::ask_peers(config).await?;
    let opened = open::open(config, remote)?;
    let Opened { identity, boot, core, log, applier, staging, dir, founded, peers: told, .. } = opened;
    told::starting(config, founded);
    told::defragmenting(config, applier.store().sizes());
    if config.initial_corrupt_check && !founded {
        corrupt::initial(identity, applier.cluster(), applier.store().reader().view()).await?;
    }

    let metrics = Arc::new(if config.extensive_metrics { Metrics::extensive() } else { Metrics::new() });
    let watches = Arc::new(Watches::new(applier.store().hub(), config.watch_progress_notify_interval));
    let shared = Arc::new(Shared::new(
        identity.member_id,
        identity.cluster_id,
        applier.store().reader(),
        Arc::clone(applier.hashes()),
    ));
    let applier =
        applier.observed_by(Box::new(SlowCommands::new(config.warning_apply_duration, Arc::clone(&metrics))));
    let driver = Driver::new(core, log, applier, staging, Arc::clone(&shared), Arc::clone(&metrics));
    let driver =
        Arc::new(driver.heartbeat_every(config.heartbeat_interval).stall_after(config.election_ticks()));
    let stop_threads = Arc::new(AtomicBool::new(false));
    let threads = threads::start(&driver, &watches, config, &stop_threads)?;

    let (stop_listeners, stop) = watch::channel(false);
    let network = network::start(config, identity, boot, &driver, &metrics, &told)?;

    let api = Arc::new(Api {
        shared: Arc::clone(&shared),
        network: Arc::clone(&network),
        proposer: Proposer::new(Arc::clone(&driver), identity.member_id, boot, config.max_request_bytes)
            .over(Arc::clone(&network), config.election_timeout),
        barrier: ReadBarrier::new(Arc::clone(&driver), config.request_timeout()),
        limits: Limits {
            txn_ops_max: config.max_txn_ops,
            request_bytes_max: config.max_request_bytes,
            request_timeout: config.request_timeout(),
            warn_after: config.warning_unary_request_duration,
            warn_apply_after: config.warning_apply_duration,
            learners_max: config.max_learners,
            strict_reconfig: config.strict_reconfig_check,
            quota: Quota::of_flag(config.quota_backend_bytes),
        },
        metrics: Arc::clone(&metrics),
        streams: Arc::default(),
        watches: Arc::clone(&watches),
        aside: Arc::new(Aside::start()?),
    });
    metrics.set_server_id(identity.member_id);
    metrics.member.set_features(config.features.clone());
    api.limits.quota.log();
    metrics.quota_bytes.set(api.limits.quota.bytes());
    refresh_on_scrape(&metrics, &driver, &network, watches.hub().clone());
    for listener in peers {
        let routes = network.router(Arc::clone(&shared)).merge(peer::api_routes(Arc::clone(&api)));
        network.serve(listener, routes, stop.clone())?;
    }
    let mut listeners = JoinSet::new();
    if config.initial_election_tick_advance {
        let (driver, network, ticks) = (Arc::clone(&driver), Arc::clone(&network), config.election_ticks());
        listeners.spawn(network::advance_election(driver, network, ticks, stop.clone()));
    } else {
        tracing::info!(election_ticks = config.election_ticks(), "skipping initial election tick advance");
    }
    publish::until_ready(&api, &config.name, &config.advertise_client_urls).await?;

    let connections = Connections {
        streams_max: config.max_concurrent_streams,
        ping_min: config.grpc_keepalive_min_time,
        keepalive: (config.grpc_keepalive_interval, config.grpc_keepalive_timeout),
        handshake: serve::HANDSHAKE,
    };
    let state = HttpState {
        probe: Arc::new(MemberProbe::new(Arc::clone(&api))),
        metrics: Arc::clone(&metrics),
        access: Arc::new(http::Access::new(config)),
    };
    let split = !config.listen_client_http_urls.is_empty();
    let plain = Some(http::client_router(state.clone()));
    let client =
        Protocols { grpc: Some(Arc::clone(&api)), http: plain.clone().filter(|_| !split), http1_only: false };
    let http_only = Protocols { grpc: None, http: plain, http1_only: true };
    let metrics_only = Protocols { grpc: None, http: Some(http::metrics_router(state)), http1_only: false };
    for (opened, protocols) in [(clients, client), (plain_clients, http_only), (probes, metrics_only)] {
        for listener in opened {
            listeners.spawn(serve::serve(listener, protocols.clone(), connections.clone(), stop.clone()));
        }
    }
    tracing::info!("ready to serve client requests");
    told::serving(&config.listen_client_urls, if split { "grpc" } else { "grpc+http" });
    told::serving(&config.listen_client_http_urls, "http");
    if let Some(retention) = config.auto_compaction {
        listeners.spawn(compactor::run(Arc::clone(&api), retention, stop.clone()));
    }
    listeners.spawn(versions::watch(Arc::clone(&api), stop.clone()));
    if !config.corrupt_check_time.is_zero() {
        listeners.spawn(corrupt::watch(Arc::clone(&api), config.corrupt_check_time, stop.clone()));
    }
    if let Some(every) = config.compact_hash_check_time {
        listeners.spawn(corrupt::watch_compactions(Arc::clone(&api), every, stop.clone()));
    }
    listeners.spawn(streams::watch_leader(Arc::clone(&api), config.election_timeout, stop));
    let streams = Arc::clone(&api.streams);
    Ok(Running { driver, network, streams, listeners, stop_listeners, stop_threads, threads, _dir: dir })
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
        self.network.stop();
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

async fn listen_all(urls: &[Url], shared: bool) -> Result<Vec<Listener>, String> {
    let mut listeners = Vec::new();
    for url in urls {
        listeners.push(serve::listen(url, shared).await?);
    }
    Ok(listeners)
}
