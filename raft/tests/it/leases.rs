//! What a leader's lease rests on (thesis, §6.4.1): a voter that was heard within it votes for nobody else.

use bytes::Bytes;
use ketch_raft::{Body, Config, Message, ReadId, ReadMode, Refusal, Role};

use crate::net::Net;

fn lease() -> Config {
    let reads = ReadMode::Lease { max_drift_ticks: 1 };
    Config { election_ticks: 10, heartbeat_ticks: 1, pre_vote: false, reads, ..Config::default() }
}

const READ: ReadId = ReadId { node: 1, boot: 1, counter: 1 };

/// Whatever 1 still serves from its lease must not lie behind what another leader committed.
fn no_stale_read(net: &mut Net, other: u64) {
    if net.node(other).soft_state().role == Role::Leader {
        net.node(other).propose(Bytes::from_static(b"new")).unwrap();
        net.run(other);
        net.deliver(|m| m.from != 1 && m.to != 1);
    }
    let committed = net.commit(other);
    net.node(1).read_index(READ).unwrap();
    net.run(1);
    assert!(net.reads.iter().all(|(_, read)| read.index >= committed), "{:?} < {committed}", net.reads);
}

/// 2 follows 1 in term 1, is carried to term 2 by an answer to its own old request, and is then asked for a vote of
/// that term: the promise to 1 still holds.
#[test]
pub(crate) fn holds_for_votes_of_the_own_term() {
    let mut net = Net::new(lease(), 3);
    net.wait_for_leases();
    net.campaign(2);
    let slow: Vec<Message> = net.wire.drain(..).collect();
    net.campaign(1);
    net.deliver(|_| true);
    assert_eq!(net.node(1).soft_state().role, Role::Leader);
    for _ in 0..25 {
        for id in [1, 2] {
            net.tick(id);
        }
        if net.node(3).soft_state().role != Role::Candidate {
            net.tick(3);
        }
        net.deliver(|m| m.from != 3 && m.to != 3);
        net.wire.retain(|m| m.from == 3);
    }
    assert_eq!(net.node(3).soft_state().role, Role::Candidate);
    let votes: Vec<Message> = net.wire.drain(..).filter(|m| m.to == 2).collect();
    net.wire = slow.into_iter().filter(|m| m.to == 3).collect();
    net.deliver(|_| true);
    assert_eq!(net.node(2).hard_state().term, 2);
    net.wire = votes;
    net.deliver(|m| m.from != 1 && m.to != 1);
    assert_eq!(net.node(3).soft_state().role, Role::Candidate);
    no_stale_read(&mut net, 3);
}

/// 3 answers its first heartbeat ever, and crashes before anything is written: it must not vote right after its start.
#[test]
pub(crate) fn outlives_a_crash_before_the_first_write() {
    let mut net = Net::new(lease(), 3);
    net.wait_for_leases();
    net.campaign(1);
    net.deliver(|m| m.from != 3 && m.to != 3);
    net.wire.clear();
    (0..8).for_each(|_| net.tick(1));
    net.wire.clear();
    while net.node(2).soft_state().role != Role::Candidate {
        net.tick(2);
    }
    let votes: Vec<Message> = net.wire.drain(..).collect();
    net.tick(1);
    net.wire.retain(|m| m.to == 3 && matches!(m.body, Body::Heartbeat { .. }));
    for beat in std::mem::take(&mut net.wire) {
        net.node(3).step(beat).unwrap();
    }
    let ready = net.node(3).ready();
    assert!(ready.persist.is_some_and(|persist| persist.must_sync), "its term is not written yet");
    net.start_empty(3);
    for answer in ready.send {
        net.node(1).step(answer).unwrap();
        net.run(1);
    }
    net.wire = votes;
    net.deliver(|m| m.from != 1 && m.to != 1);
    no_stale_read(&mut net, 2);
}

#[test]
fn nobody_campaigns_before_a_lease_of_an_earlier_life_is_over() {
    let mut net = Net::new(lease(), 1);
    assert_eq!(net.node(1).campaign(), Err(Refusal::LeaseReads));
    net.wait_for_leases();
    net.campaign(1);
    assert_eq!(net.node(1).soft_state().role, Role::Leader);
}

/// A read waits for the answer of a voter that is removed meanwhile: the leader alone is the quorum then.
#[test]
pub(crate) fn a_read_is_confirmed_when_the_quorum_shrinks_to_those_who_answered() {
    use ketch_raft::{ConfChange, ConfChangeKind, ConfState};
    let mut net = Net::new(Config::default(), 2);
    net.campaign(1);
    net.deliver(|_| true);
    net.node(1).propose_conf_change(ConfChange::single(ConfChangeKind::Remove, 2)).unwrap();
    net.run(1);
    net.node(1).read_index(READ).unwrap();
    net.run(1);
    net.wire.retain(|m| !matches!(m.body, Body::Heartbeat { .. }));
    net.deliver(|_| true);
    assert_eq!(net.node(1).status().conf_state, ConfState::of_voters([1]));
    assert_eq!(net.reads.len(), 1);
}
