//! Every error that a client can be told: provoked on both servers where one member without users, leases and
//! peers can be made to say it, and else why not.

use ketch_proto::etcdserverpb::request_op::Request as Op;
use ketch_proto::etcdserverpb::*;
use ketch_proto::rpc_error::RpcError::{self, *};

use super::request::{Asker, Request};
use super::{Pair, runtime};

/// How an error comes about.
enum Way {
    /// By these requests; the last one is refused.
    Asked(Vec<Request>),
    /// Another test here compares it.
    Elsewhere(&'static str),
    /// Not on one member, or not yet.
    Later(&'static str),
    /// etcd never tells it to anybody, for this reason; what happens instead is compared by a test.
    Untold(&'static str, &'static str),
}

use Way::{Asked, Elsewhere, Later, Untold};

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
        ServerStopped => {
            Untold("wire::waiting", "a sole member that ends breaks the connections of those who wait")
        }
        WatchCanceled | RequestCanceled => {
            Untold("wire::waiting", "the client has reset the call: it shows in the metrics alone")
        }
        DeadlineExceeded => Untold("wire::waiting", "what is told is gRPC's own text, without the prefix"),
        TimeoutWaitAppliedIndex => Later("leases: nothing else waits for the applied index with a limit"),
        LeaseExist | LeaseTTLTooLarge => Later("leases"),
        NoLeader
        | NotLeader
        | LeaderChanged
        | Unhealthy
        | TimeoutDueToLeaderFail
        | TimeoutDueToConnectionLost
        | NotSupportedForLearner
        | NotCapable
        | ClusterVersionUnavailable => Later("needs more than one member: the cluster"),
        MemberExist
        | PeerURLExist
        | MemberNotEnoughStarted
        | MemberBadURLs
        | MemberNotFound
        | MemberNotLearner
        | LearnerNotReady
        | TooManyLearners
        | ClusterIDMismatch => Later("changes of the membership: the cluster"),
        RootUserNotExist | RootRoleNotExist | UserAlreadyExist | UserEmpty | UserNotFound
        | RoleAlreadyExist | RoleNotFound | RoleEmpty | AuthFailed | PermissionNotGiven
        | PermissionDenied | RoleNotGranted | PermissionNotGranted | AuthNotEnabled | InvalidAuthToken
        | InvalidAuthMgmt | AuthOldRevision => Later("users and roles"),
        other => panic!("{other:?} has no row"),
    }
}

#[test]
fn errors_have_equal_codes_and_texts() {
    let count = |matches: fn(&Way) -> bool| RpcError::ALL.iter().filter(|e| matches(&way(**e))).count();
    let asked = count(|way| matches!(way, Asked(_)));
    let later = count(|way| matches!(way, Later(why) if !why.is_empty()));
    let elsewhere = count(|way| matches!(way, Elsewhere(test) if test.contains("::")));
    let untold = count(|way| matches!(way, Untold(test, why) if test.contains("::") && !why.is_empty()));
    println!("{asked} provoked here, {elsewhere} in other tests, {untold} never told, {later} later");
    assert_eq!((asked + elsewhere + untold + later, RpcError::ALL.len()), (63, 63));
    let Some(pair) = Pair::start("errors_have_equal_codes_and_texts") else { return };
    runtime().block_on(async {
        let [mut etcd, mut ketch] = pair.channels().await.map(Asker::new);
        for error in RpcError::ALL {
            let Asked(requests) = way(*error) else { continue };
            let expected = format!("{:?}: {:?}", error.wire_code(), error.message());
            for (name, server) in [("etcd", &mut etcd), ("ketch", &mut ketch)] {
                // What an error needs to be there may be there already.
                let mut last = None;
                for request in requests.clone() {
                    last = Some(server.ask(request).await);
                }
                assert_eq!(last.unwrap().text, expected, "{name}: {error:?}");
                for kind in [1, 2] {
                    server.ask(alarm(2, kind)).await;
                }
            }
        }
    });
}
