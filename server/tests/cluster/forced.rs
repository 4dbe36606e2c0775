//! `--force-new-cluster`: two of three members are lost for good, the third goes on alone with its data.

use ketch_proto::etcdserverpb::RangeRequest;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::tonic::transport::Channel;

use crate::both::{at_both, so_many_at_both};
use crate::growth::{REMOVED, a_follower_is_removed, stops_and_says_why};
use crate::harness::process::Process;
use crate::members::{eventually, put, status};

const FLAGS: &[&str] = &["--heartbeat-interval=50", "--election-timeout=500"];
const KEYS: usize = 200;

/// How many of the keys are there.
async fn count(channel: Channel) -> i64 {
    eventually("a count of keys", async || {
        let request = RangeRequest {
            key: "x/".into(),
            range_end: "x0".into(),
            count_only: true,
            ..RangeRequest::default()
        };
        KvClient::new(channel.clone()).range(request).await
    })
    .await
    .into_inner()
    .count
}

#[test]
fn a_survivor_becomes_a_cluster_of_its_own() {
    at_both(FLAGS, "a_survivor_becomes_a_cluster_of_its_own", async |who, mut cluster| {
        let via = cluster.leader().await;
        // A follower survives: it has what was acknowledged, and does not know of all of it that it was.
        let survivor = (via + 1) % 3;
        let channel = cluster.members[via].channel();
        for key in 0..KEYS {
            eventually("a put", async || put(channel.clone(), &format!("x/{key:04}"), "v").await).await;
        }
        let before = status(cluster.members[survivor].channel()).await.unwrap().header.unwrap();
        eventually("the survivor has everything", async || {
            match status(cluster.members[survivor].channel()).await.unwrap().header.unwrap().revision {
                revision if revision > KEYS as i64 => Ok(()),
                revision => Err(revision),
            }
        })
        .await;
        cluster.members.iter_mut().for_each(crate::members::Member::kill);
        let mut lost: Vec<_> = [2, 1].map(|step| (via + step + 1) % 3).into();
        lost.sort_unstable();
        let mut lost: Vec<_> = lost.into_iter().rev().map(|at| cluster.members.remove(at)).collect();

        let own = cluster.members[0].peer_url();
        // What is done twice is done once, and a start that does not insist finds it done.
        for extra in ["--force-new-cluster", "--force-new-cluster=true", "--force-new-cluster=false"] {
            cluster.members[0].set_extra([extra]);
            tokio::task::block_in_place(|| cluster.start(0));
            let members = cluster.list(0).await;
            let told: Vec<_> =
                members.iter().map(|one| (one.id, one.is_learner, &one.peer_urls[..])).collect();
            assert_eq!(told, [(before.member_id, false, &[own.clone()][..])], "{who}, {extra}");
            let after = status(cluster.members[0].channel()).await.unwrap().header.unwrap();
            assert_eq!(after.cluster_id, before.cluster_id, "{who}, {extra}");
            let found = count(cluster.members[0].channel()).await;
            // etcd forgets what it does not know to be committed.
            assert!(found == KEYS as i64 || who == "etcd", "{who}, {extra}: {found} keys");
            put(cluster.members[0].channel(), "x/0000", "on").await.unwrap();
            if !extra.ends_with("false") {
                cluster.members[0].kill();
            }
        }
        // The others are members no more: one that comes back is told so.
        let mut back = lost.pop().unwrap();
        back.process = Some(Process::spawn(&mut cluster.command(&back)));
        stops_and_says_why(&mut back);
        // New ones may join.
        for learner in [false, true] {
            let at = cluster.add(0, learner).await;
            if learner {
                let id = cluster.id(at).await;
                cluster.promote(0, id).await;
            }
        }
        cluster.agree().await;
    });
}

/// etcd takes the last voter away from its raft, which panics.
#[test]
fn a_learner_that_is_all_that_is_left_votes() {
    so_many_at_both(1, FLAGS, "a_learner_that_is_all_that_is_left_votes", async |who, mut cluster| {
        put(cluster.members[0].channel(), "x/learned", "v").await.unwrap();
        let at = cluster.add(0, true).await;
        eventually("the learner has it", async || {
            let request = RangeRequest { key: "x/learned".into(), serializable: true, ..Default::default() };
            let found = KvClient::new(cluster.members[at].channel()).range(request).await.unwrap();
            if found.into_inner().count == 1 { Ok(()) } else { Err("not yet") }
        })
        .await;
        cluster.members.iter_mut().for_each(crate::members::Member::kill);
        cluster.members.remove(0);
        cluster.members[0].set_extra(["--force-new-cluster"]);
        if who == "etcd" {
            let mut process = Process::spawn(&mut cluster.command(&cluster.members[0]));
            let (status, log) = (tokio::task::block_in_place(|| process.wait()), process.log());
            assert!(!status.success() && log.contains("removed all voters"), "{status}\n{log}");
            return;
        }
        tokio::task::block_in_place(|| cluster.start(0));
        assert_eq!(count(cluster.members[0].channel()).await, 1);
        cluster.agree().await;
    });
}

#[test]
fn who_was_removed_is_not_made_a_cluster() {
    at_both(FLAGS, "who_was_removed_is_not_made_a_cluster", async |who, mut cluster| {
        let mut gone = a_follower_is_removed(&mut cluster).await;
        gone.set_extra(["--force-new-cluster"]);
        let mut process = Process::spawn(&mut cluster.command(&gone));
        let (status, log) = (tokio::task::block_in_place(|| process.wait()), process.log());
        // etcd ends too, by its own words, and now and then with success.
        let says_why = !status.success() && log.contains(REMOVED);
        assert!(who == "etcd" || says_why, "{who}: {status}\n{log}");
    });
}
