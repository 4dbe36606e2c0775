//! Clients that take nothing of what they asked for: what that costs the server, and whether others notice. And that those who go
//! away leave nothing behind.

use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::tonic::transport::{Channel, Endpoint};

use crate::harness::http;
use crate::harness::process::{Instance, Process};
use crate::harness::programs;
use crate::harness::raw::{RawClient, Unread};
use crate::harness::watch::{WatchStream, create};

/// Patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of one large value, and how many there are.
const VALUE: usize = 256 << 10;
const VALUES: usize = 256;

/// Clients that ask for all of them, together eight times as much as the server may take.
const CLIENTS: usize = 8;
/// What the server may take for them: far from a copy of what even one of them asked for.
const GROWTH_MAX: usize = 24 << 20;

fn put(key: String, bytes: usize) -> PutRequest {
    PutRequest { key: key.into(), value: vec![b'v'; bytes].into(), ..Default::default() }
}

fn everything() -> RangeRequest {
    RangeRequest { key: "large/".into(), range_end: "large0".into(), ..Default::default() }
}

async fn connect(server: &Instance) -> Channel {
    Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap()
}

/// Bytes of memory that belong to no file.
fn anonymous(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// A gauge of the metrics page.
fn gauge(server: &Instance, name: &str) -> u64 {
    let (_, page) = http::request(server.client_port, "GET", "/metrics");
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap()
}

fn ketch(dir: &tempfile::TempDir) -> Instance {
    let mut server = Instance::new(programs::ketch(), dir.path().join("data"));
    server.flags = vec!["--unsafe-no-fsync".to_owned()];
    server
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn fill(kv: &mut KvClient<Channel>) {
    for number in 0..VALUES {
        kv.put(put(format!("large/{number:03}"), VALUE)).await.unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn answers_that_nobody_takes_cost_no_memory() {
    if !programs::is_ketch() {
        return; // etcd holds each answer as a whole, twice.
    }
    let dir = tempfile::tempdir().unwrap();
    let server = ketch(&dir);
    let process = server.start();
    runtime().block_on(async {
        let mut kv = KvClient::new(connect(&server).await);
        fill(&mut kv).await;
        // What a first answer leaves behind for the next ones does not count.
        let mut client = RawClient::connect(server.client_port).await;
        client.call("etcdserverpb.KV/Range", &everything(), None).await;
        let before = anonymous(&process);
        let mut unread: Vec<Unread> = Vec::new();
        for number in 0..CLIENTS {
            let mut client = RawClient::connect(server.client_port).await;
            let path = ["etcdserverpb.KV/Range", "etcdserverpb.KV/RangeStream"][number % 2];
            unread.push(client.begin(path, &everything()).await);
        }
        let growth = anonymous(&process).saturating_sub(before);
        println!("{CLIENTS} answers of {} MiB: {} KiB", (VALUE * VALUES) >> 20, growth >> 10);
        assert!(growth < GROWTH_MAX, "{growth} bytes");
        // And they are whole, whenever they are taken, whatever became of the keys.
        let all =
            DeleteRangeRequest { key: "large/".into(), range_end: "large0".into(), ..Default::default() };
        let deleted = kv.delete_range(all).await.unwrap().into_inner();
        let revision = deleted.header.unwrap().revision;
        kv.compact(CompactionRequest { revision, physical: false }).await.unwrap();
        for unread in unread {
            let bytes = unread.read().await;
            assert!(bytes > VALUE * VALUES, "{bytes}");
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn watchers_that_take_nothing_cost_no_memory_and_delay_nobody() {
    if !programs::is_ketch() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = ketch(&dir);
    let process = server.start();
    runtime().block_on(async {
        let watch = || {
            create(WatchCreateRequest {
                key: "large/".into(),
                range_end: "large0".into(),
                ..Default::default()
            })
        };
        let mut slow = Vec::new();
        for _ in 0..CLIENTS {
            // Connections of their own: they share no window.
            slow.push(WatchStream::open(connect(&server).await, watch()).await.unwrap());
        }
        let mut quick = WatchStream::open(connect(&server).await, watch()).await.unwrap();
        let mut kv = KvClient::new(connect(&server).await);
        let before = anonymous(&process);
        for number in 0..VALUES {
            let revision = kv
                .put(put(format!("large/{number:03}"), VALUE))
                .await
                .unwrap()
                .into_inner()
                .header
                .unwrap()
                .revision;
            // It has every event before the next one is written.
            quick.until("event", 0, |response| holds(response, revision)).await;
            quick.log.clear();
        }
        let growth = anonymous(&process).saturating_sub(before);
        println!("{CLIENTS} watchers of {} MiB: {} KiB", (VALUE * VALUES) >> 20, growth >> 10);
        assert!(growth < 2 * GROWTH_MAX, "{growth} bytes");
        // What they did not take is still there for them, in order.
        for mut stream in slow {
            for revision in 2..i64::try_from(VALUES).unwrap() + 2 {
                let at = stream.until("late event", 0, |response| holds(response, revision)).await;
                let response = &stream.log[at];
                let last = response.events.last().unwrap().kv.as_ref().unwrap().mod_revision;
                if last == revision {
                    stream.log.drain(..=at);
                }
            }
        }
        gone(&server).await;
    });
}

fn holds(response: &WatchResponse, revision: i64) -> bool {
    response.events.iter().any(|event| event.kv.as_ref().unwrap().mod_revision == revision)
}

/// Waits until all watches but that of the caller are gone.
async fn gone(server: &Instance) {
    let started = Instant::now();
    while gauge(server, "etcd_debugging_mvcc_watcher_total") > 1 {
        assert!(started.elapsed() < PATIENCE, "watches of clients that are gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn thousands_of_streams_get_one_event_and_leave() {
    const CONNECTIONS: usize = 20;
    const STREAMS: usize = 100;
    if !programs::is_ketch() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = ketch(&dir);
    let _process = server.start();
    runtime().block_on(async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let channel = connect(&server).await;
            for _ in 0..STREAMS {
                let request = create(WatchCreateRequest { key: "one".into(), ..Default::default() });
                streams.push(WatchStream::open(channel.clone(), request).await.unwrap());
            }
        }
        for stream in &mut streams {
            stream.until("created", 0, |response| response.created).await;
        }
        let names = ["etcd_debugging_mvcc_watch_stream_total", "etcd_debugging_mvcc_watcher_total"];
        for name in names {
            assert_eq!(gauge(&server, name), (CONNECTIONS * STREAMS) as u64, "{name}");
        }
        let mut kv = KvClient::new(connect(&server).await);
        let put = kv.put(put("one".to_owned(), 1)).await.unwrap().into_inner();
        let revision = put.header.unwrap().revision;
        for stream in &mut streams {
            stream.until("event", 0, |response| holds(response, revision)).await;
        }
        drop(streams);
        gone(&server).await;
    });
}
