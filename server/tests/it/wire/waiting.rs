//! Requests that have to wait: their deadline passes, their client goes away, too many of them come, the server ends.

use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::tonic::transport::Channel;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::harness::http;
use crate::harness::process::Instance;
use crate::harness::programs;
use crate::harness::raw::{End, RawClient};
use crate::harness::watch::create;

use super::{Pair, runtime};

const PUT: &str = "etcdserverpb.KV/Put";
const RANGE: &str = "etcdserverpb.KV/Range";
const WATCH: &str = "etcdserverpb.Watch/Watch";

/// Keys that a transaction is made to look at, again and again.
const KEYS: usize = 20_000;
const KEYS_PER_TXN: usize = 100;
/// Comparisons of one transaction at most.
const COMPARES_MAX: u32 = 128;
/// How long one of the transactions that hold up a server is to take, about.
const HELD_UP: Duration = Duration::from_secs(2);
/// How many of them are sent.
const BLOCKERS: usize = 20;
/// Patience with a busy machine. Nothing that works comes near it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Puts that are sent at once, until some are refused: 5000 may be committed and not applied.
const FLOOD: usize = 2000;
/// A server that is held up refuses some of so many floods, however long they take.
const FLOODS: usize = 10;
const A_MOMENT: Duration = Duration::from_millis(300);
/// How often a busy machine may be too slow with a flood.
const ATTEMPTS: usize = 10;

fn put() -> PutRequest {
    PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() }
}

fn range() -> RangeRequest {
    RangeRequest { key: "k".into(), ..RangeRequest::default() }
}

fn watch() -> WatchRequest {
    create(WatchCreateRequest { key: "k".into(), ..WatchCreateRequest::default() })
}

fn status(code: &str, message: &str) -> End {
    End::Status { code: code.to_owned(), message: message.to_owned(), bytes: 0 }
}

#[test]
fn a_deadline_that_is_over_on_arrival_is_told() {
    let Some(pair) = Pair::start("a_deadline_that_is_over_on_arrival_is_told") else { return };
    runtime().block_on(async {
        for server in [&pair.etcd, &pair.ketch] {
            let mut client = RawClient::connect(server.client_port).await;
            let over = status("4", "context deadline exceeded");
            for deadline in ["0n", "1n"].map(Some) {
                assert_eq!(client.call(PUT, &put(), deadline).await, over);
                assert_eq!(client.call(RANGE, &range(), deadline).await, over);
                let serializable = RangeRequest { serializable: true, ..range() };
                assert_eq!(client.call(RANGE, &serializable, deadline).await, over);
                assert_eq!(client.call("etcdserverpb.KV/RangeStream", &range(), deadline).await, over);
                assert_eq!(client.call(WATCH, &watch(), deadline).await, over);
            }
            let mut kv = KvClient::new(connect(server).await);
            assert_eq!(kv.range(range()).await.unwrap().into_inner().count, 0, "nothing was put");
        }
    });
}

async fn connect(server: &Instance) -> Channel {
    Channel::from_shared(server.url()).unwrap().connect().await.unwrap()
}

type Call = JoinHandle<End>;

/// A server whose applier has a lot to do.
struct Busy {
    kv: KvClient<Channel>,
    client: RawClient,
    port: u16,
    /// Comparisons of one of the transactions that hold it up.
    compares: u32,
}

impl Busy {
    async fn start(server: &Instance) -> Busy {
        let mut kv = KvClient::new(connect(server).await);
        for first in (0..KEYS).step_by(KEYS_PER_TXN) {
            let put = |number: usize| PutRequest { key: format!("many/{number}").into(), ..put() };
            let puts = (first..first + KEYS_PER_TXN).map(put);
            let success =
                puts.map(|put| RequestOp { request: Some(request_op::Request::RequestPut(put)) }).collect();
            kv.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap();
        }
        let started = Instant::now();
        kv.txn(blocker(1)).await.unwrap();
        let compares = HELD_UP.as_secs_f64() / started.elapsed().as_secs_f64();
        let compares = (compares as u32).clamp(1, COMPARES_MAX);
        let client = RawClient::connect(server.client_port).await;
        let busy = Busy { kv, client, port: server.client_port, compares };
        busy.hold_up().await;
        busy
    }
}

/// A write that looks at all keys this often before.
fn blocker(compares: u32) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::NotEqual as i32,
        target: CompareTarget::Value as i32,
        key: "many/".into(),
        range_end: "many0".into(),
        target_union: Some(TargetUnion::Value("another".into())),
    };
    let write = RequestOp { request: Some(request_op::Request::RequestPut(put())) };
    TxnRequest { compare: vec![compare; compares as usize], success: vec![write], failure: Vec::new() }
}

impl Busy {
    /// Gives the applier a lot to do, or more of it, and returns when others wait for it.
    async fn hold_up(&self) {
        for _ in 0..BLOCKERS {
            let (mut kv, blocker) = (self.kv.clone(), blocker(self.compares));
            tokio::spawn(async move { drop(kv.txn(blocker).await) });
        }
        // They may be on their way still.
        let mut client = self.client.clone();
        while matches!(client.call(PUT, &put(), Some("100m")).await, End::Status { code, .. } if code == "0")
        {
        }
    }

    fn spawn(
        &self,
        path: &'static str,
        message: impl Message + 'static,
        deadline: Option<&'static str>,
    ) -> Call {
        let mut client = self.client.clone();
        tokio::spawn(async move { client.call(path, &message, deadline).await })
    }

