//! Three members with all their threads, on simulated disks, with channels for a network.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use ketch_mvcc::{Cursor, KeyRange, Query};
use ketch_proto::etcdserverpb::{InternalRaftRequest, PutRequest};
use ketch_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest};
use ketch_raft::{Body, Message, NodeId, Status};
use ketch_wal::sim::Op;
use ketch_wal::{Disk, SimDisk};

use super::*;
use crate::bootstrap::{self, CoreOptions, First, Founding};
use crate::caller::Caller;
use crate::cluster::Member;
use crate::datadir::Identity;
use crate::propose::Proposer;
use crate::publish;

mod lone;

const IDS: [NodeId; 3] = [11, 12, 13];

/// Who is cut off.
type Cut = Arc<Mutex<BTreeSet<NodeId>>>;

type Parcel = (Message, Option<Pinned>);

struct Wire {
    from: NodeId,
    out: Vec<(NodeId, Sender<Parcel>)>,
    cut: Cut,
    starved: Cut,
}

impl Outlet for Wire {
    fn members(&self, _cluster: &crate::apply::cluster::Cluster) {}

    fn send(&self, _: Pace, messages: Vec<Message>, pinned: Option<Pinned>) {
        let cut = lock(&self.cut).clone();
        for message in messages {
            if cut.contains(&self.from) || cut.contains(&message.to) {
                continue;
            }
            if matches!(message.body, Body::Append { .. }) && lock(&self.starved).contains(&message.to) {
                continue;
            }
            if let Some((_, out)) = self.out.iter().find(|(to, _)| *to == message.to) {
                let _gone = out.send((message, pinned.clone()));
            }
        }
    }
}

struct OneMember {
    driver: Arc<Driver>,
    proposer: Proposer,
    threads: Vec<std::thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Drop for OneMember {
    fn drop(&mut self) {
        self.driver.stop(Stopped("the test is over".into()));
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            thread.join().unwrap();
        }
    }
}

fn founding(id: NodeId) -> Founding {
    let member = |id: NodeId| Member {
        id,
        peer_urls: vec![format!("http://127.0.0.1:{id}")],
        is_learner: false,
        name: format!("m{id}"),
        client_urls: Vec::new(),
    };
    Founding {
        identity: Identity { cluster_id: 1, member_id: id },
        members: IDS.into_iter().map(member).collect(),
    }
}

type Inbound = Receiver<Parcel>;

/// A driver that nobody drives yet, and the number of its life.
fn driver(id: NodeId, disk: &Arc<SimDisk>, wire: Wire) -> (Driver, u64) {
    let disk: Arc<dyn Disk> = Arc::<SimDisk>::clone(disk);
    let options = CoreOptions {
        election_ticks: 10,
        pre_vote: true,
        seed: id,
        unsafe_no_sync: false,
        force_new_cluster: false,
        log_dir: None,
        log_segment_bytes: 64 << 10,
        store: ketch_mvcc::Options::default(),
    };
    let opened =
        bootstrap::open(&disk, Path::new("/member"), &options, || Ok(First::New(founding(id)))).unwrap();
    let shared =
        Arc::new(Shared::new(id, 1, opened.applier.store().reader(), Arc::clone(opened.applier.hashes())));
    let driver = Driver::new(opened.core, opened.log, opened.applier, opened.staging, shared, Arc::default());
    driver.connect(Arc::new(wire));
    (driver, opened.boot)
}

