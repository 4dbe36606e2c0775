//! Members come and go: growth and shrinking under load, lost disks, those who are removed.

use std::time::Duration;

use crate::both::at_both;
use ketch_proto::etcdserverpb::MemberUpdateRequest;
use ketch_proto::etcdserverpb::cluster_client::ClusterClient;

use crate::chaos::replace;
use crate::harness::process::Process;
use crate::harness::{http, programs};
use crate::members::{Cluster, Member, eventually, put};
use crate::net::Mode;
use crate::run::{Run, runtime};

const FLAGS: &[&str] = &["--heartbeat-interval=50", "--election-timeout=500"];

/// What a member that was removed says last.
pub(crate) const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Something happens before each step.
const SOME: (u64, Duration) = (100, Duration::from_secs(20));

#[test]
fn one_grows_to_five_and_shrinks_back_under_load() {
    runtime().block_on(async {
        let cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 1, FLAGS));
        let mut run = Run::new(cluster, 1);
        run.load();
        run.go_on(SOME.0, SOME.1).await;
        for learner in [false, true, true, false] {
            let via = run.cluster.leader().await;
            let at = run.cluster.add(via, learner).await;
            if learner {
                let id = run.cluster.id(at).await;
                // Not at the leader: it is told.
                run.cluster.promote((via + 1) % at, id).await;
            }
            run.aim();
            run.go_on(SOME.0, SOME.1).await;
        }
        run.settle().await;
        assert_eq!(run.cluster.list(3).await.iter().filter(|member| !member.is_learner).count(), 5);
        run.load();
        while run.cluster.members.len() > 1 {
            // The leader too, which removes itself.
            let via = run.cluster.leader().await;
            let at = if run.cluster.members.len().is_multiple_of(2) {
                via
            } else {
                (via + 1) % run.cluster.members.len()
            };
            let id = run.cluster.id(at).await;
            run.cluster.remove(via, id).await;
            let mut gone = run.cluster.members.remove(at);
            run.aim();
            stops_and_says_why(&mut gone);
            run.go_on(SOME.0, SOME.1).await;
        }
        run.settle().await;
        println!("{:?}", run.counts);
        run.end();
    });
}

/// A member that was removed ends by itself.
pub(crate) fn stops_and_says_why(gone: &mut Member) {
    let process = gone.process.as_mut().unwrap();
    let status = tokio::task::block_in_place(|| process.wait());
    let log = process.log();
    assert!(log.contains(REMOVED), "{status}:\n{log}");
}

/// A follower is removed, and ends by itself.
pub(crate) async fn a_follower_is_removed(cluster: &mut Cluster) -> Member {
    let via = cluster.leader().await;
    let at = (via + 1) % cluster.members.len();
    let id = cluster.id(at).await;
    cluster.remove(via, id).await;
    let mut gone = cluster.members.remove(at);
    stops_and_says_why(&mut gone);
    gone
}

#[test]
fn a_member_whose_disk_is_gone_is_replaced_under_load() {
    runtime().block_on(async {
        let cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, FLAGS));
        let mut run = Run::new(cluster, 2);
        run.load();
        run.go_on(SOME.0, SOME.1).await;
        for step in [1, 2] {
            let via = run.cluster.leader().await;
            replace(&mut run, (via + step) % 3, via).await;
            run.go_on(SOME.0, SOME.1).await;
        }
        run.settle().await;
        run.end();
    });
}

#[test]
fn who_was_removed_does_not_come_back() {
    runtime().block_on(async {
        let mut cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, FLAGS));
        let mut gone = a_follower_is_removed(&mut cluster).await;
        // With its old directory, as what it was and as one that joins.
        for state in ["new", "existing"] {
            gone.birth.0 = state;
            gone.process = Some(Process::spawn(&mut cluster.command(&gone)));
            stops_and_says_why(&mut gone);
        }
        // Nobody was disturbed, and its place can be taken by a new one.
        let via = cluster.leader().await;
        cluster.add(via, false).await;
        cluster.agree().await;
        // One that was away when it was removed learns of it.
        let via = cluster.leader().await;
        let at = (via + 1) % 3;
        let id = cluster.id(at).await;
        cluster.members[at].kill();
        cluster.remove(via, id).await;
        let mut away = cluster.members.remove(at);
        away.process = Some(Process::spawn(&mut cluster.command(&away)));
        stops_and_says_why(&mut away);
        put(cluster.members[0].channel(), "x/two", "are enough").await.unwrap();
    });
}

#[test]
fn founders_agree_on_a_version() {
    at_both(&[], "founders_agree_on_a_version", async |who, cluster| {
        for member in &cluster.members {
            let url = member.url();
            let port = url.rsplit(':').next().unwrap().parse().unwrap();
            eventually("the cluster has its version", async || {
                let (code, body) = tokio::task::block_in_place(|| http::request(port, "GET", "/version"));
                let agreed = code == 200 && body.contains("\"etcdcluster\":\"3.7.0\"");
                if agreed { Ok(()) } else { Err(format!("{who}: {code} {body}")) }
            })
            .await;
        }
    });
}

/// Its machine has another address: the others are told, and it is started there.
#[test]
fn a_member_that_moves_is_found_where_it_is() {
    at_both(FLAGS, "a_member_that_moves_is_found_where_it_is", async |who, mut cluster| {
        let via = cluster.leader().await;
        let at = (via + 1) % 3;
        let id = cluster.id(at).await;
        cluster.members[at].kill();
        let old = cluster.members[at].front;
        cluster.net.between(
            old,
            &[cluster.members[via].front, cluster.members[(via + 2) % 3].front],
            Mode::Cut,
        );
        cluster.members[at].front = cluster.net.proxy(cluster.members[at].peer_port);
        let peer_urls = vec![cluster.members[at].peer_url()];
        let channel = cluster.members[via].channel();
        let request = MemberUpdateRequest { id, peer_urls: peer_urls.clone() };
        ClusterClient::new(channel.clone()).member_update(request).await.unwrap();
        put(channel, "x/meanwhile", "it moves").await.unwrap();
        tokio::task::block_in_place(|| cluster.start(at));
        cluster.agree().await;
        for other in 0..3 {
            let listed = cluster.list(other).await;
            let moved = listed.iter().find(|member| member.id == id).unwrap();
            assert_eq!(moved.peer_urls, peer_urls, "{who}");
        }
    });
}
