//! Lanes: order, restarts, peers that are slow, dead or of another cluster.

use bytes::Bytes;
use ketch_raft::{Body, Entry, Message, NO_ROUND, NodeId};

use super::world::{End, Given, PROBE, Place, heartbeat};

fn append(from: NodeId, to: NodeId, index: u64, payload: &Bytes) -> Message {
    let entries = vec![Entry::normal(1, index + 1, payload.clone())];
    Message { from, to, term: 1, body: Body::Append { index, log_term: 1, entries, commit: 0 } }
}

/// The rounds of the heartbeats that came, without those that only probe.
fn rounds(given: &Given) -> Vec<u64> {
    let rounds = given.messages.iter().filter_map(|message| match message.body {
        Body::Heartbeat { round, .. } => Some(round),
        _ => None,
    });
    rounds.filter(|round| *round < PROBE).collect()
}

fn indexes(given: &Given) -> Vec<u64> {
    let indexes = given.messages.iter().filter_map(|message| match message.body {
        Body::Append { index, .. } => Some(index),
        _ => None,
    });
    indexes.filter(|index| *index < PROBE).collect()
}

fn two() -> (Place, Place) {
    (Place::new(1), Place::new(2))
}

fn start(a: &Place, b: &Place) -> (End, End) {
    let (one, two) = (End::start(a), End::start(b));
    one.knows(&[b]);
    two.knows(&[a]);
    one.reaches(&two);
    (one, two)
}

#[test]
fn each_lane_keeps_its_order() {
    let (a, b) = two();
    let (one, two) = start(&a, &b);
    let (small, large) = (Bytes::from(vec![1; 200]), Bytes::from(vec![2; 40_000]));
    for batch in 0..100_u64 {
        let messages = (0..8).flat_map(|n| {
            let index = batch * 8 + n;
            let payload = if index % 7 == 0 { &large } else { &small };
            // Round 0 is none: it goes with the appends.
            [append(1, 2, index, payload), heartbeat(1, 2, index + 1)]
        });
        one.network.send(&messages.collect::<Vec<_>>(), None);
    }
    let expected: Vec<u64> = (0..800).collect();
    two.inbox.until("all messages", |given| {
        (rounds(given).len() == 800 && indexes(given).len() == 800).then(|| {
            assert!(rounds(given).into_iter().eq(1..=800));
            assert_eq!(indexes(given), expected);
        })
    });
    one.kill();
    two.kill();
}

/// Whoever applies what is committed may be at it when heartbeats come.
#[test]
fn notices_of_commits_keep_their_place_among_the_appends() {
    let (a, b) = two();
    let (one, two) = start(&a, &b);
    let payload = Bytes::from(vec![1; 40_000]);
    for index in 0..100_u64 {
        one.network.send(&[append(1, 2, index, &payload), heartbeat(1, 2, NO_ROUND)], None);
    }
    let came = |given: &Given| -> Vec<bool> {
        let is_append = |message: &Message| match message.body {
            Body::Append { index, .. } => (index < PROBE).then_some(true),
            Body::Heartbeat { round: NO_ROUND, .. } => Some(false),
            _ => None,
        };
        given.messages.iter().filter_map(is_append).collect()
    };
    let came = two.inbox.until("all messages", |given| Some(came(given)).filter(|came| came.len() == 200));
    assert!(came.chunks(2).all(|pair| pair == [true, false]));
    one.kill();
    two.kill();
}

#[test]
fn a_peer_that_starts_anew_is_found_again() {
    let (a, b) = two();
    let (one, two) = start(&a, &b);
    two.kill();
    one.inbox.until("the loss", |given| given.unreachable.contains(&2).then_some(()));
    let two = End::start(&Place { boot: 2, ..b });
    two.knows(&[&a]);
    one.reaches(&two);
    two.reaches(&one);
    assert_eq!(one.network.connected(), [2]);
    assert!(one.network.connected_since(2).is_some());
    one.kill();
    two.kill();
}

#[test]
fn three_members_hear_each_other() {
    let places = [Place::new(1), Place::new(2), Place::new(3)];
    let ends = places.each_ref().map(End::start);
    for end in &ends {
        let others: Vec<&Place> = places.iter().filter(|place| place.id != end.id).collect();
        end.knows(&others);
    }
    for from in &ends {
        for to in ends.iter().filter(|to| to.id != from.id) {
            from.reaches(to);
        }
    }
    ends.into_iter().for_each(End::kill);
}

#[test]
fn a_member_that_was_removed_is_told_so() {
    let (a, b) = two();
    let (one, two) = start(&a, &b);
    two.forgets(1);
    one.inbox.until("the bad news", |given| given.removed.then_some(()));
    assert!(two.network.connected().is_empty());
    one.kill();
    two.kill();
}

#[test]
fn members_meet_over_unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let place = |id| Place { url: format!("unix://{}/{id}.sock", dir.path().display()), ..Place::new(id) };
    let (one, two) = start(&place(1), &place(2));
    two.reaches(&one);
    one.kill();
    two.kill();
}

#[test]
fn peers_are_measured_under_etcds_names() {
    let (a, b) = two();
    let (one, two) = start(&a, &b);
    let meter = one.metrics.peers.of(1, 2);
    two.inbox.until_polled("a round trip", |_| meter.round_trip.count() > 0);
    two.inbox.until_polled("the lane's start", |_| meter.active.get() == Some(1));
    let page = one.metrics.render();
    for line in [
        r#"etcd_network_active_peers{Local="1",Remote="2"} 1"#,
        r#"etcd_network_disconnected_peers_total{Local="1",Remote="2"} 0"#,
        r#"etcd_network_peer_received_failures_total{From="2"} 0"#,
        r#"etcd_network_peer_round_trip_time_seconds_bucket{To="2",le="0.0001"}"#,
        r#"etcd_network_peer_round_trip_time_seconds_bucket{To="2",le="3.2768"}"#,
        r#"etcd_network_peer_sent_bytes_total{To="2"}"#,
        r#"etcd_network_peer_sent_failures_total{To="2"}"#,
        r#"etcd_network_snapshot_send_success{To="2"} 0"#,
        r#"etcd_network_snapshot_receive_inflights_total{From="2"} 0"#,
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    one.kill();
    two.kill();
}
