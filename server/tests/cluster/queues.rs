//! What waits in a cluster is counted while it waits, and no more when it is over.

use ketch_proto::etcdserverpb::RangeRequest;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinHandle;

use crate::harness::{http, programs};
use crate::members::{Cluster, Member, eventually, put};
use crate::net::Mode;
use crate::run::runtime;

const FLAGS: &[&str] = &["--heartbeat-interval=50", "--election-timeout=500"];
/// Requests that wait.
const WAITING: usize = 12;

/// The sum of a family's samples with `label`.
fn gauge(member: &Member, family: &str, label: &str) -> u64 {
    let (_, text) = http::request(member.client_port, "GET", "/metrics");
    let lines = text.lines().filter(|line| line.starts_with(family) && line.contains(label));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

async fn until(what: &str, member: &Member, family: &str, label: &str, right: impl Fn(u64) -> bool) {
    eventually(what, async || match gauge(member, family, label) {
        found if right(found) => Ok(()),
        found => Err(found),
    })
    .await;
}

#[test]
fn who_waits_for_a_leader_is_counted() {
    runtime().block_on(async {
        let mut cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, FLAGS));
        let at = cluster.leader().await;
        let left = (at + 1) % 3;
        let channel = cluster.members[left].channel();
        eventually("a put", async || put(channel.clone(), "x/q", "before").await).await;
        for other in [at, (at + 2) % 3] {
            cluster.members[other].kill();
        }
        let member = &cluster.members[left];
        until("a member without a leader", member, "etcd_server_has_leader", "", |found| found == 0).await;
        let mut waiting: Vec<JoinHandle<()>> = Vec::new();
        for number in 0..WAITING {
            let (one, other) = (channel.clone(), channel.clone());
            waiting.push(tokio::spawn(async move {
                drop(put(one, &format!("x/q{number}"), "waits").await);
            }));
            waiting.push(tokio::spawn(async move {
                let request = RangeRequest { key: "x/q".into(), ..RangeRequest::default() };
                drop(KvClient::new(other).range(request).await);
            }));
        }
        let all = |found| found == WAITING as u64;
        until("parked proposals", member, "ketch_server_proposals_parked", "", all).await;
        until("waiting reads", member, "ketch_server_reads_waiting", "", all).await;
        tokio::task::block_in_place(|| cluster.heal());
        for one in waiting {
            one.await.unwrap();
        }
        let member = &cluster.members[left];
        until("no parked proposals", member, "ketch_server_proposals_parked", "", |found| found == 0).await;
        until("no waiting reads", member, "ketch_server_reads_waiting", "", |found| found == 0).await;
        cluster.agree().await;
    });
}

#[test]
fn what_waits_for_a_slow_peer_is_counted_and_bounded() {
    runtime().block_on(async {
        let cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, FLAGS));
        let at = cluster.leader().await;
        let slow = (at + 1) % 3;
        let [from, to] = [at, slow].map(|at| cluster.members[at].front);
        let (leader, channel) = (&cluster.members[at], cluster.members[at].channel());
        cluster.net.set(from, to, Mode::Silent);
        // Values of a megabyte, until the sockets on the way are full and something waits here.
        let value = "v".repeat(1 << 20);
        let family = "ketch_network_peer_queue_bytes";
        eventually("a queue", async || {
            put(channel.clone(), "x/large", &value).await.map_err(|status| status.to_string())?;
            let waits = gauge(leader, family, "append");
            assert!(waits <= 80 << 20, "{waits} bytes wait");
            if waits > 0 { Ok(()) } else { Err("nothing waits".to_owned()) }
        })
        .await;
        assert!(gauge(leader, "ketch_network_peer_queue_frames", "append") > 0);
        cluster.net.heal();
        until("an empty queue", leader, family, "append", |found| found == 0).await;
        cluster.agree().await;
    });
}
