//! Every error that a client can be told: provoked on both servers where one member without users, leases and
//! peers can be made to say it, and else why not.

use ketch_proto::etcdserverpb::cluster_client::ClusterClient;
use ketch_proto::etcdserverpb::request_op::Request as Op;
use ketch_proto::etcdserverpb::*;
use ketch_proto::rpc_error::RpcError::{self, *};

use crate::harness::process::ADVERTISED_PEER;

use super::request::{Asker, Request};
use super::{Pair, runtime};

/// The id of each server: those of the first member at these addresses.
const MEMBER: u64 = 0x3118_ecc2_cffe_696a;

/// How an error comes about.
enum Way {
    /// By these requests; the last one is refused.
    Asked(Vec<Request>),
    /// The same, and nothing can be asked afterwards.
    Last(Vec<Request>),
    /// Another test here compares it.
    Elsewhere(&'static str),
    /// Not on one member, or not yet.
    Later(&'static str),
    /// etcd never tells it to anybody, for this reason; what happens instead is compared by a test.
    Untold(&'static str, &'static str),
    /// Told in other cases than etcd's, which a test shows.
    Differs(&'static str, &'static str),
}

use Way::{Asked, Differs, Elsewhere, Last, Later, Untold};

fn put(request: PutRequest) -> Request {
    Request::Put(PutRequest { key: "k".into(), ..request })
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn txn(success: Vec<RequestOp>) -> Request {
    Request::Txn(TxnRequest { success, ..Default::default() })
}

fn put_op() -> RequestOp {
    op(Op::RequestPut(PutRequest { key: "k".into(), ..Default::default() }))
}

fn range(request: RangeRequest) -> Request {
    Request::Range(RangeRequest { key: "k".into(), ..request })
}

fn alarm(action: i32, alarm: i32) -> Request {
    Request::Alarm(AlarmRequest { action, member_id: 7, alarm })
}

fn add(url: &str, is_learner: bool) -> Request {
    Request::MemberAdd(MemberAddRequest { peer_urls: vec![url.to_owned()], is_learner })
}

fn downgrade(action: i32, version: &str) -> Request {
    Request::Downgrade(DowngradeRequest { action, version: version.to_owned() })
}

fn way(error: RpcError) -> Way {
    match error {
        EmptyKey => Asked(vec![Request::Put(PutRequest::default())]),
        KeyNotFound => Asked(vec![put(PutRequest { ignore_value: true, ..Default::default() })]),
        ValueProvided => {
            Asked(vec![put(PutRequest { value: "v".into(), ignore_value: true, ..Default::default() })])
        }
        LeaseProvided => Asked(vec![put(PutRequest { lease: 1, ignore_lease: true, ..Default::default() })]),
        TooManyOps => Asked(vec![txn(vec![put_op(); 129])]),
        DuplicateKey => Asked(vec![txn(vec![put_op(), put_op()])]),
        InvalidSortOption => Asked(vec![range(RangeRequest { sort_order: 9, ..Default::default() })]),
        Compacted => Asked(vec![
            put(PutRequest::default()),
            put(PutRequest::default()),
            Request::Compact(CompactionRequest { revision: 3, physical: false }),
            range(RangeRequest { revision: 2, ..Default::default() }),
        ]),
        FutureRev => Asked(vec![range(RangeRequest { revision: 1 << 40, ..Default::default() })]),
        NoSpace => Asked(vec![alarm(1, 1), put(PutRequest::default())]),
        Corrupt => Asked(vec![alarm(1, 2), put(PutRequest::default())]),
        LeaseNotFound => Asked(vec![put(PutRequest { lease: 99, ..Default::default() })]),
        RequestTooLarge => {
            Asked(vec![put(PutRequest { value: vec![b'x'; 3 << 19].into(), ..Default::default() })])
        }
        WrongDowngradeVersionFormat => Asked(vec![downgrade(0, "wat")]),
        InvalidDowngradeTargetVersion => Asked(vec![downgrade(0, "3.5.0")]),
        DowngradeInProcess | NoInflightDowngrade | BadLeaderTransferee => Elsewhere("wire::maintenance"),
        InvalidClientAPIVersion => Elsewhere("wire::maintenance"),
        RequestTooManyRequests | TimedOut => Elsewhere("wire::waiting"),
        ServerStopped => Untold(
            "wire::waiting",
            "etcd breaks the connections of those who wait when it ends; ketch tells them",
        ),
        WatchCanceled | RequestCanceled => {
            Untold("wire::waiting", "the client has reset the call: it shows in the metrics alone")
        }
        DeadlineExceeded => Untold("wire::waiting", "what is told is gRPC's own text, without the prefix"),
        TimeoutWaitAppliedIndex => Later("leases: nothing else waits for the applied index with a limit"),
        LeaseExist | LeaseTTLTooLarge => Later("leases"),
        NoLeader
        | NotLeader
        | Unhealthy
        | TimeoutDueToLeaderFail
        | TimeoutDueToConnectionLost
        | NotSupportedForLearner => Elsewhere("cluster::errors"),
        LeaderChanged => Differs(
            "cluster::errors",
            "etcd tells it to readers who wait while the leader changes; ketch asks the next leader for them, and tells it to \
             writers during a hand-over",
        ),
        NotCapable | ClusterVersionUnavailable => {
            Later("only while a cluster has no version: it has one before it serves clients")
        }
        PeerURLExist => Asked(vec![add(ADVERTISED_PEER, false)]),
        MemberBadURLs => Asked(vec![add("127.0.0.1:1", false)]),
        MemberNotFound => Asked(vec![Request::MemberRemove(MemberRemoveRequest { id: 1 })]),
        MemberNotLearner => Asked(vec![Request::MemberPromote(MemberPromoteRequest { id: MEMBER })]),
        TooManyLearners => Asked(vec![add("http://127.0.0.1:1", true), add("http://127.0.0.1:2", true)]),
        LearnerNotReady => Elsewhere("wire::errors::a_learner_that_never_started_is_not_promoted"),
        // The second voter never starts, and nothing can be written any more.
        MemberNotEnoughStarted => {
            Last(vec![add("http://127.0.0.1:3", false), add("http://127.0.0.1:4", false)])
        }
        MemberExist => {
            Later("two members with one id: their URLs and the second of their birth are the same")
        }
        ClusterIDMismatch => Later("said between members"),
        RootUserNotExist | RootRoleNotExist | UserAlreadyExist | UserEmpty | UserNotFound
        | RoleAlreadyExist | RoleNotFound | RoleEmpty | AuthFailed | PermissionNotGiven
        | PermissionDenied | RoleNotGranted | PermissionNotGranted | AuthNotEnabled | InvalidAuthToken
        | InvalidAuthMgmt | AuthOldRevision => Later("users and roles"),
        other => panic!("{other:?} has no row"),
    }
}

/// The errors that are provoked here, and how, in an order in which that is possible.
fn provocations() -> Vec<(RpcError, Vec<Request>)> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for &error in RpcError::ALL {
        match way(error) {
            Asked(requests) => first.push((error, requests)),
            Last(requests) => last.push((error, requests)),
            Elsewhere(_) | Later(_) | Untold(..) | Differs(..) => {}
        }
    }
    first.append(&mut last);
    first
}

#[test]
fn errors_have_equal_codes_and_texts() {
    let count = |matches: fn(&Way) -> bool| RpcError::ALL.iter().filter(|e| matches(&way(**e))).count();
    let asked = count(|way| matches!(way, Asked(_) | Last(_)));
    let later = count(|way| matches!(way, Later(why) if !why.is_empty()));
    let elsewhere = count(|way| matches!(way, Elsewhere(test) if test.contains("::")));
    let untold = count(
        |way| matches!(way, Untold(test, why) | Differs(test, why) if test.contains("::") && !why.is_empty()),
    );
    println!(
        "{asked} provoked here, {elsewhere} in other tests, {untold} never told or elsewhen, {later} later"
    );
    assert_eq!((asked + elsewhere + untold + later, RpcError::ALL.len()), (63, 63));
    let Some(pair) = Pair::start("errors_have_equal_codes_and_texts") else { return };
    runtime().block_on(async {
        let [mut etcd, mut ketch] = pair.channels().await.map(Asker::new);
        for (error, requests) in provocations() {
            let expected = format!("{:?}: {:?}", error.wire_code(), error.message());
            for (name, server) in [("etcd", &mut etcd), ("ketch", &mut ketch)] {
                // What an error needs to be there may be there already.
                let mut last = None;
                for request in requests.clone() {
                    last = Some(server.ask(request).await);
                }
                assert_eq!(last.unwrap().text, expected, "{name}: {error:?}");
                if let NoSpace | Corrupt = error {
                    server.ask(alarm(2, 1 + i32::from(error == Corrupt))).await;
                }
            }
        }
    });
}

#[test]
fn a_learner_that_never_started_is_not_promoted() {
    let Some(pair) = Pair::start("a_learner_that_never_started_is_not_promoted") else { return };
    runtime().block_on(async {
        for channel in pair.channels().await {
            let mut cluster = ClusterClient::new(channel);
            let learner =
                MemberAddRequest { peer_urls: vec!["http://127.0.0.1:1".to_owned()], is_learner: true };
            let id = cluster.member_add(learner).await.unwrap().into_inner().member.unwrap().id;
            let refused = cluster.member_promote(MemberPromoteRequest { id }).await.unwrap_err();
            let expected = (LearnerNotReady.wire_code() as i32, LearnerNotReady.message());
            assert_eq!((refused.code() as i32, refused.message()), expected);
            cluster.member_remove(MemberRemoveRequest { id }).await.unwrap();
        }
    });
}

/// The table of errors of `docs/compat.md`.
fn documented() -> String {
    let mut rows =
        "| error | code | status | note | shown by |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for &error in RpcError::ALL {
        let (status, note, test) = match way(error) {
            Asked(_) | Last(_) => ("done", "", "wire::errors"),
            Elsewhere(test) if error == TimedOut => (
                "done",
                "also, as in etcd, where a member took the command in with a snapshot (`docs/flow/snapshot.md`)",
                test,
            ),
            Elsewhere(test) => ("done", "", test),
            Untold(test, why) => ("done: never told", why, test),
            Differs(test, why) => ("differs", why, test),
            Later(why) => ("not compared", why, ""),
        };
        let test = if test.is_empty() { String::new() } else { format!("`{test}`") };
        let (text, code) = (error.message(), error.wire_code());
        rows.push_str(&format!("| `{text}` | {code:?} | {status} | {note} | {test} |\n"));
    }
    rows
}

#[test]
fn the_document_has_every_error() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compat.md");
    // Not there where this crate was unpacked alone.
    let Ok(document) = std::fs::read_to_string(path) else { return };
    let (_, found) = document.split_once("<!-- errors: begin -->\n").unwrap();
    let (found, _) = found.split_once("<!-- errors: end -->").unwrap();
    let expected = documented();
    assert_eq!(found, expected, "docs/compat.md should hold:\n{expected}");
}
