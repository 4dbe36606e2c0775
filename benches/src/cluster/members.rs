//! The processes of one cluster: started together on free loopback ports, killed, started again, joined by one more.

use std::io;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::cluster_client::ClusterClient;
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::{MemberAddRequest, StatusRequest, StatusResponse};
use ketch_proto::tonic::Response;
use ketch_proto::tonic::transport::Endpoint;
use tempfile::TempDir;

use crate::server::{Program, Spot, Starting, end, free_ports, launch, url};
use crate::usage::{cpu_time, memory};

/// Members at the start; one more may join.
pub(super) const MEMBERS: usize = 3;
const PLACES: usize = MEMBERS + 1;
const NAMES: [&str; PLACES] = ["m0", "m1", "m2", "m3"];
/// How long a state of the cluster is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// All members together at rest use less than a twentieth of this, each.
const SETTLE_CHECK: Duration = Duration::from_millis(400);
const SETTLE_CHECKS_MAX: u32 = 15;

/// A cluster. Dropping it kills all processes and removes their data.
pub(super) struct Members {
    program: Program,
    dir: TempDir,
    clients: [u16; PLACES],
    peers: [u16; PLACES],
    children: Vec<Option<Child>>,
}

impl Members {
    /// Starts three members and waits until all are ready.
    pub(super) fn start(program: &Program, root: &Path) -> io::Result<Members> {
        let dir = tempfile::Builder::new().prefix("ketch-cluster-").tempdir_in(root)?;
        let ports: [u16; 2 * PLACES] = free_ports()?;
        let (mut clients, mut peers) = ([0; PLACES], [0; PLACES]);
        clients.copy_from_slice(&ports[..PLACES]);
        peers.copy_from_slice(&ports[PLACES..]);
        let mut members = Members { program: program.clone(), dir, clients, peers, children: Vec::new() };
        let starting: Vec<Starting> =
            (0..MEMBERS).map(|at| members.launch(at, MEMBERS)).collect::<io::Result<_>>()?;
        for one in starting {
            members.children.push(Some(one.await_ready()?));
        }
        Ok(members)
    }

    fn launch(&self, at: usize, of: usize) -> io::Result<Starting> {
        let cluster: Vec<String> =
            (0..of).map(|at| format!("{}={}", NAMES[at], url(self.peers[at]))).collect();
        let dir = self.dir.path().join(NAMES[at]);
        std::fs::create_dir_all(&dir)?;
        let (client, peer) = (self.clients[at], self.peers[at]);
        let joins = of > MEMBERS;
        launch(
            &self.program,
            &dir,
            &Spot { name: NAMES[at], client, peer, cluster: &cluster.join(","), joins },
        )
    }

    /// Where clients of member `at` connect.
    pub(super) fn url(&self, at: usize) -> String {
        url(self.clients[at])
    }

    /// The members that run.
    pub(super) fn alive(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.children.len()).filter(|&at| self.children[at].is_some())
    }

    pub(super) async fn status(&self, at: usize) -> io::Result<StatusResponse> {
        let endpoint = Endpoint::from_shared(self.url(at)).map_err(io::Error::other)?;
        let endpoint = endpoint.timeout(Duration::from_secs(2));
        let channel = endpoint.connect().await.map_err(io::Error::other)?;
        let answer = MaintenanceClient::new(channel).status(StatusRequest {}).await;
        answer.map(Response::into_inner).map_err(|status| io::Error::other(status.message().to_owned()))
    }

    /// The place of the leader that all living members agree on.
    pub(super) async fn leader(&self) -> io::Result<usize> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(leader) = self.agreed_leader().await {
                return Ok(leader);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(io::Error::other("the members do not agree on a leader"))
    }

    async fn agreed_leader(&self) -> Option<usize> {
        let mut leads = None;
        let mut named = Vec::new();
        for at in self.alive() {
            let status = self.status(at).await.ok()?;
            named.push(status.leader);
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                leads = Some(at);
            }
        }
        named.windows(2).all(|pair| pair[0] == pair[1]).then_some(leads)?
    }

    /// Waits until member `at` has applied what `leader` had applied a moment before.
    pub(super) async fn caught_up(&self, at: usize, leader: usize) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let wanted = self.status(leader).await?.raft_applied_index;
            // A member that starts does not answer yet.
            if self.status(at).await.is_ok_and(|status| status.raft_applied_index >= wanted) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(io::Error::other("a member does not catch up"))
    }

    pub(super) fn kill(&mut self, at: usize) {
        self.children[at].take().iter_mut().for_each(end);
    }

    /// Starts a member again that was killed.
    pub(super) fn start_again(&mut self, at: usize) -> io::Result<()> {
        self.children[at] = Some(self.launch(at, MEMBERS)?.await_ready()?);
        Ok(())
    }

    /// A fourth member, as a learner: it is added by the leader and started.
    pub(super) async fn join(&mut self, leader: usize) -> io::Result<Joining> {
        let endpoint = Endpoint::from_shared(self.url(leader)).map_err(io::Error::other)?;
        let channel = endpoint.connect().await.map_err(io::Error::other)?;
        let request = MemberAddRequest { peer_urls: vec![url(self.peers[MEMBERS])], is_learner: true };
        let added = ClusterClient::new(channel).member_add(request).await;
        added.map_err(|status| io::Error::other(status.message().to_owned()))?;
        Ok(Joining { _process: self.launch(MEMBERS, PLACES)?, at: MEMBERS })
    }

    /// Processor time of all members so far.
    pub(super) fn cpu_time(&self) -> io::Result<Duration> {
        self.children.iter().flatten().map(|child| cpu_time(child.id())).sum()
    }

    /// Anonymous memory of each member, in MiB.
    pub(super) fn anonymous_mib(&self) -> io::Result<Vec<f64>> {
        let of = |child: &Child| Ok(memory(child.id())?.anonymous as f64 / f64::from(1 << 20));
        self.children.iter().flatten().map(of).collect()
    }

    /// Waits until the members have nothing to do of their own. They need not come to rest: there is an end to the patience.
    pub(super) async fn settle(&self) -> io::Result<()> {
        let mut before = self.cpu_time()?;
        for _ in 0..SETTLE_CHECKS_MAX {
            tokio::time::sleep(SETTLE_CHECK).await;
            let now = self.cpu_time()?;
            if now.saturating_sub(before) <= SETTLE_CHECK / 20 * self.children.len() as u32 {
                break;
            }
            before = now;
        }
        Ok(())
    }
}

/// A member that was started to join, alive as long as this is.
pub(super) struct Joining {
    _process: Starting,
    /// Its place.
    pub(super) at: usize,
}

impl Drop for Members {
    fn drop(&mut self) {
        self.children.iter_mut().flatten().for_each(end);
    }
}
