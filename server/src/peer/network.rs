//! The network of one member: its peers, the threads they are served on, and what is told to raft.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use ketch_raft::{Body, Message, NodeId};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::time::Instant;

use super::handshake::Identity;
use super::lane::Pushed;
use super::reports::{Report, Reports};
use super::table::{LaneKind, Peer};
use super::{Inlet, NetworkOptions, bulk, link};
use crate::apply::cluster::Cluster;
use crate::clock::{self, Stopwatch};
use crate::config::Url;
use crate::consensus::shell::{Outlet, Pace};
use crate::metrics::Metrics;
use crate::priority;
use crate::serve::{self, Connections, Listener, Protocols};
use crate::staging::{Pinned, Staging};
use crate::sync::lock;

/// What all tasks share.
pub(crate) struct Inner {
    pub(crate) identity: Identity,
    pub(crate) inlet: Arc<dyn Inlet>,
    pub(crate) staging: Arc<Staging>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) seed: u64,
    pub(crate) dial_timeout: Duration,
    /// Bytes a second of one snapshot.
    pub(crate) snapshot_rate: u64,
    /// The newest term of a leader that has begun to send a snapshot here.
    pub(crate) snapshot_term: watch::Sender<u64>,
    reports: Arc<Reports>,
    started: Stopwatch,
}

impl Inner {
    /// Tells raft, from a thread of the network's own: the caller may be inside raft.
    pub(crate) fn report(&self, report: Report) {
        self.reports.say(report);
    }

