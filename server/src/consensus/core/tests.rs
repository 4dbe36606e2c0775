//! What the core says of reads that a change of leader overtakes, and of snapshots that raft does not take.

use ketch_raft::{Body, Config};

use super::*;

/// A follower, one voter of three.
fn follower() -> ConsensusCore {
    let mut storage = LogStorage::new((1, 1));
    storage.set_conf_state(ConfState { voters: vec![1, 2, 3], ..ConfState::default() });
    storage.set_applied(1);
    ConsensusCore::new(Node::new(Config { id: 1, applied: 1, ..Config::default() }, storage).unwrap(), 1, 1)
}

fn led(by: NodeId, term: Term) -> Input {
    let body = Body::Heartbeat { commit: 1, round: 1 };
    Input::Message(Box::new(Message { from: by, to: 1, term, body }))
}

#[test]
fn a_read_that_a_change_of_leader_overtakes_is_counted_and_asked_again() {
    let mut core = follower();
    let mut after = |input| {
        let mut out = Outputs::default();
        core.handle(&mut vec![input], &mut out).unwrap();
        let questions = out.send.iter().filter(|message| matches!(message.body, Body::ReadIndex { .. }));
        (out.reads_failed, questions.map(|message| message.to).collect::<Vec<_>>())
    };
    assert_eq!(after(led(2, 2)), (0, vec![]));
    assert_eq!(after(Input::Read { ticket: 1 }), (0, vec![2]));
    assert_eq!(after(led(3, 3)), (1, vec![]), "overtaken");
    let mut asked = vec![];
    for _ in 0..=READ_RETRY_TICKS {
        let (failed, to) = after(Input::Tick);
        assert_eq!(failed, 0, "once");
        asked.extend(to);
    }
    assert_eq!(asked, [3]);
    assert_eq!(after(led(2, 4)).0, 1, "and the next one");
}

#[test]
fn a_snapshot_that_raft_does_not_take_is_named() {
    let mut core = follower();
    let conf_state = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let mut after = |by, term, index| {
        let meta = SnapshotMeta { index, term: 2, conf_state: conf_state.clone() };
        let body = Body::Snapshot { meta };
        let message = Input::Message(Box::new(Message { from: by, to: 1, term, body }));
        let mut out = Outputs::default();
        core.handle(&mut vec![led(3, 5), message], &mut out).unwrap();
        let taken = out.persist.iter().filter_map(|job| job.snapshot.as_ref().map(|meta| meta.index));
        (taken.collect::<Vec<_>>(), out.turned_away.iter().map(|meta| meta.index).collect::<Vec<_>>())
    };
    assert_eq!(after(2, 4, 20), (vec![], vec![20]), "of an older leader");
    assert_eq!(after(3, 5, 30), (vec![30], vec![]));
    assert_eq!(after(3, 5, 30), (vec![], vec![]), "told twice, it is still wanted");
    assert_eq!(after(3, 5, 25), (vec![], vec![25]), "less than what is here");
}
