//! The errors that only a cluster tells, provoked at three members of the real etcd and at three of ketch.

use std::time::Duration;

use ketch_proto::etcdserverpb::cluster_client::ClusterClient;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::{MemberAddRequest, MoveLeaderRequest, RangeRequest};
use ketch_proto::metadata;
use ketch_proto::rpc_error::RpcError;
use ketch_proto::tonic::transport::Channel;
use ketch_proto::tonic::{Request, Status};

use crate::both::at_both;
use crate::harness::programs;
use crate::members::{Cluster, eventually, put, status};
use crate::net::Mode;
use crate::run::runtime;

const FLAGS: &[&str] = &["--heartbeat-interval=50", "--election-timeout=500"];

/// So often is tried what a busy machine may do otherwise: an election that comes too late, say.
const TRIES: u32 = 6;

fn is<T>(who: &str, told: Result<T, Status>, error: RpcError) {
    assert!(says(who, &told, error), "{who}");
}

/// Whether that was the answer.
fn says<T>(who: &str, told: &Result<T, Status>, error: RpcError) -> bool {
    let right = (error.wire_code() as i32, error.message());
    match told {
        Err(status) if (status.code() as i32, status.message()) == right => true,
        Err(status) => {
            println!("{who}, instead of {right:?}: {status:?}");
            false
        }
        Ok(_) => {
            println!("{who}, instead of {right:?}: success");
            false
        }
    }
}

async fn read(channel: Channel, insists: bool) -> Result<(), Status> {
    let mut request = Request::new(RangeRequest { key: "x/e".into(), ..Default::default() });
    if insists {
        request.metadata_mut().insert(metadata::HAS_LEADER, metadata::HAS_LEADER_TRUE.parse().unwrap());
    }
    KvClient::new(channel).range(request).await.map(drop)
}

async fn knows_no_leader(channel: &Channel) {
    eventually("a member without a leader", async || match status(channel.clone()).await {
        Ok(told) if told.leader == 0 => Ok(()),
        other => Err(other),
    })
    .await;
}

#[test]
fn followers_do_not_move_the_leader_and_learners_do_little() {
    at_both(FLAGS, "followers_do_not_move_the_leader_and_learners_do_little", async |who, mut cluster| {
        let via = cluster.leader().await;
        let other = cluster.members[(via + 1) % 3].channel();
        let target_id = cluster.id((via + 2) % 3).await;
        let moved = MaintenanceClient::new(other).move_leader(MoveLeaderRequest { target_id }).await;
        is(who, moved, RpcError::NotLeader);
        let at = cluster.add(via, true).await;
        let learner = cluster.members[at].channel();
        let error = RpcError::NotSupportedForLearner;
        is(who, put(learner.clone(), "x/e", "v").await, error);
        is(who, read(learner.clone(), false).await, error);
        let key = RangeRequest { key: "x/e".into(), serializable: true, ..Default::default() };
        KvClient::new(learner).range(key).await.unwrap();
    });
}

#[test]
fn an_unhealthy_cluster_takes_no_member_and_a_lone_member_knows_no_leader() {
    at_both(
        FLAGS,
        "an_unhealthy_cluster_takes_no_member_and_a_lone_member_knows_no_leader",
        async |who, mut cluster| {
            let via = cluster.leader().await;
            cluster.members[(via + 1) % 3].kill();
            let channel = cluster.members[via].channel();
            for is_learner in [false, true] {
                let request = MemberAddRequest { peer_urls: vec!["http://127.0.0.1:1".into()], is_learner };
                let added = ClusterClient::new(channel.clone()).member_add(request).await;
                is(who, added, RpcError::Unhealthy);
            }
            cluster.members[(via + 2) % 3].kill();
            knows_no_leader(&channel).await;
            is(who, read(channel.clone(), true).await, RpcError::NoLeader);
        },
    );
}

#[test]
fn a_read_that_waits_in_vain_is_in_the_log() {
    at_both(FLAGS, "a_read_that_waits_in_vain_is_in_the_log", async |who, mut cluster| {
        let via = cluster.leader().await;
        [1, 2].into_iter().for_each(|step| cluster.members[(via + step) % 3].kill());
        let channel = cluster.members[via].channel();
        knows_no_leader(&channel).await;
        let left = tokio::time::timeout(Duration::from_millis(300), read(channel, false)).await;
        assert!(left.is_err(), "{who}: {left:?}");
        let fields = "\"expected-duration\":\"100ms\",\"prefix\":\"read-only range \"";
        let found = "\"response\":\"\",\"error\":\"context canceled\"}";
        let line = format!("{fields},\"request\":\"key:\\\"x/e\\\"\",{found}");
        eventually("a line", async || {
            let log = cluster.members[via].log();
            if log.contains(&line) { Ok(()) } else { Err(format!("{who}: no {line} in {log}")) }
        })
        .await;
    });
}

