//! One end of a network: what it was given is kept, to be waited for.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use ketch_mvcc::Options;
use ketch_raft::{Body, Message, NodeId};
use ketch_server::apply::cluster::Cluster;
use ketch_server::cluster::Member;
use ketch_server::config::Url;
use ketch_server::datadir::Half;
use ketch_server::metrics::Metrics;
use ketch_server::peer::{Inlet, Network, NetworkOptions, SNAPSHOT_BYTES_PER_SECOND};
use ketch_server::serve;
use ketch_server::staging::Staging;
use ketch_server::state::Shared;
use ketch_wal::{Disk, RealDisk};
use tokio::sync::watch;

/// Far longer than anything here takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a member was given.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<Given>,
    changed: Condvar,
}

#[derive(Default, Debug)]
pub(crate) struct Given {
    pub(crate) messages: Vec<Message>,
    pub(crate) unreachable: Vec<NodeId>,
    pub(crate) snapshots: Vec<(NodeId, bool)>,
    pub(crate) removed: bool,
}

impl Inbox {
    /// Waits until `done` says so of what was given, and returns its answer.
    pub(crate) fn until<T>(&self, what: &str, mut done: impl FnMut(&mut Given) -> Option<T>) -> T {
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(answer) = done(&mut state) {
                return answer;
            }
            let (next, late) = self.changed.wait_timeout(state, PATIENCE).unwrap();
            assert!(!late.timed_out(), "waited in vain for {what}: {:?}", next);
            state = next;
        }
    }

    fn note(&self, change: impl FnOnce(&mut Given)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

impl Inlet for Inbox {
    fn messages(&self, messages: Vec<Message>) {
        self.note(|given| given.messages.extend(messages));
    }

    fn appends(&self, messages: Vec<Message>) {
        self.messages(messages);
    }

    fn unreachable(&self, to: NodeId) {
        self.note(|given| given.unreachable.push(to));
    }

    fn snapshot_report(&self, to: NodeId, ok: bool) {
        self.note(|given| given.snapshots.push((to, ok)));
    }

    fn removed(&self) {
        self.note(|given| given.removed = true);
    }
}

/// A member's network and where it was bound.
pub(crate) struct End {
    pub(crate) id: NodeId,
    pub(crate) network: Arc<Network>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) staging: Arc<Staging>,
    stop: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

/// Where a member is and of what.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) id: NodeId,
    pub(crate) cluster: u64,
    pub(crate) boot: u64,
    pub(crate) url: String,
}

impl Place {
    pub(crate) fn new(id: NodeId) -> Place {
        Place { id, cluster: 0xc1, boot: 1, url: free_url() }
    }
}

/// A URL whose port nobody has at the moment.
pub(crate) fn free_url() -> String {
    format!("http://127.0.0.1:{}", crate::harness::ports::free())
}

impl End {
    pub(crate) fn start(place: &Place) -> End {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let staging = Arc::new(Staging::new(Arc::clone(&disk), dir.path(), Half::First, Options::default()));
        let (inbox, metrics) = (Arc::new(Inbox::default()), Arc::new(Metrics::new()));
        let options = NetworkOptions {
            member_id: place.id,
            cluster_id: place.cluster,
            boot: place.boot,
            seed: place.id,
            election: Duration::from_secs(1),
            peer_urls: vec![place.url.clone()],
            staging: Arc::clone(&staging),
            metrics: Arc::clone(&metrics),
            snapshot_bytes_per_second: SNAPSHOT_BYTES_PER_SECOND,
        };
        let network = Network::start(options, Arc::clone(&inbox) as Arc<dyn Inlet>).unwrap();
        let store =
            ketch_mvcc::Store::open(disk, &dir.path().join("own"), Options::default()).unwrap().reader();
        let shared = Arc::new(Shared::new(place.id, place.cluster, store, Arc::default()));
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(serve::listen(&Url::parse(&place.url).unwrap(), false)).unwrap();
        let router = network.router(shared);
        {
            let _inside = runtime.enter();
            network.serve(listener, router, stopped).unwrap();
        }
        End { id: place.id, network, inbox, metrics, staging, stop, runtime, dir }
    }

    /// The connection of this end is gone, as if its process had been killed.
    pub(crate) fn kill(self) {
        let _nobody = self.stop.send(true);
        self.network.stop();
        drop(self.runtime);
        drop(self.dir);
    }

    /// Makes `others` this end's peers.
    pub(crate) fn knows(&self, others: &[&Place]) {
        let members = others.iter().map(|place| {
            let member = Member {
                id: place.id,
                peer_urls: vec![place.url.clone()],
                is_learner: false,
                name: String::new(),
                client_urls: Vec::new(),
            };
            (place.id, member)
        });
        self.network.set_members(&Cluster { members: members.collect(), ..Cluster::default() });
    }

    /// The member `id` was removed from the cluster.
    pub(crate) fn forgets(&self, id: NodeId) {
        self.network.set_members(&Cluster { removed: [id].into(), ..Cluster::default() });
    }

    /// Sends on both lanes until something arrives on each: they stand then.
    pub(crate) fn reaches(&self, to: &End) {
        let (mut number, mut stands) = (PROBE, [false; 2]);
        to.inbox.until_polled("both lanes", |given| {
            number += 1;
            let append = Body::Append { index: number, log_term: 0, entries: Vec::new(), commit: 0 };
            let append = Message { from: self.id, to: to.id, term: 1, body: append };
            self.network.send(&[heartbeat(self.id, to.id, number), append], None);
            given.messages.retain(|message| match message.body {
                Body::Heartbeat { round, .. } if round > PROBE => {
                    stands[0] = true;
                    false
                }
                Body::Append { index, .. } if index > PROBE => {
                    stands[1] = true;
                    false
                }
                _ => true,
            });
            stands == [true; 2]
        });
    }
}

/// Numbers above this are those of messages that only probe; they may still come later.
pub(crate) const PROBE: u64 = u64::MAX / 2;

impl Inbox {
    /// As [`until`](Self::until), asked again and again while nothing comes: for what must be provoked.
    pub(crate) fn until_polled(&self, what: &str, mut done: impl FnMut(&mut Given) -> bool) {
        let began = std::time::Instant::now();
        let mut state = self.state.lock().unwrap();
        while !done(&mut state) {
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
            state = self.changed.wait_timeout(state, Duration::from_millis(5)).unwrap().0;
        }
    }
}

/// A heartbeat.
pub(crate) fn heartbeat(from: NodeId, to: NodeId, round: u64) -> Message {
    Message { from, to, term: 1, body: Body::Heartbeat { commit: 0, round } }
}