    /// Nanoseconds since the network started.
    pub(crate) fn since_start(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The network of one member. Cheap to share; ends with [`stop`](Self::stop).
pub struct Network {
    pub(crate) inner: Arc<Inner>,
    peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    /// Members that were, and are no more.
    removed: Mutex<BTreeSet<NodeId>>,
    runtime: Handle,
    /// Where snapshots are sent and received: they stand in no message's way.
    pub(super) bulk: Handle,
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Those that wait for what peers send.
    readers: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

impl Network {
    /// Starts the threads `ketch-peer` and, for snapshots, `ketch-bulk`; each peer's lane for entries gets one more. Peers come with [`set_members`](Self::set_members).
    ///
    /// # Errors
    /// The system refuses a thread or what its event loop needs.
    pub fn start(options: NetworkOptions, inlet: Arc<dyn Inlet>) -> Result<Arc<Network>, String> {
        let event_loop = || Builder::new_current_thread();
        let started = |built: std::io::Result<Runtime>| {
            built.map_err(|error| format!("cannot start the peers' event loop: {error}"))
        };
        let runtime = started(event_loop().enable_all().build())?;
        let bulk = started(event_loop().enable_all().on_thread_start(priority::give_way).build())?;
        let reports = Arc::<Reports>::default();
        let said = Arc::clone(&reports);
        let inner = Arc::new(Inner {
            identity: Identity {
                member_id: options.member_id,
                cluster_id: options.cluster_id,
                boot: options.boot,
                peer_urls: options.peer_urls.join(","),
            },
            inlet: Arc::clone(&inlet),
            staging: options.staging,
            metrics: options.metrics,
            seed: options.seed,
            dial_timeout: options.election.max(Duration::from_secs(1)),
            snapshot_rate: options.snapshot_bytes_per_second,
            snapshot_term: watch::Sender::new(0),
            reports,
            started: Stopwatch::start(),
        });
        let (stop, stopped) = watch::channel(false);
        let (handle, bulk_handle) = (runtime.handle().clone(), bulk.handle().clone());
        handle.spawn(async move {
            // Ends with its event loop.
            loop {
                for report in said.hear().await {
                    match report {
                        Report::Unreachable(to) => inlet.unreachable(to),
                        Report::Snapshot { to, ok } => inlet.snapshot_report(to, ok),
                        Report::Removed => inlet.removed(),
                    }
                }
            }
        });
        let bulk_stopped = stopped.clone();
        let threads = vec![
            spawn("ketch-peer", move || serve_until(runtime, stopped))?,
            spawn("ketch-bulk", move || {
                priority::give_way();
                serve_until(bulk, bulk_stopped);
            })?,
        ];
        Ok(Arc::new(Network {
            inner,
            peers: RwLock::default(),
            removed: Mutex::default(),
            runtime: handle,
            bulk: bulk_handle,
            stop,
            threads: Mutex::new(threads),
            readers: Mutex::default(),
        }))
    }

    /// Sends `messages`, in order for each peer and lane. Never waits: what a lane has no room for is dropped, and raft
    /// told so once until the lane is fine again.
    pub fn send(&self, messages: &[Message], pinned: Option<&Pinned>) {
        self.send_at(Pace::Busy, messages, pinned);
    }

    /// The same at the given pace.
    fn send_at(&self, pace: Pace, messages: &[Message], pinned: Option<&Pinned>) {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        // Which lanes have something to write: peers are few.
        let mut touched: Vec<(&Arc<Peer>, LaneKind)> = Vec::new();
        for message in messages {
            let Some(peer) = peers.get(&message.to) else { continue };
            if let Body::Snapshot { .. } = message.body {
                self.send_snapshot(peer, message, pinned);
                continue;
            }
            let which = LaneKind::of(&message.body);
            match peer.lane(which).push(message) {
                Pushed::Queued => {
                    if !touched.iter().any(|(to, lane)| to.id == peer.id && *lane == which) {
                        touched.push((peer, which));
                    }
                }
                Pushed::Dropped { first } => {
                    peer.meter.sent_failures.inc();
                    if first {
                        self.inner.report(Report::Unreachable(peer.id));
                    }
                }
            }
        }
        // What is small and urgent goes first.
        touched.sort_by_key(|(_, which)| *which as u32);
        for (peer, which) in touched {
            peer.lane(which).hand_over(pace, &peer.meter.sent_bytes);
        }
    }

    /// Notes how much waits for each peer.
    pub fn measure_queues(&self) {
        for peer in self.peers.read().unwrap_or_else(PoisonError::into_inner).values() {
            for which in [LaneKind::Urgent, LaneKind::Append] {
                let (bytes, frames) = peer.lane(which).waiting();
                peer.meter.queue(which.name()).set(bytes, frames);
            }
        }
    }

    /// A snapshot while another one is under way to the same peer is dropped: the end of that one is reported.
    fn send_snapshot(&self, peer: &Arc<Peer>, message: &Message, pinned: Option<&Pinned>) {
        let Body::Snapshot { meta } = &message.body else { return };
        let Some(pinned) = pinned.filter(|pinned| pinned.meta == *meta) else {
            self.inner.report(Report::Snapshot { to: peer.id, ok: false });
            return;
        };
        if peer.begin_snapshot() {
            let (net, peer) = (Arc::clone(&self.inner), Arc::clone(peer));
            self.bulk.spawn(bulk::send(net, peer, message.clone(), pinned.clone()));
        }
    }

    /// The members to talk to; this one is left out. A peer that `cluster` does not name stays until it is among the
    /// removed: a member that catches up learns of the others one by one, and was told of them before.
    pub fn set_members(&self, cluster: &Cluster) {
        self.set_removed(&cluster.removed);
        let own = self.inner.identity.member_id;
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let removed = lock(&self.removed).clone();
        for (&id, member) in cluster.members.iter().filter(|(id, _)| **id != own && !removed.contains(id)) {
            let urls: Vec<Url> = member.peer_urls.iter().filter_map(|url| Url::parse(url).ok()).collect();
            match peers.get(&id) {
                Some(peer) => peer.set_urls(urls),
                None => drop(peers.insert(id, self.add(id, urls))),
            }
        }
    }

    fn add(&self, id: NodeId, urls: Vec<Url>) -> Arc<Peer> {
        let meter = self.inner.metrics.peers.of(self.inner.identity.member_id, id);
        let peer = Arc::new(Peer::new(id, urls, meter));
        for which in [LaneKind::Urgent, LaneKind::Append] {
            self.runtime.spawn(link::run(Arc::clone(&self.inner), Arc::clone(&peer), which));
        }
        peer
    }

    /// Nothing is sent to removed members any more, and they are told so when they call.
    fn set_removed(&self, ids: &BTreeSet<NodeId>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        ids.iter().filter_map(|id| peers.remove(id)).for_each(|peer| peer.end());
        lock(&self.removed).extend(ids);
    }

    pub(crate) fn is_removed(&self, id: NodeId) -> bool {
        lock(&self.removed).contains(&id)
    }

    pub(crate) fn peer(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The peers that messages reach.
    #[must_use]
    pub fn connected(&self) -> Vec<NodeId> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().filter(|peer| peer.connected_since().is_some()).map(|peer| peer.id).collect()
    }

    /// Since when messages reach peer `id`.
    #[must_use]
    pub fn connected_since(&self, id: NodeId) -> Option<Instant> {
        self.peer(id)?.connected_since()
    }

    /// How many peers messages reach.
    #[must_use]
    pub fn connected_peers(&self) -> usize {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().filter(|peer| peer.connected_since().is_some()).count()
    }

    /// Whether messages have reached peer `id` for at least `least`.
    #[must_use]
    pub fn connected_for(&self, id: NodeId, least: Duration) -> bool {
        self.connected_since(id).is_some_and(|since| clock::now() - since >= least)
    }

    /// Serves a peer port on the network's own thread, until `stop` becomes true.
    ///
    /// # Errors
    /// The system does not let the port go from one event loop to the other.
    pub fn serve(&self, listener: Listener, http: Router, stop: watch::Receiver<bool>) -> Result<(), String> {
        let _inside = self.runtime.enter();
        let listener = listener.rehome().map_err(|error| format!("cannot hand over a peer port: {error}"))?;
        let connections = Connections {
            streams_max: STREAMS_MAX,
            ping_min: Duration::ZERO,
            keepalive: (Duration::ZERO, Duration::ZERO),
            handshake: serve::HANDSHAKE,
        };
        let protocols = Protocols { grpc: None, http: Some(http), http1_only: false };
        self.runtime.spawn(serve::serve(listener, protocols, connections, stop));
        Ok(())
    }

    /// Starts the thread of a lane from a peer. [`stop`](Self::stop) waits for its end.
    pub(super) fn spawn_reader(&self, life: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name("ketch-lane".into()).spawn(life)?;
        let mut readers = lock(&self.readers);
        readers.retain(|reader| !reader.is_finished());
        readers.push(thread);
        Ok(())
    }

    /// Ends all connections and their threads.
    pub fn stop(&self) {
        let peers = std::mem::take(&mut *self.peers.write().unwrap_or_else(PoisonError::into_inner));
        peers.values().for_each(|peer| peer.end());
        self.stop.send_replace(true);
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            let _ended = thread.join();
        }
        // Behind the thread that starts them. Their connections are over, those that were just accepted too.
        for reader in std::mem::take(&mut *lock(&self.readers)) {
            let _ended = reader.join();
        }
    }
}

fn spawn(name: &str, life: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(life);
    thread.map_err(|error| format!("cannot start the thread {name}: {error}"))
}

fn serve_until(runtime: Runtime, mut stopped: watch::Receiver<bool>) {
    let _told = runtime.block_on(stopped.wait_for(|&stop| stop));
    runtime.shutdown_background();
}

/// HTTP/2 streams that a caller of the plain paths may have open.
const STREAMS_MAX: u32 = 100;

impl Outlet for Network {
    fn send(&self, pace: Pace, messages: Vec<Message>, pinned: Option<Pinned>) {
        self.send_at(pace, &messages, pinned.as_ref());
    }

    fn members(&self, cluster: &Cluster) {
        self.set_members(cluster);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.peers.get_mut().unwrap_or_else(PoisonError::into_inner).values().for_each(|peer| peer.end());
        self.stop.send_replace(true);
    }
}
