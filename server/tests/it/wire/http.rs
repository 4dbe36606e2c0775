//! The HTTP side of the client port: same status codes, same bodies, and of the metrics those that count requests.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use ketch_proto::etcdserverpb::*;

use crate::harness::http::request;

use super::request::{Asker, Request};
use super::{Pair, runtime};

/// Method and path.
const REQUESTS: [(&str, &str); 14] = [
    ("GET", "/health"),
    ("GET", "/health?serializable=true"),
    ("GET", "/health?exclude=NOSPACE"),
    ("POST", "/health"),
    ("GET", "/version"),
    ("GET", "/livez"),
    ("GET", "/livez?verbose"),
    ("GET", "/livez/serializable_read"),
    ("GET", "/readyz"),
    ("GET", "/readyz/data_corruption"),
    ("GET", "/readyz/serializable_read"),
    ("GET", "/readyz/linearizable_read"),
    ("GET", "/readyz/non_learner"),
    ("GET", "/nothing/here"),
];

/// Names of metrics that must be there, whatever their values.
const METRICS: [&str; 4] = [
    "etcd_server_has_leader",
    "etcd_server_proposals_committed_total",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_server_version",
];

#[test]
fn http_answers_are_equal() {
    let Some(pair) = Pair::start("http_answers_are_equal") else { return };
    for (method, path) in REQUESTS {
        let expected = request(pair.etcd.client_port, method, path);
        let found = request(pair.ketch.client_port, method, path);
        assert_eq!(found, expected, "{method} {path}: ketch is left, etcd right");
    }
    for server in [&pair.etcd, &pair.ketch] {
        let (code, metrics) = request(server.client_port, "GET", "/metrics");
        assert_eq!(code, 200);
        for name in METRICS {
            assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} is missing:\n{metrics}");
        }
    }
}

/// Codings that a scrape asks for, and whether they are liked.
const CODINGS: [&str; 12] = [
    "",
    "gzip",
    "gzip;q=0",
    "gzip;q=0.5",
    "zstd",
    "deflate, gzip;q=1.0, *;q=0.5",
    "*",
    "identity",
    "GZIP",
    "gzip;q=0.1, identity;q=0.9",
    "gzip, identity",
    "deflate;level=9, gzip",
];

#[test]
fn scrapes_are_compressed_alike() {
    let Some(pair) = Pair::start("scrapes_are_compressed_alike") else { return };
    for coding in CODINGS {
        let [expected, found] = [&pair.etcd, &pair.ketch].map(|server| {
            let (head, body) = scrape(server.client_port, coding);
            let told = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-encoding"));
            let mut page = body.clone();
            if told.is_some() {
                page.clear();
                flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut page).unwrap();
            }
            assert!(page.starts_with(b"# HELP"), "{coding}");
            told.map(str::to_ascii_lowercase)
        });
        assert_eq!(found, expected, "{coding}: ketch is left, etcd right");
    }
}

/// Head and body of a page. HTTP/1.0 has no chunks.
fn scrape(port: u16, coding: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
}

#[test]
fn the_list_for_other_members_is_equal() {
    let Some(pair) = Pair::start("the_list_for_other_members_is_equal") else { return };
    // etcd ends a connection to its peer port seconds after the answer: one request must do.
    let expected = request(pair.etcd.peer_port, "GET", "/members");
    assert_eq!(request(pair.ketch.peer_port, "GET", "/members"), expected, "ketch is left, etcd right");
}

/// Families whose samples count what clients did.
const COUNTS: [&str; 17] = [
    "etcd_server_request_duration_seconds_count{",
    "etcd_server_range_duration_seconds_count{",
    "etcd_server_client_requests_total{",
    "grpc_server_handling_seconds_count{",
    "etcd_server_apply_duration_seconds_count{",
    "etcd_debugging_mvcc_current_revision ",
    "etcd_debugging_mvcc_compact_revision ",
    "etcd_debugging_mvcc_keys_total ",
    "etcd_debugging_mvcc_total_put_size_in_bytes ",
    "etcd_debugging_mvcc_db_compaction_keys_total ",
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count ",
    "etcd_network_known_peers{",
    "etcd_server_feature_enabled{",
    "etcd_server_learner_promote_",
    "etcd_server_snapshot_apply_in_progress_total ",
    "etcd_mvcc_delete_total ",
    "grpc_server_handled_total{",
];

/// Requests of each kind that is applied, some of which are refused on the way and some when they are applied.
fn requests() -> Vec<Request> {
    let put = |key: &str| PutRequest { key: key.to_owned().into(), ..Default::default() };
    let op = |put| RequestOp { request: Some(request_op::Request::RequestPut(put)) };
    let read =
        |key: &str, revision| RangeRequest { key: key.to_owned().into(), revision, ..Default::default() };
    let read_only = |revision| {
        let range = RequestOp { request: Some(request_op::Request::RequestRange(read("c", revision))) };
        Request::Txn(TxnRequest { success: vec![range], ..Default::default() })
    };
    let missing = PutRequest { ignore_value: true, ..put("none") };
    let txn = |put| Request::Txn(TxnRequest { success: vec![op(put)], ..Default::default() });
    let compact = |revision| Request::Compact(CompactionRequest { revision, physical: true });
    let alarm = |action| Request::Alarm(AlarmRequest { action, member_id: 1, alarm: 1 });
    vec![
        Request::Put(put("a")),
        Request::Put(put("b")),
        Request::Put(put("")),
        Request::Put(missing.clone()),
        txn(put("c")),
        txn(missing),
        Request::Delete(DeleteRangeRequest { key: "a".into(), range_end: "c".into(), ..Default::default() }),
        compact(3),
        compact(3),
        compact(1 << 40),
        alarm(1),
        Request::Put(put("full")),
        txn(put("full")),
        alarm(2),
        Request::MemberPromote(MemberPromoteRequest { id: 12 }),
        Request::Range(read("c", 0)),
        Request::Range(read("c", 0)),
        Request::Range(read("c", 1 << 40)),
        Request::Range(read("", 0)),
        Request::Range(RangeRequest { range_end: "d".into(), ..read("a", 0) }),
        read_only(0),
        read_only(1),
        read_only(1 << 40),
    ]
}

#[test]
fn what_was_done_is_counted_alike() {
    let Some(pair) = Pair::start_with("what_was_done_is_counted_alike", &["--metrics=extensive"]) else {
        return;
    };
    runtime().block_on(async {
        for mut server in pair.channels().await.map(Asker::new) {
            for request in requests() {
                server.ask(request).await;
            }
        }
    });
    let [expected, found] = [&pair.etcd, &pair.ketch].map(|server| {
        let (_, page) = request(server.client_port, "GET", "/metrics");
        let counts = page.lines().filter(|line| COUNTS.iter().any(|name| line.starts_with(name)));
        // etcd names every code from the start.
        let mut counts: Vec<String> =
            counts.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect();
        counts.sort();
        counts
    });
    assert_eq!(found.join("\n"), expected.join("\n"), "ketch is left, etcd right");
}
