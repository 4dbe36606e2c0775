//! What the core says of reads that a change of leader overtakes.

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
