//! Clients and watchers at work on a cluster, and the moments at which everything they were told is checked.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::watch_create_request::FilterType;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::check;
use crate::harness::random::Random;
use crate::members::{Cluster, channel, eventually};
use crate::ops::{self, Ask, Op};
use crate::truth::Truth;
use crate::watchers::{Targets, Wants, Watcher};

/// Clients at work at the same time.
const CLIENTS: usize = 6;
/// A client gives up after this; what it asked may still happen.
const CLIENT_PATIENCE: Duration = Duration::from_secs(3);
/// Between two requests of a client.
const REST: Duration = Duration::from_millis(4);

/// What was done; so that silence is not mistaken for success.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    pub(crate) revisions: i64,
    pub(crate) resumed: u64,
    pub(crate) bookmarks: u64,
    pub(crate) checks: u64,
}

/// What clients share.
#[derive(Debug)]
struct Desk {
    began: Instant,
    targets: Targets,
    /// No more requests.
    over: AtomicBool,
    /// The newest revision that an answer named.
    newest: AtomicI64,
    /// Up to here all watchers have seen everything.
    floor: AtomicI64,
    acknowledged: AtomicU64,
    ops: Mutex<Vec<Op>>,
}

/// A cluster under load.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) cluster: Cluster,
    pub(crate) random: Random,
    pub(crate) counts: Counts,
    desk: Arc<Desk>,
    watchers: Vec<Watcher>,
    watchers_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    truth: Truth,
    /// Writes of which nobody knows whether they will happen.
    open: Vec<Op>,
}

/// Threads for clients and watchers.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap()
}

impl Run {
    /// Watchers begin at once, clients with [`load`](Self::load).
    pub(crate) fn new(cluster: Cluster, seed: u64) -> Run {
        let targets: Targets = Arc::new(RwLock::new(Vec::new()));
        let desk = Desk {
            began: Instant::now(),
            targets: Arc::clone(&targets),
            over: AtomicBool::new(true),
            newest: AtomicI64::new(1),
            floor: AtomicI64::new(1),
            acknowledged: AtomicU64::new(0),
            ops: Mutex::default(),
        };
        let mut run = Run {
            cluster,
            random: Random::new(seed),
            counts: Counts::default(),
            desk: Arc::new(desk),
            watchers: Vec::new(),
            watchers_over: Arc::default(),
            clients: Vec::new(),
            truth: Truth::new(),
            open: Vec::new(),
        };
        run.aim();
        let some = Wants { key: ops::key(3), range_end: ops::key(8), filter: None };
        let wants = [
            Wants::all(),
            Wants::all(),
            Wants::all(),
            Wants { filter: Some(FilterType::Nodelete), ..some.clone() },
            some,
            Wants { key: ops::key(1), ..Wants::default() },
            Wants { filter: Some(FilterType::Noput), ..Wants::all() },
        ];
        for (home, wants) in wants.into_iter().enumerate() {
            run.watchers.push(Watcher::start(wants, home, targets.clone(), run.watchers_over.clone()));
        }
        run
    }

    /// Clients and watchers use the members that there are now.
    pub(crate) fn aim(&self) {
        let members = self.cluster.members.iter();
        *self.desk.targets.write().unwrap() =
            members.map(|member| (member.name.clone(), member.url())).collect();
    }

    /// Clients begin to work.
    pub(crate) fn load(&mut self) {
        self.desk.over.store(false, SeqCst);
        for client in 0..CLIENTS {
            let random = Random::new(self.random.next());
            self.clients.push(tokio::spawn(work(Arc::clone(&self.desk), client, random)));
        }
    }

