//! Members with disks that finish at once, and a wire whose messages arrive when a test says so.

use ketch_raft::{Config, Entry, MemoryStorage, Message, Node, Payload, ReadState};

pub(crate) struct Net {
    nodes: Vec<Option<Node<MemoryStorage>>>,
    config: Config,
    /// Sent and not delivered.
    pub(crate) wire: Vec<Message>,
    /// Confirmed reads and who got them.
    pub(crate) reads: Vec<(u64, ReadState)>,
    /// What each member applied.
    pub(crate) applied: Vec<Vec<Entry>>,
}

impl Net {
    pub(crate) fn new(config: Config, members: u64) -> Net {
        let applied = vec![Vec::new(); members as usize];
        let mut net = Net { nodes: Vec::new(), config, wire: Vec::new(), reads: Vec::new(), applied };
        net.nodes.resize_with(members as usize, || None);
        (1..=members).for_each(|id| net.start_empty(id));
        net
    }

    /// A member that was never there, or lost everything.
    pub(crate) fn start_empty(&mut self, id: u64) {
        let voters: Vec<u64> = (1..=self.nodes.len() as u64).collect();
        let config = Config { id, seed: id, ..self.config.clone() };
        self.nodes[id as usize - 1] = Some(Node::new(config, MemoryStorage::with_voters(voters)).unwrap());
    }

    pub(crate) fn stop(&mut self, id: u64) {
        self.nodes[id as usize - 1] = None;
    }

    pub(crate) fn node(&mut self, id: u64) -> &mut Node<MemoryStorage> {
        self.nodes[id as usize - 1].as_mut().unwrap()
    }

    /// Lets one member do everything that is due.
    pub(crate) fn run(&mut self, id: u64) {
        while self.node(id).has_ready() {
            let ready = self.node(id).ready();
            self.wire.extend(ready.send);
            self.reads.extend(ready.reads.into_iter().map(|read| (id, read)));
            let node = self.node(id);
            if let Some(persist) = ready.persist {
                if let Some(meta) = &persist.snapshot {
                    node.storage_mut().apply_snapshot(meta.clone());
                }
                node.storage_mut().append(&persist.entries).unwrap();
                if let Some(hard_state) = persist.hard_state {
                    node.storage_mut().set_hard_state(hard_state);
                }
                node.persisted(persist.token).unwrap();
            }
            if let Some(apply) = ready.apply {
                for entry in &apply.entries {
                    if let Payload::ConfChange(change) = &entry.payload {
                        let members = node.apply_conf_change(change).unwrap();
                        node.storage_mut().set_conf_state(members);
                    }
                }
                node.applied(apply.token).unwrap();
                self.applied[id as usize - 1].extend(apply.entries);
            }
        }
        assert_eq!(self.node(id).fault(), None, "member {id}");
    }

    pub(crate) fn tick(&mut self, id: u64) {
        self.node(id).tick();
        self.run(id);
    }

    /// Everybody's lease of a start passes, and nobody campaigns meanwhile.
    pub(crate) fn wait_for_leases(&mut self) {
        for id in 1..=self.nodes.len() as u64 {
            (0..self.config.election_ticks).for_each(|_| self.node(id).tick());
            assert!(!self.node(id).has_ready(), "member {id} campaigns at once with this seed");
        }
    }

    pub(crate) fn campaign(&mut self, id: u64) {
        self.node(id).campaign().unwrap();
        self.run(id);
    }

    /// Delivers what `pick` says, and what follows from it, until nothing more; the rest stays on the wire.
    pub(crate) fn deliver(&mut self, pick: impl Fn(&Message) -> bool) {
        while let Some(at) = self.wire.iter().position(&pick) {
            let message = self.wire.remove(at);
            let to = message.to;
            if self.nodes[to as usize - 1].is_some() {
                let _ = self.node(to).step(message);
                self.run(to);
            }
        }
    }

    pub(crate) fn commit(&mut self, id: u64) -> u64 {
        self.node(id).hard_state().commit
    }
}
