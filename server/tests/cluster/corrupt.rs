//! A member whose data differs from that of the others, with checksums that are right: what rots on disks is noticed otherwise.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ketch_mvcc::{Applied, KeyRange, Query, Store};
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, alarm_request::AlarmAction};
use ketch_proto::rpc_error::RpcError;
use ketch_server::apply::cluster::{TABLE_ALARMS, TABLE_CLUSTER, TABLE_MEMBERS, TABLE_MEMBERS_REMOVED};
use ketch_wal::{Disk, RealDisk};

use crate::harness::{http, programs};
use crate::members::{Cluster, eventually, put};
use crate::run::runtime;

const FLAGS: &[&str] = &["--heartbeat-interval=50", "--election-timeout=500"];
const KEYS: i64 = 30;

/// A cluster in which a follower has another value for one key than the others, with its place. It does not run.
async fn one_differs(flags: &[&str]) -> (Cluster, usize) {
    let flags: Vec<&str> = FLAGS.iter().chain(flags).copied().collect();
    let mut cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, &flags));
    let via = cluster.leader().await;
    let channel = cluster.members[via].channel();
    for key in 0..KEYS {
        eventually("a put", async || put(channel.clone(), &format!("x/{key}"), "right").await).await;
    }
    cluster.agree().await;
    let at = (cluster.leader().await + 1) % 3;
    tokio::task::block_in_place(|| cluster.members[at].terminate());
    alter(&cluster.members[at].data);
    (cluster, at)
}

/// Rewrites a store: revision by revision as it was, but for one value.
fn alter(dir: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (path, new_path) = (dir.join("store"), dir.join("store-altered"));
    let old = Store::open(Arc::clone(&disk), &path, ketch_mvcc::Options::default()).unwrap();
    let mut new = Store::open(disk, &new_path, ketch_mvcc::Options::default()).unwrap();
    let applied = old.applied();
    for revision in 2..=old.revision() {
        let view = old.reader().view();
        let found = view.range(&Query { revision, ..Query::new(KeyRange::all()) }).unwrap();
        let mut txn = new.txn();
        for kv in found.kvs.iter().filter(|kv| kv.mod_revision() == revision) {
            let value = if revision == KEYS / 2 { Bytes::from_static(b"wrong") } else { kv.value() };
            txn.put(&kv.key(), &value, 0).unwrap();
        }
        txn.finish();
        if revision == old.revision() {
            for table in [TABLE_MEMBERS, TABLE_MEMBERS_REMOVED, TABLE_CLUSTER, TABLE_ALARMS] {
                let rows: Vec<(Bytes, Bytes)> =
                    old.table(table).iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                rows.into_iter().for_each(|(key, value)| new.table_put(table, key, value));
            }
            new.commit(applied).unwrap();
        } else {
            let index = u64::try_from(revision).unwrap();
            new.commit(Applied { index, term: applied.term }).unwrap();
        }
    }
    assert_eq!(new.revision(), old.revision());
    let [left, right] = [&old, &new].map(|store| store.reader().view().hash(0).unwrap().hash);
    assert_ne!(left, right);
    drop((old, new));
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::rename(&new_path, &path).unwrap();
}

async fn alarms(cluster: &Cluster, at: usize) -> Vec<AlarmMember> {
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
            let request = ketch_proto::etcdserverpb::CompactionRequest { revision: KEYS - 2, physical: true };
            let mut kv = ketch_proto::etcdserverpb::kv_client::KvClient::new(channel);
            kv.compact(request).await.unwrap();
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