    /// Requests answered with success so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.desk.acknowledged.load(SeqCst)
    }

    /// Waits for so many more answers, or some time; then tells how far compactions may go.
    pub(crate) async fn go_on(&self, answers: u64, at_most: Duration) {
        let (start, before) = (Instant::now(), self.acknowledged());
        while self.acknowledged() - before < answers && start.elapsed() < at_most {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let seen = self.watchers.iter().map(|watcher| watcher.log.lock().unwrap().next).min();
        self.desk.floor.store(seen.unwrap_or(1), SeqCst);
        self.look();
    }

    /// Ends at once if a watcher has found something.
    fn look(&self) {
        for watcher in &self.watchers {
            if let Some(violation) = watcher.log.lock().unwrap().violation.clone() {
                self.fail(&violation);
            }
        }
    }

    /// Clients stop, everything is healed, every member takes a put, all have one content, watchers arrive: and then all that
    /// anybody was told is checked.
    pub(crate) async fn settle(&mut self) {
        self.desk.over.store(true, SeqCst);
        for client in self.clients.drain(..) {
            client.await.unwrap();
        }
        tokio::task::block_in_place(|| self.cluster.heal());
        self.aim();
        let newest = self.cluster.agree().await;
        eventually("watchers arrive", async || {
            self.look();
            let next: Vec<i64> =
                self.watchers.iter().map(|watcher| watcher.log.lock().unwrap().next).collect();
            if next.iter().all(|next| *next > newest) { Ok(()) } else { Err(format!("{next:?} of {newest}")) }
        })
        .await;
        if let Err(why) = self.check(newest) {
            self.fail(&why);
        }
    }

    fn check(&mut self, newest: i64) -> Result<(), String> {
        for (revision, events) in self.watchers[0].take(newest) {
            self.truth.extend(revision, &events)?;
        }
        if self.truth.latest() != newest {
            return Err(format!("the newest revision is {newest}, changes end at {}", self.truth.latest()));
        }
        self.watchers[1..].iter().try_for_each(|watcher| watcher.compare(&self.truth))?;
        let mut ops = std::mem::take(&mut self.open);
        ops.append(&mut self.desk.ops.lock().unwrap());
        self.counts.unknown += ops.iter().filter(|op| op.told.is_none()).count() as u64;
        self.open = check::check(ops, &self.truth)?;
        self.counts.unknown -= self.open.len() as u64;
        self.truth.forget();
        self.counts.checks += 1;
        self.counts.acknowledged = self.acknowledged();
        self.counts.revisions = newest;
        let logs = || self.watchers.iter().map(|watcher| watcher.log.lock().unwrap());
        self.counts.resumed = logs().map(|log| log.resumed).sum();
        self.counts.bookmarks = logs().map(|log| log.bookmarks).sum();
        Ok(())
    }

    /// Ends the test with what every member said last.
    fn fail(&self, why: &str) -> ! {
        for member in &self.cluster.members {
            let log = member.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- {} ({}), its last lines:", member.name, member.url());
            println!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        panic!("{why}");
    }

    /// Clients and watchers end.
    pub(crate) fn end(self) -> Cluster {
        self.desk.over.store(true, SeqCst);
        self.watchers_over.store(true, SeqCst);
        self.cluster
    }
}

/// One client, at one member after another.
async fn work(desk: Arc<Desk>, client: usize, mut random: Random) {
    let mut at = client;
    let mut here = None;
    while !desk.over.load(SeqCst) {
        let (member, channel) = here.get_or_insert_with(|| {
            let targets = desk.targets.read().unwrap();
            let (name, url) = &targets[at % targets.len()];
            (name.clone(), channel(url))
        });
        let (floor, newest) = (desk.floor.load(SeqCst), desk.newest.load(SeqCst));
        let ask = Ask::draw(&mut random, client, floor, newest);
        let asked = desk.began.elapsed();
        let answer = timeout(CLIENT_PATIENCE, ask.send(channel.clone())).await;
        let ended = desk.began.elapsed();
        let told = answer.ok().and_then(Result::ok);
        match &told {
            Some((revision, _)) => {
                desk.newest.fetch_max(*revision, SeqCst);
                desk.acknowledged.fetch_add(1, SeqCst);
            }
            None => tokio::time::sleep(REST).await,
        }
        let member = member.clone();
        if told.is_none() || random.one_in(60) {
            (at, here) = (at + 1, None);
        }
        desk.ops.lock().unwrap().push(Op { client, member, ask, asked, ended, told });
        tokio::time::sleep(REST).await;
    }
}