fn start(id: NodeId, disk: &Arc<SimDisk>, wire: Wire, inbound: Inbound, peers: Peers) -> OneMember {
    let (driver, boot) = driver(id, disk, wire);
    let driver = Arc::new(driver);
    lock(&peers).push((id, Arc::clone(&driver)));
    let stop = Arc::new(AtomicBool::new(false));
    let (drive, fetch, tick, stop_tick) =
        (Arc::clone(&driver), Arc::clone(&driver), Arc::clone(&driver), Arc::clone(&stop));
    let (receive, stop_receive) = (Arc::clone(&driver), Arc::clone(&stop));
    let threads = vec![
        std::thread::spawn(move || drive.drive()),
        std::thread::spawn(move || fetch.fetch()),
        std::thread::spawn(move || {
            while !stop_tick.load(Ordering::SeqCst) {
                tick.tick();
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }),
        std::thread::spawn(move || {
            while !stop_receive.load(Ordering::SeqCst) {
                match inbound.recv_timeout(Duration::from_millis(20)) {
                    Ok((message, pinned)) => deliver(&receive, message, pinned, &peers),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
        }),
    ];
    let proposer = Proposer::new(Arc::clone(&driver), id, boot, 1 << 20);
    OneMember { driver, proposer, threads, stop }
}

type Peers = Arc<Mutex<Vec<(NodeId, Arc<Driver>)>>>;

fn deliver(to: &Driver, message: Message, pinned: Option<Pinned>, peers: &Peers) {
    if let Body::Snapshot { meta } = &message.body {
        let pinned = pinned.expect("a snapshot comes with its view");
        let staged = to.staging().begin(meta).and_then(|mut incoming| {
            let mut export = pinned.view.export(Cursor::START);
            while let Some(chunk) = export.next_chunk(4096).unwrap() {
                incoming.chunk(&chunk.bytes)?;
            }
            to.staging().finish(incoming)
        });
        let sender = lock(peers).iter().find(|(id, _)| *id == message.from).map(|(_, peer)| Arc::clone(peer));
        sender.unwrap().submit(Input::SnapshotReport { to: message.to, ok: staged.is_ok() });
        if staged.is_err() {
            return;
        }
    }
    to.receive(vec![message]);
}

struct Cluster {
    members: Vec<OneMember>,
    disks: [Arc<SimDisk>; 3],
    cut: Cut,
    /// Who hears of everything but entries.
    starved: Cut,
}

fn cluster() -> Cluster {
    let (senders, receivers): (Vec<_>, Vec<_>) = IDS.iter().map(|_| mpsc::channel()).unzip();
    let (cut, starved, peers) = (Cut::default(), Cut::default(), Peers::default());
    let disks = IDS.map(SimDisk::new);
    let members = IDS.into_iter().zip(receivers).zip(&disks).map(|((id, inbound), disk)| {
        let out = IDS.into_iter().zip(senders.iter().cloned()).collect();
        let wire = Wire { from: id, out, cut: Arc::clone(&cut), starved: Arc::clone(&starved) };
        start(id, disk, wire, inbound, Arc::clone(&peers))
    });
    Cluster { members: members.collect(), disks, cut, starved }
}

impl Cluster {
    async fn leader(&self, among: &[usize]) -> usize {
        loop {
            let leads = |&&at: &&usize| {
                let shared = self.members[at].driver.shared();
                shared.standing().leader == shared.member_id
            };
            if let Some(&at) = among.iter().find(leads) {
                return at;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn put(&self, at: usize, key: &str) {
        let put =
            PutRequest { key: key.to_owned().into(), value: vec![7; 500].into(), ..PutRequest::default() };
        let request = InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() };
        loop {
            let deadline = crate::clock::now() + Duration::from_secs(5);
            match self.members[at].proposer.propose(&Caller::default(), request.clone(), deadline).await {
                Ok(_) => return,
                Err(error) => eprintln!("{key}: {error:?}"),
            }
        }
    }

    async fn until_applied(&self, at: usize, index: u64) {
        while self.members[at].driver.shared().applied() < index {
            assert!(self.members[at].driver.stopped().is_none(), "{:?}", self.members[at].driver.stopped());
            tokio::task::yield_now().await;
        }
    }

    fn keys(&self, at: usize) -> u64 {
        let view = self.members[at].driver.shared().reader.view();
        view.range(&Query::new(KeyRange::all())).unwrap().count
    }
}

#[tokio::test]
async fn a_follower_that_was_cut_off_is_sent_a_snapshot_and_goes_on_from_it() {
    let cluster = cluster();
    let leader = cluster.leader(&[0, 1, 2]).await;
    let followers: Vec<usize> = (0..3).filter(|&at| at != leader).collect();
    for key in 0..50 {
        cluster.put(followers[key % 2], &format!("before {key}")).await;
    }
    let lost = followers[0];
    lock(&cluster.cut).insert(IDS[lost]);
    for key in 0..100 {
        cluster.put(leader, &format!("meanwhile {key}")).await;
    }
    // The log forgets all of it.
    let driver = &cluster.members[leader].driver;
    driver.submit(Input::Purge(driver.shared().applied()));
    driver.purge().unwrap();
    lock(&cluster.cut).clear();
    cluster.put(followers[1], "after").await;
    // Whoever was asked has applied it when it answers; the leader, which others outvote, perhaps not yet.
    let applied = cluster.members[followers[1]].driver.shared().applied();
    cluster.until_applied(lost, applied).await;
    cluster.until_applied(leader, applied).await;
    assert_eq!(cluster.keys(lost), 151);
    let hash = |at: usize| {
        cluster.members[at].driver.with_applier(|applier| applier.store().reader().view().hash(0).unwrap())
    };
    assert_eq!(hash(lost), hash(leader));
    // It takes part again, and could lead.
    lock(&cluster.cut).insert(IDS[followers[1]]);
    cluster.put(lost, "with the one that was lost").await;
}

/// What a snapshot holds is not applied again, so nobody is told of its own command in it. A member that joins waits for its own publication.
#[tokio::test]
async fn a_member_whose_publication_came_with_its_snapshot_publishes_again() {
    let cluster = cluster();
    let leader = cluster.leader(&[0, 1, 2]).await;
    let joins = (leader + 1) % 3;
    cluster.put(joins, "before").await;
    lock(&cluster.starved).insert(IDS[joins]);
    let attributes = Attributes { name: "published".into(), client_urls: Vec::new() };
    let request = ClusterMemberAttrSetRequest { member_id: IDS[joins], member_attributes: Some(attributes) };
    let command = InternalRaftRequest {
        cluster_member_attr_set: Some(Box::new(request)),
        ..InternalRaftRequest::default()
    };
    let driver = &cluster.members[leader].driver;
    let meanwhile = async {
        while driver.shared().cluster().members[&IDS[joins]].name != "published" {
            tokio::task::yield_now().await;
        }
        for key in 0..100 {
            cluster.put(leader, &format!("meanwhile {key}")).await;
        }
        driver.submit(Input::Purge(driver.shared().applied()));
        driver.purge().unwrap();
        lock(&cluster.starved).clear();
    };
    let one = &cluster.members[joins];
    // An attempt that would be given up only when the test is.
    let publishes = publish::propose(&one.proposer, one.driver.shared(), &command, Duration::from_secs(3600));
    let both = async { tokio::join!(publishes, meanwhile) };
    let (published, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    published.unwrap();
    assert_eq!(one.driver.shared().cluster().members[&IDS[joins]].name, "published");
    assert!(cluster.keys(joins) > 100);
}

#[tokio::test]
async fn what_waits_at_a_station_is_counted() {
    let cluster = cluster();
    let leader = cluster.leader(&[0, 1, 2]).await;
    let driver = &cluster.members[leader].driver;
    let at = |station| crate::metrics::STATIONS.iter().position(|name| *name == station).unwrap();
    let held = lock(&driver.consensus);
    driver.queue(Input::Tick);
    assert!(driver.waiting()[at("consensus")] > 0);
    drop(held);
    driver.run();
    while driver.waiting() != [0; 5] {
        tokio::task::yield_now().await;
    }
    let held = lock(&driver.applier);
    let ((), ()) = tokio::join!(cluster.put(leader, "waits to be applied"), async {
        while driver.waiting()[at("apply")] == 0 {
            tokio::task::yield_now().await;
        }
        drop(held);
    });
    while driver.waiting() != [0; 5] {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn leadership_is_handed_over_without_an_election_timeout() {
    let cluster = cluster();
    let leader = cluster.leader(&[0, 1, 2]).await;
    cluster.put(leader, "one").await;
    let driver = &cluster.members[leader].driver;
    let to = driver.successor().unwrap();
    let deadline = crate::clock::now() + Duration::from_secs(5);
    cluster.members[leader].proposer.transfer(to, deadline).await.unwrap();
    let next = cluster.leader(&(0..3).filter(|&at| at != leader).collect::<Vec<_>>()).await;
    assert_eq!(IDS[next], to);
    cluster.put(leader, "two").await;
    assert!(cluster.members[leader].driver.successor().is_none(), "it leads no more");
}

/// Its followers hear its heartbeats, which need no disk: it has to say so itself.
#[test]
fn a_leader_whose_disk_hangs_hands_leadership_over() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let cluster = cluster();
    let leader = runtime().block_on(async {
        let leader = cluster.leader(&[0, 1, 2]).await;
        cluster.put(leader, "before").await;
        leader
    });
    let hangs = Arc::new((Mutex::new(true), Condvar::new()));
    let waits = Arc::clone(&hangs);
    cluster.disks[leader].set_hook(Some(Arc::new(move |_, op, _| {
        if op == Op::Sync {
            drop(waits.1.wait_while(lock(&waits.0), |hangs| *hangs));
        }
    })));
    std::thread::scope(|scope| {
        // Whoever writes there waits with the disk.
        scope.spawn(|| runtime().block_on(cluster.put(leader, "while it hangs")));
        runtime().block_on(async {
            let others: Vec<usize> = (0..3).filter(|&at| at != leader).collect();
            let next = cluster.leader(&others).await;
            cluster.put(next, "the others go on").await;
        });
        *lock(&hangs.0) = false;
        hangs.1.notify_all();
    });
    cluster.disks[leader].set_hook(None);
    runtime().block_on(async {
        cluster.put(leader, "after").await;
        let applied = cluster.members[leader].driver.shared().applied();
        for at in 0..3 {
            cluster.until_applied(at, applied).await;
        }
    });
    assert_eq!((0..3).map(|at| cluster.keys(at)).collect::<Vec<_>>(), [4, 4, 4]);
}

/// While the log is at work proposals wait for each other, those of followers too; heartbeats and commits do not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_that_come_while_the_log_is_at_work_go_on_together() {
    // An election in between shows nothing, nor does a log that was just done with something when it was taken away.
    for _ in 0..TRIES {
        if gathered_proposals_are_all_answered().await {
            return;
        }
    }
    panic!("in {TRIES} tries none waited for the log");
}

/// A busy machine spoils a few of them.
const TRIES: u32 = 30;

/// False when leadership changed meanwhile, or nothing had to wait.
async fn gathered_proposals_are_all_answered() -> bool {
    const PUTS: usize = 60;
    let cluster = Arc::new(cluster());
    let leader = cluster.leader(&[0, 1, 2]).await;
    cluster.put(leader, "first").await;
    let driver = Arc::clone(&cluster.members[leader].driver);
    cluster.until_applied(leader, driver.status().last_index).await;
    let Status { last_index: before, term, .. } = driver.status();
    let undisturbed = || driver.leads() && driver.status().term == term;
    let ((held, is_held), (let_go, may_go)) = (mpsc::channel(), mpsc::channel::<()>());
    let holder = std::thread::spawn({
        let driver = Arc::clone(&driver);
        move || {
            let log = lock(&driver.log);
            held.send(()).unwrap();
            may_go.recv().unwrap_err();
            drop(log);
            driver.wake_if_busy();
        }
    });
    is_held.recv().unwrap();
    let mut puts = tokio::task::JoinSet::new();
    for number in 0..PUTS {
        let cluster = Arc::clone(&cluster);
        let at = if number % 3 == 0 { (leader + 1) % 3 } else { leader };
        puts.spawn(async move { cluster.put(at, &format!("gathered {number}")).await });
    }
    let seen = || driver.status().last_index - before + driver.gather.len() as u64;
    while seen() < PUTS as u64 && undisturbed() {
        tokio::task::yield_now().await;
    }
    let (waiting, due, entries) = (driver.gather.len(), driver.gather.is_due(), driver.status().last_index);
    // Whoever was just done with the log may end the hold of the next job too: that costs company and nothing else.
    let waited = undisturbed() && waiting > 0 && !due && entries > before;
    drop(let_go);
    while let Some(done) = puts.join_next().await {
        done.unwrap();
    }
    holder.join().unwrap();
    let last_index = driver.status().last_index;
    for at in 0..3 {
        cluster.until_applied(at, last_index).await;
        assert_eq!(cluster.keys(at), 1 + PUTS as u64, "none is lost");
    }
    if !undisturbed() || !waited {
        return false;
    }
    assert_eq!(last_index, before + PUTS as u64, "none comes twice");
    true
}

#[test]
fn large_proposals_do_not_wait_for_the_log() {
    let gather = Gather::default();
    let propose = |len: usize| Input::Propose { id: 1, command: vec![0; len].into() };
    gather.hold();
    gather.push(propose(1000));
    let mut taken = Vec::new();
    assert!(!gather.is_due() && gather.take_due(&mut taken) && taken.is_empty());
    gather.push(propose(1 << 20));
    assert!(gather.is_due() && !gather.take_due(&mut taken));
    assert_eq!(taken.len(), 2);
    gather.push(propose(1));
    assert!(!gather.is_due());
    gather.release();
    assert!(gather.is_due() && !gather.take_due(&mut taken));
    assert!(!gather.is_due());
}
