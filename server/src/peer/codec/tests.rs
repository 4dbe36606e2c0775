//! Every message comes back; what is damaged does not; etcd's encoding is read and written alike.

use bytes::Bytes;
use ketch_proto::raftpb;
use ketch_raft::{
    Body, ConfChange, ConfChangeKind, ConfState, Entry, EntryId, Message, Payload, ReadId, Rejection,
    SnapshotMeta,
};
use prost::Message as _;

use super::{DecodeError, Pieces, decode, encode};

fn bytes_of(message: &Message) -> Bytes {
    let mut pieces = Pieces::default();
    encode(message, &mut pieces);
    let (mut out, mut at) = (Vec::new(), 0);
    for (place, payload) in &pieces.spliced {
        out.extend_from_slice(&pieces.encoded[at..*place]);
        out.extend_from_slice(payload);
        at = *place;
    }
    out.extend_from_slice(&pieces.encoded[at..]);
    assert_eq!(out.len(), pieces.len());
    out.into()
}

fn entries() -> Vec<Entry> {
    let change = ConfChange {
        v1: false,
        context: Bytes::from_static(b"{}"),
        ..ConfChange::single(ConfChangeKind::AddLearner, 7)
    };
    vec![
        Entry::normal(3, 11, Bytes::from_static(b"a command")),
        Entry::normal(3, 12, Bytes::new()),
        Entry::normal(4, 13, Bytes::from(vec![7; 20_000])),
        Entry { term: 4, index: 14, payload: Payload::ConfChange(change) },
    ]
}

fn every_body() -> Vec<Body> {
    let commit = EntryId { term: 3, index: 9 };
    let id = ReadId { node: 1, boot: 2, counter: 0 };
    let conf_state = ConfState {
        voters: vec![1, u64::MAX],
        learners: vec![3],
        voters_outgoing: vec![1, 2],
        learners_next: vec![2],
        auto_leave: true,
    };
    vec![
        Body::Propose { entries: entries() },
        Body::Append { index: 10, log_term: 3, entries: entries(), commit: 9 },
        Body::Append { index: 0, log_term: 0, entries: Vec::new(), commit: 0 },
        Body::AppendAnswer { index: 10, rejection: None },
        Body::AppendAnswer { index: 10, rejection: Some(Rejection { hint: 0, log_term: 2 }) },
        Body::Vote { index: 10, log_term: 3, transfer: true, commit },
        Body::Vote { index: 10, log_term: 3, transfer: false, commit: EntryId::default() },
        Body::VoteAnswer { reject: false, commit: EntryId::default() },
        Body::PreVote { index: 10, log_term: 3, commit },
        Body::PreVoteAnswer { reject: true, commit },
        Body::Heartbeat { commit: 5, round: u64::MAX },
        Body::HeartbeatAnswer { round: 6 },
        Body::Snapshot { meta: SnapshotMeta { index: 10, term: 3, conf_state } },
        Body::TransferLeader,
        Body::TimeoutNow,
        Body::ReadIndex { id },
        Body::ReadIndexAnswer { id, index: 12 },
    ]
}

fn every_message() -> Vec<Message> {
    every_body().into_iter().map(|body| Message { from: 1, to: 2, term: 4, body }).collect()
}

#[test]
fn every_message_comes_back() {
    for message in every_message() {
        assert_eq!(decode(bytes_of(&message)), Ok(message));
    }
}

#[test]
fn the_generated_code_reads_and_writes_the_same() {
    for message in every_message() {
        let wire = raftpb::Message::decode(bytes_of(&message)).unwrap();
        assert_eq!((wire.from, wire.to, wire.term), (message.from, message.to, message.term));
        assert_eq!(decode(wire.encode_to_vec().into()), Ok(message));
    }
}

#[test]
fn entries_share_the_memory_they_came_in() {
    let message = every_message().swap_remove(1);
    let bytes = bytes_of(&message);
    let range = bytes.as_ptr_range();
    let Body::Append { entries, .. } = decode(bytes.clone()).unwrap().body else { panic!("an append") };
    let Payload::Normal(data) = &entries[2].payload else { panic!("a command") };
    assert!(range.contains(&data.as_ptr()));
}

#[test]
fn what_is_cut_short_is_an_error_or_another_message() {
    for message in every_message() {
        let bytes = bytes_of(&message);
        for len in 0..bytes.len().min(300) {
            // A cut between two fields leaves a message with fields missing: the frame's length and checksum see that.
            let _either = decode(bytes.slice(..len));
        }
    }
}

#[test]
fn random_damage_never_panics() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for message in every_message() {
        let bytes = bytes_of(&message);
        for _ in 0..500 {
            let mut damaged = bytes.to_vec();
            for _ in 0..=next() % 3 {
                let at = usize::try_from(next()).unwrap() % damaged.len();
                damaged[at] = next() as u8;
            }
            if let Ok(read) = decode(damaged.into()) {
                // Whatever is understood can be said again.
                assert_eq!(decode(bytes_of(&read)), Ok(read));
            }
        }
    }
}

#[test]
fn what_is_unknown_is_refused() {
    let base = bytes_of(&Message { from: 1, to: 2, term: 3, body: Body::TimeoutNow });
    let with = |extra: &[u8]| decode([&base[..], extra].concat().into());
    // Field 13 (`vote`) and 14 (`responses`) are never on the wire; 15 is nobody's.
    for (field, extra) in [(13, [0x68, 1]), (14, [0x72, 0]), (15, [0x78, 1])] {
        assert_eq!(with(&extra), Err(DecodeError::UnknownField("raftpb.Message", field)));
    }
    assert_eq!(with(&[0x08, 0]), Err(DecodeError::UnknownType(0)), "MsgHup");
    assert_eq!(with(&[0x08, 99]), Err(DecodeError::UnknownType(99)));
    assert_eq!(with(&[0x08, 15]), Err(DecodeError::Missing("read")));
    assert_eq!(with(&[0x3a, 2, 0x08, 1]), Err(DecodeError::UnknownEntry(1)));
}
