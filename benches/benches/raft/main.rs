//! Proposals per second through 1, 3 and 5 nodes in memory, with 1, 64 and 1024 proposals in flight, empty and 256 B.
//!
//!     cargo bench -p ketch-benches --bench raft
//!
//! Everything runs in one thread, persisting is an append to a vector; what is measured is the core. One iteration
//! commits and applies a whole window on every node. Heap allocations per committed entry (over all nodes) are printed first.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ketch_raft::drive::drive;
use ketch_raft::{Config, MemoryStorage, Message, Node, Role};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A cluster whose first member leads.
struct Cluster {
    nodes: Vec<Node<MemoryStorage>>,
    applied: u64,
}

impl Cluster {
    fn new(members: u64) -> Cluster {
        let voters: Vec<u64> = (1..=members).collect();
        let start = |id: &u64| {
            let config = Config { id: *id, seed: *id, ..Config::default() };
            Node::new(config, MemoryStorage::with_voters(voters.clone())).expect("an empty storage is sound")
        };
        let mut cluster = Cluster { nodes: voters.iter().map(start).collect(), applied: 0 };
        cluster.nodes[0].campaign().expect("nothing is in the way");
        cluster.settle();
        assert_eq!(cluster.nodes[0].soft_state().role, Role::Leader);
        cluster
    }

    fn settle(&mut self) {
        loop {
            let mut messages: Vec<Message> = Vec::new();
            for node in &mut self.nodes {
                let driven = drive(node, |entry| {
                    black_box(&entry);
                    self.applied += 1;
                });
                messages.append(&mut driven.expect("nothing fails in memory").messages);
            }
            if messages.is_empty() {
                return;
            }
            for message in messages {
                let to = message.to as usize - 1;
                self.nodes[to].step(message).expect("honest members");
            }
        }
    }

    /// Commits and applies a window everywhere, and forgets it now and then so that memory stays bounded.
    fn round(&mut self, window: usize, payload: &Bytes) {
        for _ in 0..window {
            self.nodes[0].propose(payload.clone()).expect("a leader takes proposals");
        }
        self.settle();
        if self.nodes[0].storage().all().len() > 1 << 16 {
            for node in &mut self.nodes {
                let applied = node.status().applied;
                node.storage_mut().compact(applied - 1).expect("it is applied");
            }
        }
    }
}

fn proposals(c: &mut Criterion) {
    let mut group = c.benchmark_group("raft");
    for members in [1, 3, 5] {
        for (window, bytes) in [1, 64, 1024].into_iter().flat_map(|window| [(window, 0), (window, 256)]) {
            let payload = Bytes::from(vec![7; bytes]);
            let mut cluster = Cluster::new(members);
            cluster.round(window, &payload);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            (0..32).for_each(|_| cluster.round(window, &payload));
            let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / (32 * window) as f64;
            println!(
                "ketch: {members} nodes, window {window}, {bytes} B: {allocations:.2} allocations an entry"
            );
            group.throughput(Throughput::Elements(window as u64));
            let name = BenchmarkId::new(format!("ketch/{members}_nodes/{bytes}_B"), window);
            group.bench_function(name, |b| b.iter(|| cluster.round(window, &payload)));
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(std::time::Duration::from_millis(600))
        .warm_up_time(std::time::Duration::from_millis(200));
    targets = proposals
}
criterion_main!(benches);
