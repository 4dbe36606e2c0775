//! A cluster of real processes: who is in it, how each is started, and how the test talks to them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::cluster_client::ClusterClient;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::tonic::Status;
use ketch_proto::tonic::transport::{Channel, Endpoint};
use tempfile::TempDir;

use crate::harness::ports;
use crate::harness::process::{Process, READY};
use crate::net::{Mode, Net};

/// The patience with everything: a busy machine, elections, snapshots. What works is far from it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What is not yet so is looked at again after this.
const AGAIN: Duration = Duration::from_millis(20);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(8);

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
    /// The port of its proxy, which it advertises.
    pub(crate) front: u16,
    /// `new` or `existing`, and the members it was first started with.
    pub(crate) birth: (&'static str, String),
    pub(crate) process: Option<Process>,
    pub(crate) paused: bool,
    /// Flags of its own; they come last.
    pub(crate) extra: Vec<String>,
}

impl Member {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.front)
    }

    pub(crate) fn channel(&self) -> Channel {
        channel(&self.url())
    }

    /// It runs and is not paused.
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some() && !self.paused
    }

    /// Flags of its own from now on.
    pub(crate) fn set_extra<const N: usize>(&mut self, flags: [&str; N]) {
        self.extra = flags.map(str::to_owned).to_vec();
    }

    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map_or_else(|| "does not run".to_owned(), Process::log)
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
        self.paused = false;
    }

    pub(crate) fn pause(&mut self) {
        self.process.as_ref().unwrap().signal("STOP");
        self.paused = true;
    }

    pub(crate) fn resume(&mut self) {
        self.process.as_ref().unwrap().signal("CONT");
        self.paused = false;
    }

    /// Asks it to end; how long that took, and what it wrote.
    pub(crate) fn terminate(&mut self) -> (Duration, String) {
        let mut process = self.process.take().unwrap();
        let start = Instant::now();
        process.signal("TERM");
        let status = process.wait();
        let took = start.elapsed();
        assert!(status.success() || status.code().is_none(), "{status} after SIGTERM:\n{}", process.log());
        (took, process.log())
    }
}

/// A connection that is made when it is needed, and again when it is lost.
pub(crate) fn channel(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned()).unwrap().connect_timeout(Duration::from_secs(2)).connect_lazy()
}

/// Members, those that run and those that do not.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) net: Arc<Net>,
    program: PathBuf,
    flags: Vec<String>,
    born: usize,
    dir: TempDir,
}

impl Cluster {
    /// `count` members of `program` that have found each other. `flags` come last.
    pub(crate) fn found(program: impl Into<PathBuf>, count: usize, flags: &[&str]) -> Cluster {
        let mut cluster = Cluster {
            members: Vec::new(),
            net: Arc::new(Net::new()),
            program: program.into(),
            flags: flags.iter().map(ToString::to_string).collect(),
            born: 0,
            dir: tempfile::tempdir().unwrap(),
        };
        let members = (0..count).map(|_| cluster.draft()).collect();
        cluster.gather(members);
        cluster
    }

    /// The same members on the same ports, of another program, as if nothing had been.
    pub(crate) fn again(&mut self, program: impl Into<PathBuf>) {
        let mut members = std::mem::take(&mut self.members);
        for member in &mut members {
            drop(member.process.take());
            drop(std::fs::remove_dir_all(&member.data));
        }
        self.found_again(program, members);
    }

    /// The same with `members`, who have no data, of another program.
    pub(crate) fn found_again(&mut self, program: impl Into<PathBuf>, members: Vec<Member>) {
        self.program = program.into();
        self.gather(members);
    }

    /// These are the first members; they are started, and ready.
    fn gather(&mut self, members: Vec<Member>) {
        self.members = members;
        let all = self.initial_cluster();
        for member in &mut self.members {
            member.birth = ("new", all.clone());
        }
        (0..self.members.len()).for_each(|at| self.spawn(at));
        (0..self.members.len()).for_each(|at| self.await_ready(at));
    }

    /// A member that nobody knows yet, with a proxy in front.
    pub(crate) fn draft(&mut self) -> Member {
        self.born += 1;
        let name = format!("m{}", self.born);
        let (client_port, peer_port) = (ports::free(), ports::free());
        let front = self.net.proxy(peer_port);
        let data = self.dir.path().join(&name);
        let birth = ("existing", String::new());
        let extra = Vec::new();
        Member { name, data, client_port, peer_port, front, birth, process: None, paused: false, extra }
    }

