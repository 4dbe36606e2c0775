//! Members far behind: the log they need is gone, they get a snapshot, whatever happens on the way.

use std::time::Duration;

use crate::harness::{http, programs};
use crate::members::{Cluster, Member, eventually, put};
use crate::net::Mode;
use crate::run::{Run, runtime};

const FLAGS: &[&str] = &[
    "--heartbeat-interval=50",
    "--election-timeout=500",
    "--snapshot-count=100",
    "--snapshot-catchup-entries=50",
];

/// Values that are written, and how many bytes each has.
const MUCH: (u64, usize) = (480, 10_000);

/// Writes large values at the member `at`: far more than what is kept of the log.
async fn write_much(cluster: &Cluster, at: usize) {
    write_values(cluster, at, MUCH.1).await;
}

async fn write_values(cluster: &Cluster, at: usize, bytes: usize) {
    let channel = cluster.members[at].channel();
    let value = "y".repeat(bytes);
    let writers = (0..8).map(|writer| {
        let (channel, value) = (channel.clone(), value.clone());
        tokio::spawn(async move {
            for number in 0..MUCH.0 / 8 {
                let key = format!("x/{writer}/{number}");
                // A leader that lost its office says so; the next one takes it.
                while put(channel.clone(), &key, &value).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// A number among a member's metrics.
fn metric(port: u16, name: &str) -> f64 {
    let (_, text) = http::request(port, "GET", "/metrics");
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
    values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}

/// Snapshots that followers have taken, by those who sent them.
fn sent(cluster: &Cluster) -> f64 {
    let up = cluster.members.iter().filter(|member| member.is_up());
    up.map(|member| metric(member.client_port, "etcd_network_snapshot_send_success")).sum()
}

#[test]
fn who_was_away_gets_a_snapshot_under_load() {
    runtime().block_on(async {
        let cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, FLAGS));
        let mut run = Run::new(cluster, 3);
        run.load();
        let mut tries = 0;
        // The log is given up behind what is durable in the store, which is not after every so many puts.
        while sent(&run.cluster) == 0.0 {
            tries += 1;
            assert!(tries < 10, "no snapshot in {tries} tries");
            let (via, at) = one_stays_behind(&mut run, Duration::from_millis(20)).await;
            // Killed again, and cut off, while the snapshot is on its way.
            for _ in 0..2 {
                tokio::task::block_in_place(|| run.cluster.spawn(at));
                trouble(&mut run).await;
                run.cluster.members[at].kill();
            }
            tokio::task::block_in_place(|| run.cluster.spawn(at));
            trouble(&mut run).await;
            let [from, to] = [via, at].map(|at| run.cluster.members[at].front);
            run.cluster.net.set(from, to, Mode::Cut);
            run.cluster.net.heal();
            tokio::task::block_in_place(|| run.cluster.await_ready(at));
            let channel = run.cluster.members[at].channel();
            eventually("a put where the log was gone", async || {
                put(channel.clone(), "x/back", "again").await
            })
            .await;
        }
        run.settle().await;
        println!("{} snapshots sent in {tries} tries, {:?}", sent(&run.cluster), run.counts);
        run.end();
    });
}

/// A follower is killed, misses more than the log keeps, and will be sent it `slow`ly. The leader and the one that is behind.
async fn one_stays_behind(run: &mut Run, slow: Duration) -> (usize, usize) {
    let via = run.cluster.leader().await;
    let at = (via + 1) % 3;
    run.cluster.members[at].kill();
    write_much(&run.cluster, via).await;
    let [from, to] = [via, at].map(|at| run.cluster.members[at].front);
    run.cluster.net.set(from, to, Mode::Slow(slow));
    (via, at)
}

/// The load goes on for a moment that is drawn.
async fn trouble(run: &mut Run) {
    let millis = run.random.between(200, 1000).unsigned_abs();
    run.go_on(u64::MAX, Duration::from_millis(millis)).await;
}

/// Far more is written while a snapshot goes through a narrow link than the log keeps of old: what follows it is kept all the same, so one
/// snapshot is enough.
#[test]
fn a_slow_install_under_load_takes_one_snapshot() {
    runtime().block_on(async {
        let cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, FLAGS));
        let mut run = Run::new(cluster, 4);
        let mut tries = 0;
        while sent(&run.cluster) == 0.0 {
            tries += 1;
            assert!(tries < 10, "no snapshot in {tries} tries");
            let (_, at) = one_stays_behind(&mut run, Duration::from_millis(40)).await;
            run.load();
            let before = run.acknowledged();
            tokio::task::block_in_place(|| run.cluster.start(at));
            let meanwhile = run.acknowledged() - before;
            println!("{meanwhile} answers while it started, {} snapshots sent", sent(&run.cluster));
            run.settle().await;
        }
        assert_eq!(sent(&run.cluster), 1.0, "one is enough");
        run.end();
    });
}

/// The leader dies in the middle of a snapshot: whoever leads then sends what is missing.
#[test]
fn a_snapshot_whose_sender_dies_is_continued_by_the_next_leader() {
    is_continued(Member::kill);
}

/// One that is silent holds its connection, and is waited for as long as for a slow one: until another leads.
#[test]
fn a_snapshot_whose_sender_falls_silent_is_continued_by_the_next_leader() {
    let cluster = is_continued(Member::pause);
    let overtaken = |member: &Member| member.log().contains("a later leader sends a snapshot");
    assert!(cluster.members.iter().any(overtaken));
}

fn is_continued(ends: fn(&mut Member)) -> Cluster {
    const BYTES: usize = 25_000;
    let state = MUCH.0 * BYTES as u64;
    runtime().block_on(async {
        let mut cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, FLAGS));
        for attempt in 0.. {
            assert!(attempt < 10, "no snapshot in {attempt} tries");
            let via = cluster.leader().await;
            let [at, next] = [1, 2].map(|step| (via + step) % 3);
            cluster.members[at].kill();
            write_values(&cluster, via, BYTES).await;
            let [leader, behind, other] = [via, at, next].map(|at| cluster.members[at].front);
            for from in [leader, other] {
                cluster.net.set(from, behind, Mode::Slow(Duration::from_millis(20)));
            }
            let carried = |cluster: &Cluster| [leader, other].map(|from| cluster.net.carried(from, behind));
            let before = carried(&cluster);
            cluster.spawn(at);
            let under_way =
                eventually("half of a snapshot, or a log that goes back far enough", async || {
                    let half = carried(&cluster)[0] - before[0] > state / 2;
                    let port = cluster.members[via].client_port;
                    let snapshot = metric(port, "etcd_network_snapshot_send_inflights_total") > 0.0;
                    if half { Ok(snapshot) } else { Err(carried(&cluster)) }
                })
                .await;
            if under_way {
                ends(&mut cluster.members[via]);
            }
            tokio::task::block_in_place(|| cluster.await_ready(at));
            let sent: u64 = carried(&cluster).iter().zip(before).map(|(now, before)| now - before).sum();
            println!("{:?} of {state} bytes, try {attempt}", carried(&cluster));
            if under_way {
                let log = cluster.members[next].log();
                assert!(log.contains("going on with a snapshot that another member began to send"), "{log}");
                assert!(sent < state * 3 / 2, "{sent} bytes were sent of a state of {state}");
                break;
            }
        }
        tokio::task::block_in_place(|| cluster.heal());
        cluster.agree().await;
        cluster
    })
}
