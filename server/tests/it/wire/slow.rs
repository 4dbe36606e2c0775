//! `--warning-unary-request-duration`, `--warning-apply-duration`: what the log says of requests that took longer, field by field.

use ketch_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use ketch_proto::etcdserverpb::request_op::Request as Op;
use ketch_proto::etcdserverpb::*;

use crate::harness::http::request as http;

use super::request::{Asker, Request};
use super::{Pair, runtime};

/// The key of the last request.
const END: &str = "the end";

fn put(key: &'static [u8], value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn read(key: &'static [u8]) -> RangeRequest {
    RangeRequest { key: key.into(), ..Default::default() }
}

fn compare(target: CompareTarget, union: TargetUnion) -> Compare {
    let (result, target) = (CompareResult::NotEqual as i32, target as i32);
    Compare {
        result,
        target,
        key: b"a\x01".as_slice().into(),
        range_end: "b".into(),
        target_union: Some(union),
    }
}

fn requests() -> Vec<Request> {
    let op = |request| RequestOp { request: Some(request) };
    let delete = DeleteRangeRequest { key: "a".into(), range_end: "b".into(), prev_kv: true };
    let inner = TxnRequest { success: vec![op(Op::RequestPut(put(b"in", "secret")))], ..Default::default() };
    let txn = TxnRequest {
        compare: vec![
            compare(CompareTarget::Value, TargetUnion::Value("secret".into())),
            compare(CompareTarget::Version, TargetUnion::Version(0)),
            compare(CompareTarget::Create, TargetUnion::CreateRevision(3)),
            compare(CompareTarget::Mod, TargetUnion::ModRevision(4)),
            compare(CompareTarget::Lease, TargetUnion::Lease(5)),
        ],
        success: vec![op(Op::RequestPut(put(b"x", "secret"))), op(Op::RequestRange(read(b"a")))],
        failure: vec![
            op(Op::RequestTxn(inner)),
            op(Op::RequestDeleteRange(delete.clone())),
            op(Op::RequestRange(RangeRequest { range_end: "z".into(), ..read(b"a") })),
        ],
    };
    vec![
        Request::Put(put(b"a\0\n\r\t\"\\\xff\x7f\xc3\xa4", "secret")),
        Request::Put(PutRequest { prev_kv: true, ignore_value: true, ..put(b"none", "") }),
        Request::Range(read(b"a\0\n\r\t\"\\\xff\x7f\xc3\xa4\xc2\x85\x01")),
        Request::Range(read(b"")),
        Request::Range(RangeRequest {
            range_end: "z".into(),
            limit: 7,
            revision: 1,
            sort_order: 2,
            sort_target: 3,
            serializable: true,
            keys_only: true,
            min_mod_revision: 1,
            max_mod_revision: 9,
            min_create_revision: 2,
            max_create_revision: 8,
            ..read(b"a")
        }),
        Request::Range(RangeRequest { range_end: "z".into(), count_only: true, ..read(b"a") }),
        Request::Range(RangeRequest { revision: 99, ..read(b"a") }),
        Request::Range(RangeRequest { sort_order: 77, ..read(b"a") }),
        Request::Txn(txn.clone()),
        Request::Txn(TxnRequest { compare: Vec::new(), ..txn }),
        Request::Txn(TxnRequest {
            success: vec![op(Op::RequestPut(put(b"", "secret")))],
            ..Default::default()
        }),
        Request::Txn(TxnRequest { success: vec![op(Op::RequestRange(read(b"a")))], ..Default::default() }),
        Request::Delete(delete),
        Request::Compact(CompactionRequest { revision: 2, physical: false }),
        Request::Status(StatusRequest::default()),
        Request::MemberList(MemberListRequest::default()),
        Request::Alarm(AlarmRequest::default()),
        Request::Defragment(DefragmentRequest::default()),
        Request::Range(read(END.as_bytes())),
    ]
}

/// A line with the values of `fields` masked: they differ from server to server. Go puts one blank or two between fields, by chance.
fn masked(line: &str, fields: &[&str]) -> String {
    let mut line = line.replace("  ", " ");
    for field in fields {
        let name = format!("\"{field}\":\"");
        let (before, rest) = line.split_once(&name).unwrap_or_else(|| panic!("no {field} in {line}"));
        let (value, after) = rest.split_once('"').unwrap();
        match *field {
            "ts" | "start time" => assert!(value.len() == 27 && value.ends_with('Z'), "{field}: {value}"),
            "time spent" | "took" => assert!(value.ends_with("µs") || value.ends_with("ms"), "{value}"),
            "remote" => assert!(value.starts_with("127.0.0.1:"), "{value}"),
            _ => {}
        }
        line = format!("{before}{name}…\"{after}");
    }
    line
}

