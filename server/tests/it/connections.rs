//! What goes on below and beside the requests of a connection: pings, how many streams, compaction by itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};
use ketch_proto::tonic::Code;
use ketch_proto::tonic::transport::Endpoint;

use crate::harness::process::Instance;
use crate::harness::programs;
use crate::harness::watch::{WatchStream, create};

/// How long anything that is awaited may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends `pings` pings on a connection without streams and reads what comes until the server ends it.
fn ping(port: u16, pings: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for _ in 0..pings {
        bytes.extend_from_slice(b"\0\0\x08\x06\0\0\0\0\0pingping");
    }
    stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    // A connection that is torn down ends as well as one that is closed.
    let _ended = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn a_client_that_pings_too_often_is_sent_away() {
    let etcd = programs::real_etcd("a_client_that_pings_too_often_is_sent_away").map(|dir| dir.join("etcd"));
    for program in etcd.into_iter().chain([programs::ketch()]) {
        let dir = tempfile::tempdir().unwrap();
        let server = Instance::new(&program, dir.path().join("data"));
        let _process = server.start();
        let answer = ping(server.client_port, 4);
        let told = answer.windows(14).any(|word| word == b"too_many_pings");
        assert!(told, "{}: {answer:?}", program.display());
    }
}

/// The timer of the server's end of a connection (`proc(5)`, `/proc/net/tcp`): its kind, and when it goes off, in hundredths of a second.
#[cfg(target_os = "linux")]
fn timer(port: u16, client: u16) -> (u8, u64) {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = format!(" 0100007F:{port:04X} 0100007F:{client:04X} 01 ");
    let line = table.lines().find(|line| line.contains(&ends)).unwrap_or_else(|| panic!("{ends}: {table}"));
    let (kind, when) = line.split_whitespace().nth(5).and_then(|timer| timer.split_once(':')).unwrap();
    (u8::from_str_radix(kind, 16).unwrap(), u64::from_str_radix(when, 16).unwrap())
}

#[test]
#[cfg(target_os = "linux")]
fn clients_that_vanish_are_missed() {
    const KEEPALIVE: u8 = 2;
    let etcd = programs::real_etcd("clients_that_vanish_are_missed").map(|dir| dir.join("etcd"));
    for program in etcd.into_iter().chain([programs::ketch()]) {
        let dir = tempfile::tempdir().unwrap();
        let server = Instance::new(&program, dir.path().join("data"));
        let _process = server.start();
        for port in [server.client_port, server.peer_port] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            // An answer: the server has taken the connection in.
            stream.write_all(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
            let (kind, when) = timer(port, stream.local_addr().unwrap().port());
            assert_eq!(kind, KEEPALIVE, "{}", program.display());
            assert!(when <= 3000, "{}: {when}", program.display());
        }
    }
}

/// HTTP/2 frames of what a server sends: type, flags, payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, &[u8])> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, _, _, _, _, rest @ ..] = bytes {
        let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let Some((payload, rest)) = rest.split_at_checked(len) else { break };
        frames.push((*kind, *flags, payload));
        bytes = rest;
    }
    frames
}

#[test]
fn silent_clients_are_pinged_and_then_left() {
    const PING: u8 = 6;
    let etcd = programs::real_etcd("silent_clients_are_pinged_and_then_left").map(|dir| dir.join("etcd"));
    for program in etcd.into_iter().chain([programs::ketch()]) {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Instance::new(&program, dir.path().join("data"));
        server.flags =
            ["--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s"].map(str::to_owned).to_vec();
        let _process = server.start();
        // The client reads and never answers, until the server ends the connection.
        let told = ping(server.client_port, 0);
        let pinged = frames(&told).iter().any(|&(kind, flags, _)| kind == PING && flags == 0);
        assert!(pinged, "{}: {told:?}", program.display());
    }
}

#[test]
fn a_connection_has_so_many_streams() {
    const SETTINGS: u8 = 4;
    const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
    let etcd = programs::real_etcd("a_connection_has_so_many_streams").map(|dir| dir.join("etcd"));
    for program in etcd.into_iter().chain([programs::ketch()]) {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Instance::new(&program, dir.path().join("data"));
        server.flags = vec!["--max-concurrent-streams=3".to_owned()];
        let _process = server.start();
        let told = ping(server.client_port, 4);
        let said = frames(&told).iter().any(|&(kind, _, payload)| {
            kind == SETTINGS
                && payload.chunks(6).any(|one| one[..2] == MAX_CONCURRENT_STREAMS && one[2..] == [0, 0, 0, 3])
        });
        assert!(said, "{}: {told:?}", program.display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(streams_wait_for_each_other(&server));
    }
}

/// Three streams are open; a fourth one begins when one of them ends.
async fn streams_wait_for_each_other(server: &Instance) {
    let channel = Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
    let watch = || {
        let request = WatchCreateRequest { key: "k".into(), ..Default::default() };
        WatchStream::open(channel.clone(), create(request))
    };
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(watch().await.unwrap());
    }
    let mut fourth = Box::pin(watch());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut fourth).await;
    assert!(early.is_err(), "a fourth stream beside three");
    open.pop();
    tokio::time::timeout(PATIENCE, fourth).await.unwrap().unwrap();
}

#[test]
fn the_history_is_compacted_by_itself() {
    let etcd = programs::real_etcd("the_history_is_compacted_by_itself").map(|dir| dir.join("etcd"));
    for program in etcd.into_iter().chain([programs::ketch()]) {
        compacts_by_itself(&program);
    }
}

fn compacts_by_itself(program: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Instance::new(program, dir.path().join("data"));
    server.flags =
        ["--auto-compaction-mode=periodic", "--auto-compaction-retention=1s"].map(str::to_owned).to_vec();
    let _process = server.start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let compacted = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, async {
            let channel = Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
            let mut kv = KvClient::new(channel);
            loop {
                let put = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
                kv.put(put).await.unwrap();
                let first = RangeRequest { key: "k".into(), revision: 2, ..Default::default() };
                match kv.range(first).await {
                    Ok(answer) => assert_eq!(answer.into_inner().kvs[0].mod_revision, 2),
                    Err(status) => break status,
                }
            }
        })
        .await
    });
    let status = compacted.unwrap();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(status.message(), "etcdserver: mvcc: required revision has been compacted");
}