    /// What `--initial-cluster` says of all that are members now.
    pub(crate) fn initial_cluster(&self) -> String {
        let each = self.members.iter().map(|member| format!("{}={}", member.name, member.peer_url()));
        each.collect::<Vec<_>>().join(",")
    }

    pub(crate) fn command(&self, member: &Member) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--name", &member.name, "--initial-cluster-token", "cluster-tests"])
            .arg("--data-dir")
            .arg(&member.data)
            .args(["--listen-client-urls", &member.url(), "--advertise-client-urls", &member.url()])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", member.peer_port)])
            .args(["--initial-advertise-peer-urls", &member.peer_url()])
            .args(["--initial-cluster-state", member.birth.0, "--initial-cluster", &member.birth.1])
            .args(&self.flags)
            .args(&member.extra);
        command
    }

    pub(crate) fn spawn(&mut self, at: usize) {
        let process = Process::spawn(&mut self.command(&self.members[at]));
        self.members[at].process = Some(process);
    }

    pub(crate) fn await_ready(&mut self, at: usize) {
        let member = &mut self.members[at];
        let process = member.process.as_mut().unwrap();
        if !process.await_line(READY) {
            let status = process.wait();
            panic!("{} ended with {status} before it was ready:\n{}", member.name, process.log());
        }
    }

    pub(crate) fn start(&mut self, at: usize) {
        self.spawn(at);
        self.await_ready(at);
    }

    /// Everything is as it was before anything went wrong: links, pauses, processes.
    pub(crate) fn heal(&mut self) {
        self.net.heal();
        self.members.iter_mut().filter(|member| member.paused).for_each(Member::resume);
        let dead: Vec<usize> =
            (0..self.members.len()).filter(|&at| self.members[at].process.is_none()).collect();
        dead.iter().for_each(|&at| self.spawn(at));
        dead.iter().for_each(|&at| self.await_ready(at));
    }

    /// Cuts a member from all others, in this mode.
    pub(crate) fn isolate(&self, at: usize, mode: Mode) {
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != at);
        let others: Vec<u16> = others.map(|(_, member)| member.front).collect();
        self.net.between(self.members[at].front, &others, mode);
    }
}

/// Asks until it is as wanted.
pub(crate) async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        let told = match tokio::time::timeout(ATTEMPT, ask()).await {
            Ok(Ok(told)) => return told,
            Ok(Err(error)) => format!("{error:?}"),
            Err(_late) => "no answer".to_owned(),
        };
        assert!(start.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}; at last {told}");
        tokio::time::sleep(AGAIN).await;
    }
}

/// What a member says of itself.
pub(crate) async fn status(channel: Channel) -> Result<StatusResponse, Status> {
    let asked = MaintenanceClient::new(channel).status(StatusRequest {}).await;
    Ok(asked?.into_inner())
}

/// One write, outside of what clients write.
pub(crate) async fn put(channel: Channel, key: &str, value: &str) -> Result<i64, Status> {
    let request =
        PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    let told = KvClient::new(channel).put(request).await?;
    Ok(told.into_inner().header.unwrap().revision)
}

