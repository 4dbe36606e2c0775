//! Arbitrary input: whatever peers send and storages answer, a node neither panics nor goes on wrongly.

use bytes::Bytes;
use ketch_raft::sim::Rng;
use ketch_raft::{
    ApplyTiming, Body, ConfChange, ConfChangeKind, ConfChangeSingle, ConfState, Config, Entry, EntryId,
    Fetched, HardState, Index, MemoryStorage, Message, Node, NodeId, Pacing, Payload, ReadId, ReadMode,
    Ready, Rejection, SnapshotMeta, Storage, StorageError, Term, Transition,
};

/// Answers nonsense now and then.
struct Liar {
    honest: MemoryStorage,
    lies: std::cell::RefCell<Rng>,
    per_mille: u64,
}

impl Liar {
    fn lie(&self) -> Option<u64> {
        let mut rng = self.lies.borrow_mut();
        rng.chance(self.per_mille).then(|| rng.next_u64() >> rng.below(64))
    }
}

impl Storage for Liar {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.honest.initial_state()
    }

    fn entries(&self, low: Index, high: Index, max_bytes: u64) -> Result<Fetched, StorageError> {
        match self.lie().map(|lie| lie % 5) {
            Some(0) => Ok(Fetched::Pending),
            Some(1) => Ok(Fetched::Here(Vec::new())),
            Some(2) => Ok(Fetched::Here(vec![Entry::normal(1, high, Bytes::new())])),
            Some(3) => Err(StorageError::Compacted),
            Some(_) => Err(StorageError::Failed("on fire".to_string())),
            None => self.honest.entries(low, high, max_bytes),
        }
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        self.lie().map_or_else(|| self.honest.term(index), Ok)
    }

    fn first_index(&self) -> Index {
        self.lie().unwrap_or_else(|| self.honest.first_index())
    }

    fn last_index(&self) -> Index {
        self.lie().unwrap_or_else(|| self.honest.last_index())
    }

    fn snapshot(&self, at_least: Index, to: NodeId) -> Result<SnapshotMeta, StorageError> {
        match self.lie() {
            Some(index) => Ok(SnapshotMeta { index, term: index, conf_state: ConfState::default() }),
            None => self.honest.snapshot(at_least, to),
        }
    }
}

fn number(rng: &mut Rng) -> u64 {
    match rng.below(12) {
        0 => rng.next_u64(),
        1 => u64::MAX - rng.below(3),
        2 => 0,
        _ => rng.below(8),
    }
}

fn ids(rng: &mut Rng) -> Vec<NodeId> {
    (0..rng.below(4)).map(|_| rng.below(5)).collect()
}

fn payload(rng: &mut Rng) -> Payload {
    if rng.chance(800) {
        return Payload::Normal(Bytes::from(vec![7; rng.below(40) as usize]));
    }
    let kinds = [
        ConfChangeKind::AddVoter,
        ConfChangeKind::AddLearner,
        ConfChangeKind::Remove,
        ConfChangeKind::Update,
    ];
    let steps = (0..rng.below(4))
        .map(|_| ConfChangeSingle { kind: kinds[rng.below(4) as usize], node: rng.below(5) })
        .collect();
    let transition = [Transition::Auto, Transition::Implicit, Transition::Explicit][rng.below(3) as usize];
    Payload::ConfChange(ConfChange::new(transition, steps))
}

fn entries(rng: &mut Rng, after: Index) -> Vec<Entry> {
    let mut term = rng.below(4);
    (0..rng.below(4))
        .map(|i| {
            term += rng.below(2);
            let index = if rng.chance(950) { after.wrapping_add(i + 1) } else { number(rng) };
            Entry { term, index, payload: payload(rng) }
        })
        .collect()
}

fn body(rng: &mut Rng) -> Body {
    let (index, log_term) = (number(rng), number(rng));
    let commit = EntryId { term: number(rng), index: number(rng) };
    let id = ReadId { node: rng.below(4), boot: 1, counter: rng.below(9) };
    match rng.below(14) {
        0 => Body::Propose { entries: entries(rng, 0) },
        1..=3 => Body::Append { index, log_term, entries: entries(rng, index), commit: commit.index },
        4 | 5 => {
            let rejection = rng.chance(500).then_some(Rejection { hint: commit.index, log_term });
            Body::AppendAnswer { index, rejection }
        }
        6 => Body::Vote { index, log_term, transfer: rng.chance(300), commit },
        7 => Body::VoteAnswer { reject: rng.chance(300), commit },
        8 => Body::PreVote { index, log_term, commit },
        9 => Body::PreVoteAnswer { reject: rng.chance(300), commit },
        10 => Body::Heartbeat { commit: index, round: log_term },
        11 => Body::HeartbeatAnswer { round: index },
        12 => {
            let conf_state = ConfState {
                voters: ids(rng),
                voters_outgoing: ids(rng),
                learners: ids(rng),
                learners_next: ids(rng),
                auto_leave: rng.chance(500),
            };
            Body::Snapshot { meta: SnapshotMeta { index, term: log_term, conf_state } }
        }
        _ => match rng.below(4) {
            0 => Body::TransferLeader,
            1 => Body::TimeoutNow,
            2 => Body::ReadIndex { id },
            _ => Body::ReadIndexAnswer { id, index },
        },
    }
}

