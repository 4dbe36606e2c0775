//! A sole voter goes through the ordinary protocol.

use bytes::Bytes;
use ketch_raft::{Config, Entry, HardState, MemoryStorage, Node, Payload, Role, bootstrap};

/// Handles Readys until none is left; answers what was applied.
fn drain(node: &mut Node<MemoryStorage>) -> Vec<Entry> {
    let mut applied = Vec::new();
    while node.has_ready() {
        let ready = node.ready();
        assert!(ready.send.is_empty(), "a sole voter has nobody to talk to");
        if let Some(persist) = ready.persist {
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
            applied.extend(apply.entries);
            node.applied(apply.token).unwrap();
        }
    }
    assert_eq!(node.fault(), None);
    applied
}

fn config(applied: u64) -> Config {
    Config { id: 1, applied, ..Config::default() }
}

#[test]
fn bootstraps_campaigns_commits_and_restarts() {
    let (hard_state, entries) = bootstrap(&[(1, Bytes::from_static(b"http://localhost"))]);
    let mut storage = MemoryStorage::new();
    storage.set_hard_state(hard_state);
    storage.append(&entries).unwrap();

    let mut node = Node::new(config(0), storage).unwrap();
    assert_eq!(drain(&mut node), entries);
    node.campaign().unwrap();
    let applied = drain(&mut node);
    assert_eq!(node.soft_state().role, Role::Leader);
    assert_eq!(applied, [Entry::normal(2, 2, Bytes::new())]);

    node.propose(Bytes::from_static(b"put")).unwrap();
    assert_eq!(drain(&mut node), [Entry::normal(2, 3, Bytes::from_static(b"put"))]);

    let storage = node.storage().clone();
    let mut node = Node::new(config(3), storage).unwrap();
    assert!(drain(&mut node).is_empty(), "nothing is applied twice");
    assert_eq!(node.hard_state(), HardState { term: 2, vote: 1, commit: 3 });
    node.campaign().unwrap();
    assert_eq!(drain(&mut node), [Entry::normal(3, 4, Bytes::new())]);
}

#[test]
fn nothing_is_committed_before_it_is_durable() {
    let mut node = Node::new(config(0), MemoryStorage::with_voters([1])).unwrap();
    node.campaign().unwrap();
    drain(&mut node);
    node.propose(Bytes::from_static(b"x")).unwrap();
    let ready = node.ready();
    assert_eq!(ready.persist.as_ref().map(|persist| persist.entries.len()), Some(1));
    assert!(ready.apply.is_none());
    assert_eq!(node.status().commit, 1);
    assert!(!node.has_ready(), "the node waits for the log");
}
