//! Leaders that were paused, cut off or asked to end: nothing stale, nothing lost, and no election where none is needed.

use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::RangeRequest;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::tonic::Status;
use ketch_proto::tonic::transport::Channel;
use tokio::time::timeout;

use crate::harness::programs;
use crate::members::{Cluster, eventually, put};
use crate::net::Mode;
use crate::run::runtime;

const FLAGS: &[&str] = &["--heartbeat-interval=50", "--election-timeout=500"];
/// Reads that wait at the leader before it is paused.
const READERS: usize = 20;

async fn get(channel: Channel, serializable: bool) -> Result<String, Status> {
    let request = RangeRequest { key: "x/now".into(), serializable, ..Default::default() };
    let told = KvClient::new(channel).range(request).await?.into_inner();
    Ok(told.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).unwrap_or_default())
}

fn three() -> Cluster {
    tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, FLAGS))
}

/// Writes at any member but one, until it is acknowledged.
async fn put_elsewhere(cluster: &Cluster, not: usize, value: &str) {
    let others = (0..3).filter(|at| *at != not).collect::<Vec<_>>();
    let mut turn = others.iter().cycle();
    eventually("a put at the others", async || {
        let channel = cluster.members[*turn.next().unwrap()].channel();
        match timeout(Duration::from_secs(1), put(channel, "x/now", value)).await {
            Ok(told) => told.map_err(|status| status.to_string()),
            Err(_late) => Err("late".to_owned()),
        }
    })
    .await;
}

#[test]
fn a_leader_that_slept_serves_nothing_stale() {
    runtime().block_on(async {
        let mut cluster = three();
        let (mut fresh, mut refused) = (0, 0);
        for round in 0..3 {
            let at = cluster.leader().await;
            put_elsewhere(&cluster, 3, &format!("before {round}")).await;
            let channel = cluster.members[at].channel();
            get(channel.clone(), false).await.unwrap();
            cluster.members[at].pause();
            // They are asked while it sleeps, some before the others go on and some after, and answered when it wakes.
            let before: Vec<_> = (0..READERS).map(|_| tokio::spawn(get(channel.clone(), true))).collect();
            let after = format!("after {round}");
            put_elsewhere(&cluster, at, &after).await;
            let readers: Vec<_> = (0..READERS).map(|_| tokio::spawn(get(channel.clone(), false))).collect();
            cluster.members[at].resume();
            for reader in readers {
                match reader.await.unwrap() {
                    Ok(value) if value == after => fresh += 1,
                    Ok(value) => panic!("{value:?} was read after {after:?} was acknowledged"),
                    Err(_refused) => refused += 1,
                }
            }
            // Serializable reads may be either.
            for reader in before {
                let value = reader.await.unwrap();
                assert!(value.is_err() || value.unwrap().ends_with(&round.to_string()));
            }
        }
        println!("{fresh} reads were fresh, {refused} refused");
        assert!(fresh > 0);
        cluster.agree().await;
    });
}

#[test]
fn a_leader_in_the_minority_promises_nothing() {
    runtime().block_on(async {
        let cluster = three();
        for mode in [Mode::Cut, Mode::Silent] {
            put_elsewhere(&cluster, 3, "old").await;
            let at = cluster.leader().await;
            let channel = cluster.members[at].channel();
            cluster.isolate(at, mode);
            let lost = tokio::spawn(put(channel.clone(), "x/lost", "perhaps"));
            let read = tokio::spawn(get(channel.clone(), false));
            put_elsewhere(&cluster, at, "new").await;
            // Alone, it only says what it knows.
            eventually("a serializable read", async || match get(channel.clone(), true).await {
                Ok(value) if value == "old" => Ok(()),
                other => Err(other),
            })
            .await;
            assert!(lost.await.unwrap().is_err(), "a minority acknowledged a put");
            match read.await.unwrap() {
                Ok(value) => panic!("a minority served a linearizable read: {value:?}"),
                Err(status) => println!("{mode:?}: {status}"),
            }
            cluster.net.heal();
            let healed = eventually("a read after healing", async || get(channel.clone(), false).await).await;
            assert_eq!(healed, "new");
        }
        cluster.agree().await;
    });
}

#[test]
fn a_leader_that_is_asked_to_end_hands_over() {
    runtime().block_on(async {
        let mut cluster = three();
        let mut handed_over = 0;
        for round in 0..3 {
            let at = cluster.leader().await;
            let (took, log) = tokio::task::block_in_place(|| cluster.members[at].terminate());
            let began = Instant::now();
            put_elsewhere(&cluster, at, "handed over").await;
            println!("round {round}: ended after {took:?}, the next put after {:?} more", began.elapsed());
            handed_over += u32::from(!log.contains("leadership was not handed over in time"));
            tokio::task::block_in_place(|| cluster.start(at));
        }
        // A machine that is too busy may be late now and then.
        assert!(handed_over > 0);
        cluster.agree().await;
    });
}
