//! The islands against slow and obvious versions of themselves.

use std::collections::BTreeSet;

use ketch_raft::quorum::{Joint, Majority, VoteResult};
use ketch_raft::sim::Rng;
use ketch_raft::testing::{enter_joint, leave_joint, simple};
use ketch_raft::{
    ConfChange, ConfChangeKind, ConfChangeSingle, ConfState, Entry, Inflights, MemoryStorage, Storage,
    Tracker,
};

fn group(rng: &mut Rng) -> Vec<u64> {
    (0..rng.below(12)).map(|_| rng.between(1, 14)).collect()
}

/// The largest index that more than half hold, by trying every index.
fn slow_committed(ids: &BTreeSet<u64>, acks: &[u64]) -> u64 {
    let held = |index: u64| ids.iter().filter(|id| acks[**id as usize] >= index).count() * 2 > ids.len();
    if ids.is_empty() { u64::MAX } else { (0..=20).rev().find(|index| held(*index)).unwrap_or(0) }
}

#[test]
fn committed_index_is_what_more_than_half_hold() {
    let mut rng = Rng::new(1);
    for _ in 0..20_000 {
        let (incoming, outgoing) = (group(&mut rng), group(&mut rng));
        let acks: Vec<u64> = (0..15).map(|_| rng.below(20)).collect();
        let joint =
            Joint { incoming: Majority::new(incoming.clone()), outgoing: Majority::new(outgoing.clone()) };
        let slow = |ids: Vec<u64>| slow_committed(&ids.into_iter().collect(), &acks);
        let ack = |id: u64| Some(acks[id as usize]).filter(|ack| *ack > 0);
        assert_eq!(joint.committed_index(ack), slow(incoming).min(slow(outgoing)));
    }
}

#[test]
fn a_vote_is_decided_when_the_missing_ones_cannot_change_it() {
    let mut rng = Rng::new(2);
    for _ in 0..20_000 {
        let majority = Majority::new(group(&mut rng));
        let votes: Vec<u64> = (0..15).map(|_| rng.below(3)).collect();
        let with = |missing: bool| {
            let yes = |id: &&u64| votes[**id as usize] == 2 || (votes[**id as usize] == 0 && missing);
            majority.ids().iter().filter(yes).count() * 2 > majority.len() || majority.is_empty()
        };
        let expected = match (with(false), with(true)) {
            (true, _) => VoteResult::Won,
            (false, true) => VoteResult::Pending,
            (false, false) => VoteResult::Lost,
        };
        let vote = |id: u64| [None, Some(false), Some(true)][votes[id as usize] as usize];
        assert_eq!(majority.vote_result(vote), expected);
    }
}

#[test]
fn inflights_are_a_list_of_what_is_not_freed() {
    let mut rng = Rng::new(3);
    for _ in 0..500 {
        let (max, max_bytes) = (rng.between(1, 8) as usize, rng.below(60));
        let (mut window, mut plain) = (Inflights::new(max, max_bytes), Vec::<(u64, u64)>::new());
        let mut last = 0;
        for _ in 0..60 {
            let bytes: u64 = plain.iter().map(|sent| sent.1).sum();
            assert_eq!((window.count(), window.bytes()), (plain.len(), bytes));
            assert_eq!(window.is_full(), plain.len() >= max || (max_bytes > 0 && bytes >= max_bytes));
            if rng.chance(600) && !window.is_full() {
                last += rng.between(1, 3);
                let bytes = rng.below(20);
                window.add(last, bytes);
                plain.push((last, bytes));
            } else {
                let upto = rng.below(last + 2);
                window.free_up_to(upto);
                plain.retain(|sent| sent.0 > upto);
            }
        }
    }
}

fn steps(rng: &mut Rng) -> Vec<ConfChangeSingle> {
    let kinds = [
        ConfChangeKind::AddVoter,
        ConfChangeKind::AddLearner,
        ConfChangeKind::Remove,
        ConfChangeKind::Update,
    ];
    let one = |rng: &mut Rng| ConfChangeSingle { kind: kinds[rng.below(4) as usize], node: rng.below(6) };
    (0..rng.below(4)).map(|_| one(rng)).collect()
}

/// One by one where allowed, or at once through a joint configuration: the same members.
#[test]
fn joint_and_simple_changes_lead_to_the_same_members() {
    let mut rng = Rng::new(4);
    for _ in 0..5_000 {
        let start =
            simple(&Tracker::new(8, 0), 1, &[ConfChangeSingle { kind: ConfChangeKind::AddVoter, node: 1 }]);
        let (mut one_by_one, steps) = (start.unwrap(), steps(&mut rng));
        let joint = enter_joint(&one_by_one, 1, true, &steps).and_then(|joint| leave_joint(&joint));
        let all = steps.iter().try_for_each(|step| {
            one_by_one = simple(&one_by_one, 1, std::slice::from_ref(step))?;
            Ok::<(), ketch_raft::ChangeError>(())
        });
        if let (Ok(joint), Ok(())) = (joint, all) {
            assert_eq!(joint.conf_state(), one_by_one.conf_state(), "{steps:?}");
        }
    }
}

/// Members are what their stored form says, whatever changes led to them.
#[test]
fn members_survive_being_stored() {
    let mut rng = Rng::new(5);
    let mut joints = 0;
    for _ in 0..2_000 {
        let mut members = ConfState::of_voters([1, 2, 3]);
        for _ in 0..8 {
            let transition = ketch_raft::Transition::Explicit;
            let change = ConfChange::new(transition, steps(&mut rng));
            let change = if rng.chance(300) { ConfChange::leave() } else { change };
            // Each change starts from the stored form, so a wrong restore would show in what follows.
            if let Ok(next) = members.changed_by(&change) {
                members = next;
                let update = ConfChangeSingle { kind: ConfChangeKind::Update, node: 1 };
                if !members.is_joint() {
                    let same = members.changed_by(&ConfChange::new(Default::default(), vec![update]));
                    assert_eq!(same.as_ref(), Ok(&members));
                }
            }
            joints += u64::from(members.is_joint());
        }
    }
    assert!(joints > 1000);
}

#[test]
fn memory_storage_is_a_list_of_entries() {
    let mut rng = Rng::new(6);
    for _ in 0..300 {
        let (mut storage, mut plain, mut base) = (MemoryStorage::new(), Vec::<Entry>::new(), 0u64);
        for term in 1..30 {
            let first = base + 1 + rng.below(plain.len() as u64 + 1);
            let run: Vec<Entry> =
                (0..rng.below(4)).map(|i| Entry::normal(term, first + i, "x".into())).collect();
            storage.append(&run).unwrap();
            if !run.is_empty() {
                plain.truncate((first - base - 1) as usize);
                plain.extend(run);
            }
            if rng.chance(200) && !plain.is_empty() {
                let upto = base + rng.between(1, plain.len() as u64);
                storage.compact(upto).unwrap();
                plain.drain(..(upto - base) as usize);
                base = upto;
            }
            assert_eq!(storage.all(), plain);
            assert_eq!((storage.first_index(), storage.last_index()), (base + 1, base + plain.len() as u64));
        }
    }
}