fn handle(node: &mut Node<Liar>, ready: Ready, rng: &mut Rng) {
    if let Some(persist) = ready.persist {
        if let Some(meta) = persist.snapshot {
            node.storage_mut().honest.apply_snapshot(meta);
        }
        let _ = node.storage_mut().honest.append(&persist.entries);
        let _ = node.persisted(persist.token);
    }
    if let Some(apply) = ready.apply {
        for entry in &apply.entries {
            if let Payload::ConfChange(change) = &entry.payload {
                let _ = node.apply_conf_change(change);
            }
        }
        let _ = node.applied(apply.token);
    }
    for fetch in ready.fetch {
        let entries = match rng.below(4) {
            0 => Ok(Vec::new()),
            1 => Err(StorageError::Compacted),
            2 => Ok(vec![Entry::normal(number(rng), number(rng), Bytes::new())]),
            _ => Ok(entries(rng, fetch.low.wrapping_sub(1))),
        };
        node.fetched(fetch.token, entries);
    }
}

fn node(seed: u64, per_mille: u64) -> Option<Node<Liar>> {
    let mut rng = Rng::new(seed);
    let mut honest = MemoryStorage::with_voters([1, 2, 3]);
    if rng.chance(300) {
        let conf_state = ConfState { learners: vec![4], ..ConfState::of_voters([1, 2]) };
        honest.apply_snapshot(SnapshotMeta { index: 3, term: 1, conf_state });
    }
    let config = Config {
        id: 1,
        election_ticks: 3,
        seed,
        pre_vote: rng.chance(500),
        check_quorum: true,
        pacing: if rng.chance(500) { Pacing::Gathered } else { Pacing::Stepwise },
        apply: if rng.chance(500) { ApplyTiming::AfterPersist } else { ApplyTiming::WithPersist },
        reads: if rng.chance(500) { ReadMode::Quorum } else { ReadMode::Lease { max_drift_ticks: 1 } },
        max_applying_bytes: rng.below(100),
        max_append_bytes: rng.below(100),
        disable_change_validation: rng.chance(200),
        ..Config::default()
    };
    Node::new(config, Liar { honest, lies: Rng::new(seed).into(), per_mille }).ok()
}

fn torment(seed: u64, per_mille: u64, steps: u64) -> bool {
    let Some(mut node) = node(seed, per_mille) else { return false };
    let mut rng = Rng::new(seed ^ 0xBAD);
    for _ in 0..steps {
        match rng.below(20) {
            0 => node.tick(),
            1 => drop(node.campaign()),
            2 => drop(node.propose(Bytes::from_static(b"x"))),
            3 => {
                if let Payload::ConfChange(change) = payload(&mut rng) {
                    let _ = node.propose_conf_change(change);
                }
            }
            4 => drop(node.transfer_leader(rng.below(5))),
            5 => drop(node.read_index(ReadId { node: 1, boot: 1, counter: rng.below(99) })),
            6 => node.report_unreachable(rng.below(5)),
            7 => node.report_snapshot(rng.below(5), rng.chance(500)),
            8 => drop(node.forget_leader()),
            9..=12 => {
                let ready = node.ready();
                handle(&mut node, ready, &mut rng);
            }
            _ => {
                let term =
                    if rng.chance(700) { node.hard_state().term + rng.below(2) } else { number(&mut rng) };
                let (from, to) = (rng.below(5), if rng.chance(980) { 1 } else { rng.below(5) });
                let _ = node.step(Message { from, to, term, body: body(&mut rng) });
            }
        }
        let _ = node.status();
    }
    node.fault().is_some()
}

#[test]
fn arbitrary_messages_never_panic() {
    let faults = (0..3000).filter(|seed| torment(*seed, 0, 200)).count();
    assert!(faults > 0, "impossible messages were taken for possible ones");
    assert!(faults < 3000, "every run faulted: nothing deep was reached");
}

#[test]
fn lying_storages_never_panic() {
    let faults = (0..3000).filter(|seed| torment(*seed, 20, 200)).count();
    assert!(faults > 0);
}

#[test]
fn a_faulted_node_refuses_everything() {
    let mut node = node(1, 0).unwrap();
    let body = Body::Heartbeat { commit: 99, round: 1 };
    node.step(Message { from: 2, to: 1, term: 5, body }).unwrap_err();
    let fault = node.fault().cloned().expect("entries were lost here");
    assert!(fault.to_string().contains("add it again"), "{fault}");
    assert!(!node.has_ready() && node.ready().is_empty());
    assert_eq!(node.propose(Bytes::new()), Err(ketch_raft::Refusal::Faulted));
    assert_eq!(node.apply_conf_change(&ConfChange::leave()), Err(fault));
}

/// A slice of what the fuzzer does, from seeds.
#[test]
fn arbitrary_bytes_never_panic() {
    for seed in 0..600 {
        let mut rng = Rng::new(seed);
        let bytes: Vec<u8> = (0..rng.below(1500)).map(|_| rng.next_u64() as u8).collect();
        crate::stepping::run(&bytes);
    }
}
