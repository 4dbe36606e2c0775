//! The leader is killed: how long until a put succeeds again.
//!
//! From the kill on, a new put leaves every few milliseconds to each survivor in turn, whatever became of those before: what counts is
//! the first answer to any of them. The killed member is started again and has caught up before the next one.

use std::io;
use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::PutRequest;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::tonic::transport::{Channel, Endpoint};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::loads::must;
use super::members::Members;
use super::{Figure, Setup};
use crate::load::{Length, Plan};
use crate::server::Program;
use crate::versus::table::median;

/// Between two attempts.
const EVERY: Duration = Duration::from_millis(5);
/// The election timeout that both programs have by default.
const ELECTION: Duration = Duration::from_millis(1000);
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn measure(setup: &Setup, program: &Program) -> io::Result<Vec<Figure>> {
    let mut members = Members::start(program, &setup.root)?;
    let mut times = Vec::with_capacity(setup.kills);
    for _ in 0..setup.kills {
        let leader = members.leader().await?;
        // Something to lose.
        let plan = Plan {
            endpoints: vec![members.url(leader)],
            clients: 16,
            length: Length::Requests(500),
            ..Plan::default()
        };
        must(&plan).await?;
        let mut survivors = Vec::new();
        for at in members.alive().filter(|&at| at != leader) {
            survivors.push(connect(&members.url(at)).await?);
        }
        members.kill(leader);
        let time = first_put(&survivors).await?;
        times.push(time.as_secs_f64() / ELECTION.as_secs_f64());
        members.start_again(leader)?;
        let next = members.leader().await?;
        members.caught_up(leader, next).await?;
    }
    let slowest = times.iter().copied().fold(0.0, f64::max);
    Ok(vec![
        Figure::new("leader killed → first put, election timeouts, median", median(times)),
        Figure::new("the slowest", slowest),
    ])
}

async fn connect(url: &str) -> io::Result<KvClient<Channel>> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(io::Error::other)?;
    Ok(KvClient::new(endpoint.connect().await.map_err(io::Error::other)?))
}

/// From now until a put succeeds.
async fn first_put(survivors: &[KvClient<Channel>]) -> io::Result<Duration> {
    let start = Instant::now();
    let (done, mut is_done) = mpsc::channel(1);
    let mut puts = JoinSet::new();
    let mut ticks = tokio::time::interval(EVERY);
    for client in survivors.iter().cycle() {
        tokio::select! {
            _ = is_done.recv() => return Ok(start.elapsed()),
            _ = ticks.tick() => {}
        }
        if start.elapsed() > PATIENCE {
            break;
        }
        let (mut client, done) = (client.clone(), done.clone());
        puts.spawn(async move {
            let request =
                PutRequest { key: "failover".into(), value: vec![b'x'; 256].into(), ..Default::default() };
            if client.put(request).await.is_ok() {
                // Another one was first.
                let _late = done.try_send(());
            }
        });
    }
    Err(io::Error::other("no put succeeds after the leader was killed"))
}
