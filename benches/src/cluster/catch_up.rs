//! A member joins a cluster with much data, while clients put.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::loads::must;
use super::members::Members;
use super::{Figure, Setup};
use crate::load::{Length, Plan, run_until};
use crate::server::Program;

/// Bytes of a value of the data.
const VALUE_BYTES: u64 = 4096;
/// Puts of 256 bytes a second, open loop, that go on all the time.
const RATE: f64 = 500.0;
/// How long they are watched before the member joins.
const IDLE: Duration = Duration::from_secs(8);
const MIB: f64 = (1 << 20) as f64;

pub(super) async fn measure(setup: &Setup, program: &Program) -> io::Result<Vec<Figure>> {
    let mut members = Members::start(program, &setup.root)?;
    let leader = members.leader().await?;
    let values = setup.catch_up_bytes / VALUE_BYTES;
    let fill = Plan {
        endpoints: vec![members.url(leader)],
        connections: 8,
        clients: 128,
        sequential: true,
        length: Length::Requests(values),
        key_space: values,
        value_size: VALUE_BYTES as usize,
        prefix: "data/".to_owned(),
        ..Plan::default()
    };
    must(&fill).await?;
    members.settle().await?;
    let puts = Plan {
        endpoints: vec![members.url(leader)],
        connections: 4,
        clients: 64,
        rate: Some(RATE),
        length: Length::Time(IDLE),
        ..Plan::default()
    };
    let idle = must(&puts).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let beside = Plan { length: Length::Time(Duration::from_secs(120)), ..puts };
    let load = tokio::spawn({
        let stop = stop.clone();
        async move { run_until(&beside, stop).await }
    });
    let start = Instant::now();
    let joining = members.join(leader).await?;
    members.caught_up(joining.at, leader).await?;
    let took = start.elapsed();
    stop.store(true, Ordering::Relaxed);
    let busy = load.await.map_err(io::Error::other)??;
    if busy.failed() > 0 {
        return Err(io::Error::other(format!("requests failed: {busy}")));
    }
    drop(joining);
    drop(members);
    let disk = disk_rate(&setup.root, values * VALUE_BYTES)?;
    let rate = (values * VALUE_BYTES) as f64 / MIB / took.as_secs_f64();
    let (idle, busy) = (idle.latency.p99.as_secs_f64() * 1e3, busy.latency.p99.as_secs_f64() * 1e3);
    Ok(vec![
        Figure::new("a new member catches up, MiB/s (more is better)", rate),
        Figure::new("of what the disk writes in sequence", rate / disk),
        Figure::new("put p99 before, ms", idle),
        Figure::new("put p99 meanwhile, ms", busy),
        Figure::new("meanwhile / before", busy / idle),
    ])
}

/// MiB/s of a plain file of so many bytes, synced at the end.
fn disk_rate(root: &Path, bytes: u64) -> io::Result<f64> {
    let mut file = tempfile::tempfile_in(root)?;
    let block = vec![0x5a; 1 << 20];
    let blocks = bytes.div_ceil(block.len() as u64);
    let start = Instant::now();
    for _ in 0..blocks {
        file.write_all(&block)?;
    }
    file.sync_data()?;
    Ok(blocks as f64 / start.elapsed().as_secs_f64())
}
