//! A member whose data differs from that of the others, with checksums that are right: what rots on disks is noticed otherwise.

mod alter;

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, HashKvRequest, alarm_request::AlarmAction,
};
use ketch_proto::rpc_error::RpcError;

use crate::harness::{http, programs};
use crate::members::{Cluster, eventually, put};
use crate::net::Mode;
use crate::run::runtime;
use crate::script;

use alter::RIGHT;
pub(crate) use alter::alter;

const FLAGS: &[&str] = &["--heartbeat-interval=50", "--election-timeout=500"];
const KEYS: i64 = 30;
const WRONG: &str = "the value as it is not, now";

/// A cluster in which a follower has another value for one key than the others, with its place. It does not run.
async fn one_differs(flags: &[&str]) -> (Cluster, usize) {
    let flags: Vec<&str> = FLAGS.iter().chain(flags).copied().collect();
    let mut cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, &flags));
    let via = cluster.leader().await;
    let channel = cluster.members[via].channel();
    for key in 0..KEYS {
        let value = if key == KEYS / 2 { RIGHT } else { "right" };
        eventually("a put", async || put(channel.clone(), &format!("x/{key}"), value).await).await;
    }
    cluster.agree().await;
    let at = (cluster.leader().await + 1) % 3;
    tokio::task::block_in_place(|| cluster.members[at].terminate());
    alter(&cluster.members[at].data, WRONG);
    (cluster, at)
}

pub(crate) async fn alarms(cluster: &Cluster, at: usize) -> Vec<AlarmMember> {
    let ask = AlarmRequest { action: AlarmAction::Get as i32, ..Default::default() };
    let told = MaintenanceClient::new(cluster.members[at].channel()).alarm(ask).await;
    told.unwrap().into_inner().alarms
}

#[test]
fn a_member_that_differs_is_found_before_it_serves() {
    runtime().block_on(async {
        let (mut cluster, at) = one_differs(&[]).await;
        cluster.members[at].set_extra(["--feature-gates=InitialCorruptCheck=true"]);
        cluster.spawn(at);
        let mut process = cluster.members[at].process.take().unwrap();
        let (status, log) = (tokio::task::block_in_place(|| process.wait()), process.log());
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("found data inconsistency with peers"), "{log}");
        // The others go on; nobody raises an alarm for one that does not serve.
        let other = (at + 1) % 3;
        put(cluster.members[other].channel(), "x/on", "v").await.unwrap();
        assert_eq!(alarms(&cluster, other).await, []);
        // One whose data does not differ passes the check.
        cluster.members[other].set_extra(["--feature-gates=InitialCorruptCheck=true"]);
        cluster.members[other].kill();
        cluster.spawn(other);
        let process = cluster.members[other].process.as_ref().unwrap();
        assert!(tokio::task::block_in_place(|| process.await_line("initial corruption checking passed")));
    });
}

/// Who checks is a flag; what follows is the same.
fn is_named_and_writes_are_refused(flags: &[&str], compact: bool) {
    runtime().block_on(async {
        let (mut cluster, at) = one_differs(flags).await;
        tokio::task::block_in_place(|| cluster.start(at));
        let id = cluster.id(at).await;
        if compact {
            let channel = cluster.members[cluster.leader().await].channel();
            let request = CompactionRequest { revision: KEYS - 2, physical: true };
            KvClient::new(channel).compact(request).await.unwrap();
        }
        let raised = AlarmMember { member_id: id, alarm: AlarmType::Corrupt as i32 };
        for member in 0..3 {
            eventually("the alarm", async || match alarms(&cluster, member).await {
                found if found == [raised] => Ok(()),
                other => Err(other),
            })
            .await;
            let refused = put(cluster.members[member].channel(), "x/0", "no").await.unwrap_err();
            assert_eq!(refused.message(), RpcError::Corrupt.message(), "{member}");
            assert_eq!(refused.code() as i32, RpcError::Corrupt.wire_code() as i32, "{member}");
            let (code, health) = http::request(cluster.members[member].client_port, "GET", "/health");
            assert!(code == 503 && health.contains("ALARM CORRUPT"), "{code} {health}");
        }
        // The way out: the member is replaced, the alarm lowered.
        let via = cluster.leader().await;
        let via = if via == at { (at + 1) % 3 } else { via };
        cluster.members[at].kill();
        std::fs::remove_dir_all(&cluster.members[at].data).unwrap();
        cluster.remove(via, id).await;
        cluster.members.remove(at);
        let via = if via > at { via - 1 } else { via };
        cluster.add(via, false).await;
        let lower = AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: id,
            alarm: AlarmType::Corrupt as i32,
        };
        let channel = cluster.members[via].channel();
        eventually("the alarm is lowered", async || {
            MaintenanceClient::new(channel.clone()).alarm(lower).await
        })
        .await;
        cluster.agree().await;
    });
}

