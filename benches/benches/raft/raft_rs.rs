//! raft-rs: every member driven in turn, in this thread, in the order its documentation asks for.

use std::hint::black_box;

use bytes::Bytes;
use raft::prelude::{ConfState, Message};
use raft::storage::MemStorage;
use raft::{Config, LightReady, RawNode, StateRole};

use crate::Cluster;
use crate::ketch::KEPT;

/// A cluster whose first member leads.
pub(crate) struct RaftRs {
    nodes: Vec<RawNode<MemStorage>>,
    payload: Bytes,
    applied: u64,
    /// Up to here the logs were cut.
    compacted: u64,
}

impl RaftRs {
    pub(crate) fn start(members: u64, payload: Bytes) -> RaftRs {
        let voters: Vec<u64> = (1..=members).collect();
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let start = |id: &u64| {
            let config = Config {
                id: *id,
                election_tick: 10,
                heartbeat_tick: 1,
                pre_vote: true,
                check_quorum: true,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 512,
                batch_append: true,
                ..Config::default()
            };
            let state = ConfState { voters: voters.clone(), ..ConfState::default() };
            let storage = MemStorage::new_with_conf_state(state);
            RawNode::new(&config, storage, &logger).expect("an empty storage is sound")
        };
        let nodes = voters.iter().map(start).collect();
        let mut cluster = RaftRs { nodes, payload, applied: 0, compacted: 0 };
        cluster.nodes[0].campaign().expect("nothing is in the way");
        cluster.settle();
        assert_eq!(cluster.nodes[0].raft.state, StateRole::Leader);
        cluster
    }

    fn settle(&mut self) {
        loop {
            let mut messages = Vec::new();
            for node in &mut self.nodes {
                while node.has_ready() {
                    self.applied += handle(node, &mut messages);
                }
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
        self.compacted = self.nodes[0].raft.raft_log.applied;
        for node in &mut self.nodes {
            let applied = node.raft.raft_log.applied;
            node.mut_store().wl().compact(applied).expect("it is applied");
        }
    }
}

/// Carries out one Ready; how many entries were applied.
fn handle(node: &mut RawNode<MemStorage>, messages: &mut Vec<Message>) -> u64 {
    let mut ready = node.ready();
    messages.append(&mut ready.take_messages());
    let mut applied = apply(&ready.take_committed_entries());
    let store = node.mut_store();
    if !ready.entries().is_empty() {
        store.wl().append(ready.entries()).expect("consecutive");
    }
    if let Some(hard_state) = ready.hs() {
        store.wl().set_hardstate(hard_state.clone());
    }
    messages.append(&mut ready.take_persisted_messages());
    let mut light: LightReady = node.advance(ready);
    if let Some(commit) = light.commit_index() {
        node.mut_store().wl().mut_hard_state().commit = commit;
    }
    messages.append(&mut light.take_messages());
    applied += apply(&light.take_committed_entries());
    node.advance_apply();
    applied
}

fn apply(entries: &[raft::prelude::Entry]) -> u64 {
    for entry in entries {
        black_box(entry);
    }
    entries.len() as u64
}

impl Cluster for RaftRs {
    fn run(&mut self, window: usize, windows: u64) {
        for _ in 0..windows {
            let before = self.applied;
            for _ in 0..window {
                let data = self.payload.to_vec();
                self.nodes[0].propose(Vec::new(), data).expect("a leader takes proposals");
            }
            self.settle();
            assert_eq!(self.applied - before, (window * self.nodes.len()) as u64);
            if self.nodes[0].raft.raft_log.applied - self.compacted > KEPT as u64 {
                self.compact();
            }
        }
    }
}
