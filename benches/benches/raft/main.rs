//! Proposals per second through 1, 3 and 5 nodes in memory, with 1, 64 and 1024 in flight, empty and of 256 B.
//!
//!     cargo bench -p ketch-benches --bench raft                     # ketch alone
//!     cargo bench -p ketch-benches --bench raft --features peers    # beside raft-rs and openraft
//!
//! One iteration commits and applies a window of proposals. Persisting is an append to a vector: what is measured is the
//! core. A table of medians and of heap allocations per proposal, over all nodes, is printed at the end.

mod counting;
mod ketch;
#[cfg(feature = "peers")]
mod openraft;
#[cfg(feature = "peers")]
mod raft_rs;
mod table;

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};

use table::{Point, Table};

/// A cluster whose leader takes proposals.
trait Cluster {
    /// Commits `windows` times `window` proposals, `window` of them in flight at any time.
    fn run(&mut self, window: usize, windows: u64);
}

/// How a cluster of so many members that takes proposals of this payload comes to be.
type Start = fn(u64, Bytes) -> Box<dyn Cluster>;

const ENGINES: &[(&str, Start)] = &[
    ("ketch-raft", |members, payload| Box::new(ketch::Ketch::start(members, payload))),
    #[cfg(feature = "peers")]
    ("raft-rs", |members, payload| Box::new(raft_rs::RaftRs::start(members, payload))),
    #[cfg(feature = "peers")]
    ("openraft, one thread", |members, payload| Box::new(openraft::OpenRaft::start(members, payload, 1))),
    #[cfg(feature = "peers")]
    ("openraft, two threads", |members, payload| Box::new(openraft::OpenRaft::start(members, payload, 2))),
];

/// Windows whose allocations are counted: enough for some thousand proposals.
fn counted_windows(window: usize) -> u64 {
    (8192 / window).max(32) as u64
}

fn measure(criterion: &mut Criterion, table: &mut Table, point: Point) {
    let mut group = criterion.benchmark_group(format!("raft/{}_nodes/{}_B", point.members, point.payload));
    group.throughput(Throughput::Elements(point.window as u64));
    for (engine, start) in ENGINES {
        let mut cluster = start(point.members, Bytes::from(vec![7; point.payload]));
        cluster.run(point.window, 8);
        let windows = counted_windows(point.window);
        let before = counting::allocations();
        cluster.run(point.window, windows);
        let allocations = (counting::allocations() - before) as f64 / (windows * point.window as u64) as f64;
        let mut rates = Vec::new();
        group.bench_function(BenchmarkId::new(*engine, point.window), |bencher| {
            bencher.iter_custom(|windows| {
                let elapsed = timed(|| cluster.run(point.window, windows));
                rates.push((windows * point.window as u64) as f64 / elapsed.as_secs_f64());
                elapsed
            });
        });
        table.add(point, engine, &mut rates, allocations);
    }
    group.finish();
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .measurement_time(Duration::from_millis(600))
        .warm_up_time(Duration::from_millis(200))
        .without_plots()
        .configure_from_args();
    let mut table = Table::default();
    for members in [1, 3, 5] {
        for payload in [0, 256] {
            for window in [1, 64, 1024] {
                measure(&mut criterion, &mut table, Point { members, payload, window });
            }
        }
    }
    criterion.final_summary();
    print!("{table}");
}