    /// How many calls of a method were canceled so far, as the server counts.
    fn canceled(&self, method: &str) -> u64 {
        let (_, page) = http::request(self.port, "GET", "/metrics");
        let wanted = format!("grpc_server_handled_total{{grpc_code=\"Canceled\",grpc_method=\"{method}\"");
        let line = page.lines().find(|line| line.starts_with(&wanted));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0, |count| count.parse().unwrap())
    }
}

/// A client goes away from a call that waits. What it would be told shows only in what the server counts.
async fn go_away<M: Message + Clone + 'static>(busy: &Busy, path: &'static str, message: M) {
    let (_, method) = path.split_once('/').unwrap();
    let before = busy.canceled(method);
    let call = busy.spawn(path, message, None);
    // It must have arrived: what comes behind it on the same connection has.
    let other = busy.spawn(RANGE, RangeRequest { serializable: true, ..range() }, None);
    assert!(matches!(other.await.unwrap(), End::Status { .. }));
    call.abort();
    let started = Instant::now();
    while busy.canceled(method) == before {
        assert!(started.elapsed() < PATIENCE, "{path} is not counted as canceled");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// So many puts that some are refused, and how.
async fn too_many(busy: &Busy) -> End {
    for _ in 0..ATTEMPTS {
        match flood(busy).await {
            // The applier was through before enough of them had come.
            End::Status { code, .. } if code == "0" => busy.hold_up().await,
            end => return end,
        }
    }
    panic!("the applier at port {} is never held up for long enough", busy.port)
}

/// So many puts that some end for another reason than that they waited for too long, and how.
async fn flood(busy: &Busy) -> End {
    // On a connection of its own: to leave so many calls at once breaks it.
    let connection = RawClient::connect(busy.port).await;
    let (ends, mut ended) = mpsc::unbounded_channel();
    let mut puts = JoinSet::new();
    let (started, mut floods) = (Instant::now(), 0);
    // A busy machine may need long for each: then time alone says nothing.
    while floods < FLOODS || started.elapsed() < PATIENCE {
        floods += 1;
        for _ in 0..FLOOD {
            let (mut client, ends) = (connection.clone(), ends.clone());
            puts.spawn(async move {
                let end = client.call(PUT, &put(), None).await;
                let _nobody_waits_any_more = ends.send(end);
            });
        }
        // The others wait for the applier, some of them for too long.
        while let Ok(Some(end)) = timeout(A_MOMENT, ended.recv()).await {
            if end != status("14", "etcdserver: request timed out") {
                return end;
            }
        }
    }
    panic!("never too many at port {}", busy.port)
}

/// Everything that may happen to a request that waits; `resets` is what etcd does at a deadline.
async fn wait_in_vain(server: &Instance, resets: bool) {
    let busy = Busy::start(server).await;
    let waits = busy.spawn(PUT, put(), None);
    go_away(&busy, PUT, put()).await;
    go_away(&busy, WATCH, watch()).await;
    // Whether etcd resets the stream or says something is a matter of microseconds.
    let late = [busy.spawn(PUT, put(), Some("100m")), busy.spawn(RANGE, range(), Some("100m"))];
    for late in late {
        match late.await.unwrap() {
            End::Broken(why) if resets => assert!(why.contains("stream no longer needed"), "{why}"),
            End::Status { code, message, .. } if resets && code == "14" => {
                assert_eq!(message, "etcdserver: request timed out");
            }
            end => assert_eq!(end, status("4", "context deadline exceeded")),
        }
    }
    assert_eq!(waits.await.unwrap(), status("14", "etcdserver: request timed out"));
    assert_eq!(too_many(&busy).await, status("2", "etcdserver: too many requests"));
}

#[test]
fn requests_that_wait_in_vain_are_told() {
    let Some(pair) = Pair::start_with("requests_that_wait_in_vain_are_told", &["--unsafe-no-fsync"]) else {
        return;
    };
    threads().block_on(async {
        tokio::join!(wait_in_vain(&pair.etcd, true), wait_in_vain(&pair.ketch, !programs::is_ketch()));
    });
}

/// etcd gives the open requests a few seconds and then breaks their connection; ketch tells them after a moment.
#[test]
fn requests_that_wait_when_the_server_ends_are_told() {
    let Some(pair) = Pair::start("requests_that_wait_when_the_server_ends_are_told") else { return };
    threads().block_on(async {
        for (server, process, tells) in
            [(&pair.etcd, &pair.processes[0], false), (&pair.ketch, &pair.processes[1], programs::is_ketch())]
        {
            let busy = Busy::start(server).await;
            let calls = [
                busy.spawn(PUT, put(), None),
                busy.spawn(RANGE, range(), None),
                busy.spawn(WATCH, watch(), None),
            ];
            let other = busy.spawn(RANGE, RangeRequest { serializable: true, ..range() }, None);
            assert!(matches!(other.await.unwrap(), End::Status { .. }), "the others have arrived");
            process.signal("TERM");
            for call in calls {
                match call.await.unwrap() {
                    End::Status { code, message, .. } if tells => {
                        assert_eq!((&*code, &*message), ("14", "etcdserver: server stopped"));
                    }
                    // Its time was over before the server's.
                    End::Status { message, .. } => assert_eq!(message, "etcdserver: request timed out"),
                    End::Broken(why) => assert!(!tells, "{why}"),
                }
            }
        }
    });
}

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