#[test]
fn slow_requests_are_told_of_alike() {
    let flags = ["--warning-unary-request-duration=1ns"];
    let Some(pair) = Pair::start_with("slow_requests_are_told_of_alike", &flags) else { return };
    runtime().block_on(async {
        for mut server in pair.channels().await.map(Asker::new) {
            for request in requests() {
                server.ask(request).await;
            }
        }
    });
    let [expected, found] = pair.processes.each_ref().map(|process| {
        assert!(process.await_line(&format!("key:\\\"{END}\\\"")), "{}", process.log());
        let log = process.log();
        let lines = log.lines().filter(|line| line.contains("\"msg\":\"request stats\""));
        let fields = ["ts", "caller", "start time", "time spent", "remote"];
        lines.map(|line| masked(line, &fields)).collect::<Vec<_>>()
    });
    assert_eq!(expected.len(), requests().len());
    assert!(found.iter().all(|line| !line.contains("secret")), "{found:?}");
    assert_eq!(found.join("\n"), expected.join("\n"), "ketch is left, etcd right");
}

/// What only applying tells of.
fn commands() -> Vec<Request> {
    let raise = AlarmRequest { action: 1, member_id: 0, alarm: 1 };
    let lower = AlarmRequest { action: 2, ..raise };
    let delete = DeleteRangeRequest { key: "a\u{85}".into(), range_end: "b".into(), prev_kv: true };
    vec![
        Request::Put(PutRequest { lease: 77, ..put(b"leased", "secret") }),
        Request::Put(PutRequest { prev_kv: true, ..put(b"a\x01", "secret") }),
        Request::Put(PutRequest { prev_kv: true, ..put(b"a\x01", "secrets") }),
        Request::Compact(CompactionRequest { revision: 2, physical: true }),
        Request::Compact(CompactionRequest { revision: 99, physical: false }),
        Request::Delete(delete),
        Request::Alarm(raise),
        Request::Put(put(b"refused", "secret")),
        Request::Alarm(AlarmRequest::default()),
        Request::Alarm(lower),
        Request::Downgrade(DowngradeRequest { action: 1, version: "3.6".into() }),
        Request::Downgrade(DowngradeRequest { action: 2, ..Default::default() }),
        Request::Range(RangeRequest { serializable: true, ..read(END.as_bytes()) }),
        Request::Range(read(END.as_bytes())),
    ]
}

/// A line with the numbers masked behind each of `names`.
fn numbers_masked(line: &str, names: &[&str]) -> String {
    let mut line = line.to_owned();
    for name in names {
        let parts: Vec<&str> = line.split(name).collect();
        let masked = parts.iter().skip(1).map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
        line = parts.iter().take(1).copied().chain(masked).collect::<Vec<_>>().join(&format!("{name}…"));
    }
    line
}

#[test]
fn what_is_slow_to_apply_is_told_of_alike() {
    let flags = ["--warning-apply-duration=1ns"];
    let Some(pair) = Pair::start_with("what_is_slow_to_apply_is_told_of_alike", &flags) else { return };
    runtime().block_on(async {
        for mut server in pair.channels().await.map(Asker::new) {
            let last = requests().len() - 1;
            for request in requests().into_iter().take(last).chain(commands()) {
                server.ask(request).await;
            }
        }
    });
    let [expected, found] = pair.processes.each_ref().map(|process| {
        assert!(process.await_line(&format!("key:\\\"{END}\\\"\",")), "{}", process.log());
        let log = process.log();
        let names = ["ID:", "127.0.0.1:"];
        let lines = log.lines().filter(|line| line.contains("apply request"));
        let lines = lines.map(|line| numbers_masked(&masked(line, &["ts", "caller", "took"]), &names));
        lines.collect::<Vec<_>>()
    });
    assert!(expected.len() >= commands().len(), "{expected:?}");
    assert!(found.iter().all(|line| !line.contains("secret")), "{found:?}");
    assert_eq!(found.join("\n"), expected.join("\n"), "ketch is left, etcd right");
    let too_long = found.iter().filter(|line| line.contains("took too long")).count();
    for server in [&pair.etcd, &pair.ketch] {
        let page = http(server.client_port, "GET", "/metrics").1;
        let counted = format!("etcd_server_slow_apply_total {too_long}");
        assert!(page.lines().any(|line| line == counted), "no {counted} in {page}");
    }
}
