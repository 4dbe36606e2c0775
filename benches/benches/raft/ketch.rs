//! ketch-raft: every member driven in turn, in this thread.

use std::hint::black_box;

use bytes::Bytes;
use ketch_raft::drive::drive;
use ketch_raft::{Config, MemoryStorage, Node, Role};

use crate::Cluster;

/// Entries kept before the log is cut.
pub(crate) const KEPT: usize = 1 << 16;

/// A cluster whose first member leads.
pub(crate) struct Ketch {
    nodes: Vec<Node<MemoryStorage>>,
    payload: Bytes,
    applied: u64,
}

impl Ketch {
    pub(crate) fn start(members: u64, payload: Bytes) -> Ketch {
        let voters: Vec<u64> = (1..=members).collect();
        let start = |id: &u64| {
            let config = Config { id: *id, seed: *id, ..Config::default() };
            Node::new(config, MemoryStorage::with_voters(voters.clone())).expect("an empty storage is sound")
        };
        let mut cluster = Ketch { nodes: voters.iter().map(start).collect(), payload, applied: 0 };
        cluster.nodes[0].campaign().expect("nothing is in the way");
        cluster.settle();
        assert_eq!(cluster.nodes[0].soft_state().role, Role::Leader);
        cluster
    }

    fn settle(&mut self) {
        loop {
            let mut messages = Vec::new();
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

    fn compact(&mut self) {
        for node in &mut self.nodes {
            let applied = node.status().applied;
            node.storage_mut().compact(applied - 1).expect("it is applied");
        }
    }
}

impl Cluster for Ketch {
    fn run(&mut self, window: usize, windows: u64) {
        for _ in 0..windows {
            let before = self.applied;
            for _ in 0..window {
                self.nodes[0].propose(self.payload.clone()).expect("a leader takes proposals");
            }
            self.settle();
            assert_eq!(self.applied - before, (window * self.nodes.len()) as u64);
            if self.nodes[0].storage().all().len() > KEPT {
                self.compact();
            }
        }
    }
}