#[test]
fn a_put_at_a_leader_that_fails_says_so() {
    at_both(FLAGS, "a_put_at_a_leader_that_fails_says_so", async |who, mut cluster| {
        for round in 1.. {
            let at = cluster.leader().await;
            let followers = [1, 2].map(|step| cluster.members[(at + step) % 3].channel());
            for follower in &followers {
                // The connection stands before.
                eventually("a put", async || put(follower.clone(), "x/e", "before").await).await;
            }
            cluster.members[at].pause();
            // Not long before the next election: what is put down to the old leader must have begun so late. At etcd the
            // one who wins it knows when it was.
            tokio::time::sleep(Duration::from_millis(150)).await;
            let lost = followers.map(|follower| tokio::spawn(put(follower, "x/e", "lost")));
            cluster.leader().await;
            // It never comes to what it was sent.
            cluster.members[at].kill();
            let mut told = Vec::new();
            for one in lost {
                told.push(says(who, &one.await.unwrap(), RpcError::TimeoutDueToLeaderFail));
            }
            if told.contains(&true) {
                break;
            }
            assert!(round < TRIES, "{who}");
            tokio::task::block_in_place(|| cluster.start(at));
        }
    });
}

#[test]
fn a_put_that_cannot_reach_the_leader_says_so() {
    at_both(FLAGS, "a_put_that_cannot_reach_the_leader_says_so", async |who, cluster| {
        for round in 1.. {
            let at = cluster.leader().await;
            let follower = &cluster.members[(at + 1) % 3];
            let channel = follower.channel();
            eventually("a put", async || put(channel.clone(), "x/e", "before").await).await;
            // It hears the leader, and is not heard.
            cluster.net.set(follower.front, cluster.members[at].front, Mode::Cut);
            let told = put(channel, "x/e", "lost").await;
            if says(who, &told, RpcError::TimeoutDueToConnectionLost) {
                break;
            }
            assert!(round < TRIES, "{who}");
            cluster.net.heal();
        }
    });
}

#[test]
fn a_read_whose_leader_changes_is_told_by_etcd_and_served_by_ketch() {
    at_both(
        FLAGS,
        "a_read_whose_leader_changes_is_told_by_etcd_and_served_by_ketch",
        async |who, cluster| {
            for round in 1.. {
                let told = read_across_an_election(&cluster).await;
                let right = match who {
                    "etcd" => says(who, &told, RpcError::LeaderChanged),
                    // The next leader is asked; what it says is as good.
                    _ => told.is_ok(),
                };
                if right {
                    break;
                }
                assert!(round < TRIES, "{who}: {told:?}");
            }
        },
    );
}

/// A linearizable read at a leader that is cut off, until the others have another one and it hears of that.
async fn read_across_an_election(cluster: &Cluster) -> Result<(), Status> {
    let at = cluster.leader().await;
    let channel = cluster.members[at].channel();
    let own = cluster.id(at).await;
    eventually("a read", async || read(channel.clone(), false).await).await;
    cluster.isolate(at, Mode::Cut);
    let waits = tokio::spawn(read(channel, false));
    for other in [1, 2].map(|step| cluster.members[(at + step) % 3].channel()) {
        eventually("another leader", async || match status(other.clone()).await {
            Ok(told) if told.leader != 0 && told.leader != own => Ok(()),
            other => Err(other),
        })
        .await;
    }
    cluster.net.heal();
    waits.await.unwrap()
}

/// Only at ketch: what etcd says then depends on how far the hand-over is.
#[test]
fn a_put_during_a_hand_over_is_told_that_the_leader_changed() {
    runtime().block_on(async {
        let mut cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, FLAGS));
        let at = cluster.leader().await;
        let to = (at + 1) % 3;
        let target_id = cluster.id(to).await;
        let channel = cluster.members[at].channel();
        // Whom leadership goes to is not there to take it.
        cluster.members[to].pause();
        eventually("a put that is not taken", async || {
            let mut maintenance = MaintenanceClient::new(channel.clone());
            let moves = maintenance.move_leader(MoveLeaderRequest { target_id });
            let mut moves = std::pin::pin!(moves);
            loop {
                tokio::select! {
                    _over = &mut moves => return Err("the hand-over was given up"),
                    told = put(channel.clone(), "x/e", "v") => {
                        if says("ketch", &told, RpcError::LeaderChanged) {
                            return Ok(());
                        }
                    }
                }
            }
        })
        .await;
        cluster.members[to].resume();
        cluster.agree().await;
    });
}
