//! The ready line, and what signals do.

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::{PutRequest, RangeRequest};
use ketch_proto::tonic::transport::{Channel, Endpoint};
use serde_json::Value;

use crate::harness::process::{Instance, READY};
use crate::harness::programs;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn connect(server: &Instance) -> KvClient<Channel> {
    KvClient::new(Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap())
}

async fn put(client: &mut KvClient<Channel>, key: &'static str) -> i64 {
    let put = PutRequest { key: key.into(), value: "value".into(), ..Default::default() };
    client.put(put).await.unwrap().into_inner().header.unwrap().revision
}

async fn get(client: &mut KvClient<Channel>, key: &'static str) -> usize {
    let range = RangeRequest { key: key.into(), ..Default::default() };
    client.range(range).await.unwrap().into_inner().kvs.len()
}

/// Log lines as JSON; none of them tells of a problem.
fn healthy_lines(log: &str) -> Vec<Value> {
    log.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            for field in ["level", "ts", "msg"] {
                assert!(line[field].is_string(), "{field} is missing: {line}");
            }
            let level = line["level"].as_str().unwrap();
            assert!(["debug", "info", "warn"].contains(&level), "{line}");
            line
        })
        .collect()
}

#[test]
fn a_healthy_life_logs_json_and_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("data"));
    let mut process = server.start();
    runtime().block_on(async {
        let mut client = connect(&server).await;
        assert_eq!(put(&mut client, "a").await, 2);
    });
    if programs::is_ketch() {
        // etcd logs an error of its own making when it is asked to end.
        process.signal("TERM");
        process.wait();
    }
    let lines = healthy_lines(&process.log());
    let ready = lines.iter().filter(|line| line["msg"].as_str().unwrap().contains(READY));
    assert_eq!(ready.count(), 1, "one listener, one ready line");
}

#[test]
fn terminate_ends_it_although_clients_are_connected() {
    for signal in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Instance::new(programs::ketch(), dir.path().join("data"));
        let mut process = server.start();
        let runtime = runtime();
        let mut client = runtime.block_on(connect(&server));
        runtime.block_on(put(&mut client, "a"));
        process.signal(signal);
        process.wait();

        // The very same flags again, the bootstrap ones included.
        let _process = server.start();
        runtime.block_on(async {
            let mut client = connect(&server).await;
            assert_eq!(get(&mut client, "a").await, 1);
            assert_eq!(put(&mut client, "b").await, 3);
        });
    }
}

#[test]
fn a_pause_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("data"));
    let process = server.start();
    runtime().block_on(async {
        let mut client = connect(&server).await;
        put(&mut client, "a").await;
        process.signal("STOP");
        let waiting = tokio::spawn({
            let mut client = client.clone();
            async move { put(&mut client, "b").await }
        });
        process.signal("CONT");
        assert_eq!(waiting.await.unwrap(), 3);
        assert_eq!(get(&mut client, "b").await, 1);
    });
}