#[test]
fn a_member_that_differs_is_named_by_the_check_now_and_then() {
    is_named_and_writes_are_refused(&["--corrupt-check-time=1s"], false);
}

#[test]
fn a_member_that_differs_is_named_after_a_compaction() {
    is_named_and_writes_are_refused(
        &["--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=1s"],
        true,
    );
}

/// The one that differs hears nothing of the last two compactions: it is found by the former.
#[test]
fn an_older_compaction_is_compared_where_the_newest_is_not_carried_out() {
    runtime().block_on(async {
        let flags = ["--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=3s"];
        let (mut cluster, at) = one_differs(&flags).await;
        tokio::task::block_in_place(|| cluster.start(at));
        let id = cluster.id(at).await;
        let leader = cluster.leader().await;
        let channel = cluster.members[leader].channel();
        let compact = async |revision| {
            let request = CompactionRequest { revision, physical: true };
            KvClient::new(channel.clone()).compact(request).await.unwrap();
        };
        compact(KEYS - 3).await;
        let differs = cluster.members[at].channel();
        eventually("the compaction", async || {
            let early = HashKvRequest { revision: KEYS - 4 };
            match MaintenanceClient::new(differs.clone()).hash_kv(early).await {
                Err(status) if status.message() == RpcError::Compacted.message() => Ok(()),
                told => Err(told),
            }
        })
        .await;
        let [from, to] = [leader, at].map(|at| cluster.members[at].front);
        cluster.net.set(from, to, Mode::Silent);
        // Its answer can be compared with what the first of these found, and not with what the second one did.
        compact(KEYS - 2).await;
        compact(KEYS - 1).await;
        let raised = AlarmMember { member_id: id, alarm: AlarmType::Corrupt as i32 };
        eventually("the alarm", async || match alarms(&cluster, leader).await {
            found if found == [raised] => Ok(()),
            other => Err(other),
        })
        .await;
    });
}

fn as_in_etcd(test: &str, script: &str, flags: &[&str]) {
    let Some(tools) = programs::real_etcd(test) else { return };
    script::same(tools, script, flags);
}

#[test]
fn a_start_with_other_data_ends_as_in_etcd() {
    as_in_etcd("a_start_with_other_data_ends_as_in_etcd", include_str!("corrupt/initial.txt"), &[]);
}

#[test]
fn the_check_now_and_then_and_what_follows_are_as_in_etcd() {
    let test = "the_check_now_and_then_and_what_follows_are_as_in_etcd";
    as_in_etcd(test, include_str!("corrupt/periodic.txt"), &["--corrupt-check-time=1s"]);
}

#[test]
fn a_leader_with_other_data_names_whom_etcd_names() {
    let test = "a_leader_with_other_data_names_whom_etcd_names";
    // Nobody else checks: no check comes before that member leads.
    as_in_etcd(test, include_str!("corrupt/leader.txt"), &[]);
}

const COMPACT: &[&str] = &["--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=1s"];

#[test]
fn the_check_of_compactions_is_as_in_etcd() {
    as_in_etcd("the_check_of_compactions_is_as_in_etcd", include_str!("corrupt/compact.txt"), COMPACT);
}

#[test]
fn where_nobody_is_in_the_majority_nobody_is_named_as_in_etcd() {
    let test = "where_nobody_is_in_the_majority_nobody_is_named_as_in_etcd";
    as_in_etcd(test, include_str!("corrupt/nobody.txt"), COMPACT);
}