impl Cluster {
    /// Where the leader is; each running member is asked until one that leads says so and most follow it.
    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader", async || self.find_leader().await).await
    }

    async fn find_leader(&self) -> Result<usize, Vec<(usize, u64, u64)>> {
        let mut told = Vec::new();
        for (at, member) in self.members.iter().enumerate().filter(|(_, member)| member.is_up()) {
            let asked = tokio::time::timeout(Duration::from_secs(1), status(member.channel())).await;
            if let Ok(Ok(status)) = asked {
                told.push((at, status.header.unwrap().member_id, status.leader));
            }
        }
        let followers = |id: u64| told.iter().filter(|(_, _, leader)| *leader == id).count();
        let leads =
            |(_, id, leader): &&(usize, u64, u64)| id == leader && followers(*id) * 2 > self.members.len();
        told.iter().find(leads).map(|(at, ..)| *at).ok_or_else(|| told.clone())
    }

    /// The id of a running member.
    pub(crate) async fn id(&self, at: usize) -> u64 {
        let channel = self.members[at].channel();
        let told = eventually("a member's status", async || status(channel.clone()).await).await;
        told.header.unwrap().member_id
    }

    /// Members as the one at `at` lists them.
    pub(crate) async fn list(&self, at: usize) -> Vec<ketch_proto::etcdserverpb::Member> {
        let channel = self.members[at].channel();
        let ask = MemberListRequest { linearizable: true };
        let told = eventually("a list of members", async || {
            ClusterClient::new(channel.clone()).member_list(ask).await
        });
        told.await.into_inner().members
    }

    /// Adds a member that the one at `via` is told of, starts it, and waits until it serves. It comes last.
    pub(crate) async fn add(&mut self, via: usize, is_learner: bool) -> usize {
        let mut member = self.draft();
        self.announce(via, &member, is_learner).await;
        member.birth =
            ("existing", format!("{},{}={}", self.initial_cluster(), member.name, member.peer_url()));
        self.members.push(member);
        let at = self.members.len() - 1;
        tokio::task::block_in_place(|| self.join(at));
        at
    }

    /// Starts a member that joins. The one it asks who is a member may not have heard of it yet: then it ends, as etcd's do,
    /// and is started again.
    pub(crate) fn join(&mut self, at: usize) {
        let start = Instant::now();
        loop {
            self.spawn(at);
            let process = self.members[at].process.as_mut().unwrap();
            if process.await_line(READY) {
                return;
            }
            let (status, log) = (process.wait(), process.log());
            let too_early = log.contains("member count is unequal") && start.elapsed() < PATIENCE;
            assert!(too_early, "{} ended with {status} before it was ready:\n{log}", self.members[at].name);
        }
    }

    /// Asks the member at `via` to take `member` in; a lost answer is made up for by looking.
    pub(crate) async fn announce(&self, via: usize, member: &Member, is_learner: bool) {
        let channel = self.members[via].channel();
        let request = MemberAddRequest { peer_urls: vec![member.peer_url()], is_learner };
        eventually("a member is added", async || {
            match ClusterClient::new(channel.clone()).member_add(request.clone()).await {
                Err(status) if status.message() == "etcdserver: Peer URLs already exists" => Ok(()),
                told => told.map(drop),
            }
        })
        .await;
    }

    /// Promotes a learner as soon as it may be.
    pub(crate) async fn promote(&self, via: usize, id: u64) {
        let channel = self.members[via].channel();
        let ask = MemberPromoteRequest { id };
        eventually("a learner is promoted", async || {
            match ClusterClient::new(channel.clone()).member_promote(ask).await {
                Err(status) if status.message() == "etcdserver: can only promote a learner member" => Ok(()),
                told => told.map(drop),
            }
        })
        .await;
    }

    /// Removes a member; the process is the caller's to look after. The one at `via` is asked first, then the others: one that
    /// removes itself may be gone before it answers.
    pub(crate) async fn remove(&self, via: usize, id: u64) {
        let mut turn = (0..self.members.len()).cycle().skip(via);
        eventually("a member is removed", async || {
            let channel = self.members[turn.next().unwrap()].channel();
            match ClusterClient::new(channel).member_remove(MemberRemoveRequest { id }).await {
                Err(status) if status.message() == "etcdserver: member not found" => Ok(()),
                told => told.map(drop),
            }
        })
        .await;
    }

    /// Waits until every member takes a put, all have the same revision, and their contents have equal hashes.
    pub(crate) async fn agree(&self) -> i64 {
        let mut newest = 0;
        for member in &self.members {
            let what = format!("a put through {}", member.name);
            let channel = member.channel();
            newest = newest
                .max(eventually(&what, async || put(channel.clone(), "x/alive", &member.name).await).await);
        }
        eventually("all have one content", async || {
            let mut told = Vec::new();
            for member in &self.members {
                let request = HashKvRequest { revision: newest };
                let hash = MaintenanceClient::new(member.channel()).hash_kv(request).await;
                let hash = hash.map_err(|status| format!("{}: {status}", member.name))?.into_inner();
                told.push((hash.hash, hash.compact_revision, hash.hash_revision));
            }
            // One that has not carried out a compaction yet counts more; it will.
            let points_differ = told.iter().any(|one| (one.1, one.2) != (told[0].1, told[0].2));
            if points_differ {
                return Err(format!("{told:?}"));
            }
            assert!(told.iter().all(|one| *one == told[0]), "contents differ at {newest}: {told:?}");
            Ok(newest)
        })
        .await
    }
}
