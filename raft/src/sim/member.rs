//! One simulated member: a node, its disk, its state machine, and what happens to them in a crash.

use std::collections::{BTreeMap, VecDeque};

use super::StateMachine;
use super::disk::{Disk, SimStorage};
use super::options::Options;
use crate::config::Config;
use crate::error::Fault;
use crate::membership::ConfState;
use crate::node::Node;
use crate::ready::Apply;
use crate::types::{Index, NodeId, SnapshotMeta, Term};

/// The state machine as it would be found after a crash.
#[derive(Clone, Debug)]
pub(crate) struct Store<M> {
    pub(crate) machine: M,
    pub(crate) applied: Index,
    pub(crate) term: Term,
    pub(crate) members: ConfState,
}

impl<M> Store<M> {
    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { index: self.applied, term: self.term, conf_state: self.members.clone() }
    }
}

pub(crate) struct Member<M> {
    pub(crate) id: NodeId,
    pub(crate) boot: u64,
    /// `None` while it is down.
    pub(crate) node: Option<Node<SimStorage>>,
    pub(crate) disk: Disk,
    /// In memory.
    pub(crate) live: Store<M>,
    /// Durable.
    pub(crate) saved: Store<M>,
    /// Snapshot payloads that may be sent, and those received and staged, both durable.
    pub(crate) offered: VecDeque<Store<M>>,
    pub(crate) staged: BTreeMap<Index, Store<M>>,
    pub(crate) apply_queue: VecDeque<Apply>,
    pub(crate) applying: bool,
    /// Milliseconds a tick takes on this member's clock, in thousandths.
    pub(crate) tick_micros: u64,
    pub(crate) paused_until: u64,
    /// Highest seen in this life.
    pub(crate) seen_term: Term,
    pub(crate) seen_commit: Index,
}

impl<M: StateMachine> Member<M> {
    pub(crate) fn new(id: NodeId, machine: M, members: ConfState, tick_micros: u64) -> Member<M> {
        let store = Store { machine, applied: 0, term: 0, members };
        Member {
            id,
            boot: 0,
            node: None,
            disk: Disk::default(),
            live: store.clone(),
            saved: store,
            offered: VecDeque::new(),
            staged: BTreeMap::new(),
            apply_queue: VecDeque::new(),
            applying: false,
            tick_micros,
            paused_until: 0,
            seen_term: 0,
            seen_commit: 0,
        }
    }

    /// Starts from what is durable. Answers whether a staged snapshot had to be rolled forward.
    pub(crate) fn start(&mut self, options: &Options, seed: u64) -> Result<bool, Fault> {
        let base = crate::Storage::first_index(&self.disk.synced) - 1;
        let rolls = base > self.saved.applied;
        if rolls {
            let missing = Fault::StorageInconsistent("the log starts at a snapshot that was never staged");
            self.saved = self.staged.get(&base).cloned().ok_or(missing)?;
        }
        self.boot += 1;
        self.live = self.saved.clone();
        let mut log = self.disk.synced.clone();
        log.set_conf_state(self.saved.members.clone());
        let config = Config { id: self.id, seed, applied: self.saved.applied, ..options.config.clone() };
        let storage = SimStorage { log, hot_entries: options.hot_entries, wanted: false.into() };
        let mut node = Node::new(config, storage)?;
        self.seen_term = node.hard_state().term;
        self.seen_commit = node.hard_state().commit;
        self.offer(&mut node)?;
        self.node = Some(node);
        Ok(rolls)
    }

    fn offer(&mut self, node: &mut Node<SimStorage>) -> Result<(), Fault> {
        if self.saved.applied > 0
            && self.saved.applied + 1 >= crate::Storage::first_index(&node.storage().log)
        {
            let meta = self.saved.meta();
            // A log that was just replaced by a snapshot offers that one already.
            let _ = node.storage_mut().log.create_snapshot(meta.index, meta.conf_state);
            self.offered.push_back(self.saved.clone());
            if self.offered.len() > 4 {
                self.offered.pop_front();
            }
        }
        Ok(())
    }

    /// Makes the state machine durable as it is now, and offers it to those who need a snapshot.
    pub(crate) fn checkpoint(&mut self) -> Result<(), Fault> {
        if self.live.applied <= self.saved.applied {
            return Ok(());
        }
        self.saved = self.live.clone();
        let saved = self.saved.applied;
        self.staged.retain(|index, _| *index > saved);
        if let Some(mut node) = self.node.take() {
            self.offer(&mut node)?;
            self.node = Some(node);
        }
        Ok(())
    }

    /// Drops entries that the durable state machine no longer needs. The snapshot offered covers them.
    pub(crate) fn compact(&mut self, keep: u64) -> bool {
        let Some(node) = &mut self.node else { return false };
        let index = self.saved.applied.saturating_sub(keep);
        let offered = self.offered.back().map_or(0, |store| store.applied);
        // What the disk has synced may trail what the node was told: compact both or neither.
        if index == 0 || offered < index || index > crate::Storage::last_index(&self.disk.synced) {
            return false;
        }
        let compacted = node.storage_mut().log.compact(index).is_ok();
        compacted && self.disk.synced.compact(index).is_ok()
    }

    /// Everything not durable is gone.
    pub(crate) fn crash(&mut self, kept: usize) -> Result<(u64, u64), Fault> {
        self.node = None;
        self.apply_queue.clear();
        self.applying = false;
        self.paused_until = 0;
        self.disk.crash(kept).map_err(|error| Fault::Storage(error.to_string()))
    }
}
