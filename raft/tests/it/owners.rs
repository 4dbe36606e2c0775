//! Mistakes of owners and storages: faults, never wrong promises.

use bytes::Bytes;
use ketch_raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeSingle, ConfState, Config, Entry, EntryId, Fault, Fetched,
    HardState, Index, MemoryStorage, Message, Node, NodeId, Rejection, SnapshotMeta, Storage, StorageError,
    Term, Transition,
};

use crate::net::Net;

fn config() -> Config {
    Config { id: 1, pre_vote: false, ..Config::default() }
}

fn five_entries() -> MemoryStorage {
    let mut storage = MemoryStorage::with_voters([1, 2]);
    storage.append(&(1..=5).map(|i| Entry::normal(3, i, Bytes::new())).collect::<Vec<_>>()).unwrap();
    storage
}

#[test]
fn a_token_of_an_earlier_life_is_refused() {
    let storage = || MemoryStorage::with_voters([1, 2, 3]);
    let mut old = Node::new(config(), storage()).unwrap();
    old.campaign().unwrap();
    let token = old.ready().persist.unwrap().token;
    let mut new = Node::new(config(), storage()).unwrap();
    new.campaign().unwrap();
    assert!(new.ready().persist.is_some());
    assert_eq!(new.persisted(token), Err(Fault::WrongToken("persist")));
    assert!(new.take_released().is_empty());
}

#[test]
fn a_stored_term_that_does_not_fit_the_log_is_a_fault() {
    let starts = |hard_state| {
        let mut storage = five_entries();
        storage.set_hard_state(hard_state);
        Node::new(config(), storage).map(|_| ())
    };
    assert_eq!(starts(HardState { term: 3, vote: 2, commit: 5 }), Ok(()));
    for lost in [HardState::default(), HardState { term: 2, vote: 1, commit: 1 }] {
        assert!(matches!(starts(lost), Err(Fault::StorageInconsistent(_))));
    }
    let endless = HardState { term: u64::MAX, vote: 0, commit: 0 };
    assert!(matches!(starts(endless), Err(Fault::StorageInconsistent(_))));
}

/// Offers a snapshot that cannot be.
struct Odd(MemoryStorage, SnapshotMeta);

impl Storage for Odd {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.0.initial_state()
    }

    fn entries(&self, low: Index, high: Index, max_bytes: u64) -> Result<Fetched, StorageError> {
        self.0.entries(low, high, max_bytes)
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        self.0.term(index)
    }

    fn first_index(&self) -> Index {
        self.0.first_index()
    }

    fn last_index(&self) -> Index {
        self.0.last_index()
    }

    fn snapshot(&self, _: Index, _: NodeId) -> Result<SnapshotMeta, StorageError> {
        Ok(self.1.clone())
    }
}

fn run(node: &mut Node<Odd>) {
    while node.has_ready() {
        let ready = node.ready();
        if let Some(persist) = ready.persist {
            node.storage_mut().0.append(&persist.entries).unwrap();
            node.persisted(persist.token).unwrap();
        }
        if let Some(apply) = ready.apply {
            node.applied(apply.token).unwrap();
        }
    }
}

/// A leader of a compacted log whose follower needs a snapshot.
fn needs_a_snapshot(offered: Index) -> Node<Odd> {
    let mut storage = five_entries();
    storage.set_hard_state(HardState { term: 3, vote: 1, commit: 5 });
    storage.compact(4).unwrap();
    let meta = SnapshotMeta { index: offered, term: 3, conf_state: ConfState::of_voters([1, 2]) };
    let mut node = Node::new(Config { applied: 5, ..config() }, Odd(storage, meta)).unwrap();
    node.campaign().unwrap();
    run(&mut node);
    let says = |body| Message { from: 2, to: 1, term: 4, body };
    node.step(says(Body::VoteAnswer { reject: false, commit: EntryId::default() })).unwrap();
    run(&mut node);
    let rejection = Some(Rejection { hint: 1, log_term: 1 });
    let _ = node.step(says(Body::AppendAnswer { index: 5, rejection }));
    node
}

#[test]
fn a_snapshot_beyond_the_log_is_a_fault_and_one_too_old_is_not_sent() {
    for absurd in [u64::MAX, 100] {
        let node = needs_a_snapshot(absurd);
        assert!(matches!(node.fault(), Some(Fault::StorageInconsistent(_))), "{absurd}");
    }
    let mut node = needs_a_snapshot(2);
    assert_eq!(node.fault(), None);
    assert!(node.ready().send.iter().all(|m| !matches!(m.body, Body::Snapshot { .. })));
    let mut node = needs_a_snapshot(5);
    assert!(node.ready().send.iter().any(|m| matches!(m.body, Body::Snapshot { .. })));
}

/// Leaving is refused while leadership is handed over; an idle group must not stay joint when that is given up.
#[test]
pub(crate) fn a_joint_configuration_is_left_after_a_transfer_that_failed() {
    let mut net = Net::new(Config::default(), 4);
    net.campaign(1);
    net.deliver(|_| true);
    let change = ConfChangeSingle { kind: ConfChangeKind::Remove, node: 4 };
    net.node(1).propose_conf_change(ConfChange::new(Transition::Implicit, vec![change])).unwrap();
    net.run(1);
    net.stop(3);
    net.node(1).transfer_leader(3).unwrap();
    net.run(1);
    net.deliver(|m| m.from != 3 && m.to != 3);
    assert!(net.node(1).status().conf_state.is_joint());
    for _ in 0..30 {
        [1, 2, 4].into_iter().for_each(|id| net.tick(id));
        net.deliver(|_| true);
    }
    assert_eq!(net.node(1).status().conf_state, ConfState::of_voters([1, 2, 3]));
}
