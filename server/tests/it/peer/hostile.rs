//! Peers that misbehave: slow, stuck, of another cluster, with damaged bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use ketch_raft::{Body, Entry, Message};

use super::world::{End, Given, Place, heartbeat};

/// Far longer than anything here takes.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

fn big_append(index: u64, payload: &Bytes) -> Message {
    let entries = vec![Entry::normal(1, index + 1, payload.clone())];
    Message { from: 1, to: 2, term: 1, body: Body::Append { index, log_term: 1, entries, commit: 0 } }
}

/// Accepts the lanes of member 1 in the name of member 2 and hands them out by name, unread.
fn impostor(place: &Place) -> mpsc::Receiver<(String, TcpStream)> {
    let listener = TcpListener::bind(place.url.trim_start_matches("http://")).unwrap();
    let (lanes, accepted) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(PATIENCE).unwrap();
            let request = head(&mut stream);
            let lane = request.split(' ').nth(1).unwrap().rsplit('/').next().unwrap().to_owned();
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ketch-raft/1\r\n\
                          X-Etcd-Cluster-ID: c1\r\nX-Ketch-Boot: 1\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
            if lanes.send((lane, stream)).is_err() {
                return;
            }
        }
    });
    accepted
}

/// Reads up to the empty line.
fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// Calls `to` as member `from` of cluster `cluster`; returns the connection and the answer's first line.
fn call(to: &Place, from: u64, cluster: &str, lane: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(to.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(PATIENCE).unwrap();
    let request = format!(
        "GET /raft/ketch/{lane} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: ketch-raft/1\r\n\
         X-Server-From: {from:x}\r\nX-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\n\
         X-Etcd-Cluster-ID: {cluster}\r\nX-Raft-To: {:x}\r\nX-Ketch-Boot: 1\r\n\r\n",
        to.id
    );
    stream.write_all(request.as_bytes()).unwrap();
    let answer = head(&mut stream);
    (stream, answer.lines().next().unwrap().to_owned())
}

fn lane(
    accepted: &mpsc::Receiver<(String, TcpStream)>,
    wanted: &str,
    kept: &mut Vec<TcpStream>,
) -> TcpStream {
    loop {
        let (name, stream) = accepted.recv_timeout(PATIENCE.unwrap()).unwrap();
        if name == wanted {
            return stream;
        }
        kept.push(stream);
    }
}

#[test]
fn a_stuck_peer_costs_bounded_memory_and_delays_nobody() {
    let (a, b, c) = (Place::new(1), Place::new(2), Place::new(3));
    let accepted = impostor(&b);
    let (one, three) = (End::start(&a), End::start(&c));
    one.knows(&[&b, &c]);
    three.knows(&[&a]);
    let mut lanes = std::collections::BTreeMap::new();
    while lanes.len() < 2 {
        let (name, mut stream) = accepted.recv_timeout(PATIENCE.unwrap()).unwrap();
        // The first ping: the lane stands on the other side too.
        stream.read_exact(&mut [0; 17]).unwrap();
        lanes.insert(name, stream);
    }
    one.reaches(&three);
    // Nobody reads the append lane. More than it may hold, and than the system takes of it:
    let payload = Bytes::from(vec![7; 1 << 20]);
    let meter = one.metrics.peers.of(1, 2);
    let mut sent = 0;
    while meter.sent_failures.get() == 0 {
        one.network.send(&[big_append(sent, &payload)], None);
        sent += 1;
        assert!(sent < 200, "a lane without end");
    }
    one.inbox.until("the report", |given| given.unreachable.contains(&2).then_some(()));
    // It is reported once, however much more is lost; again only when the system has taken something in between, and it keeps little.
    for more in 0..100 {
        one.network.send(&[big_append(sent + more, &payload)], None);
    }
    let taken = 101_u64.checked_sub(meter.sent_failures.get()).unwrap();
    assert!(taken < 30, "the system took {taken} MiB");
    let reports = |given: &mut Given| Some(given.unreachable.iter().filter(|to| **to == 2).count() as u64);
    let reports = one.inbox.until("the reports", reports);
    assert!((1..=1 + taken).contains(&reports), "{reports} reports, {taken} MiB were taken");
    // Heartbeats to the same peer pass, and so does everything for others.
    let urgent = lanes.get_mut("urgent").unwrap();
    one.network.send(&[heartbeat(1, 2, 77)], None);
    let mut seen = Vec::new();
    while !has_round(&seen, 77) {
        let mut bytes = [0; 256];
        let count = urgent.read(&mut bytes).unwrap();
        assert!(count > 0);
        seen.extend_from_slice(&bytes[..count]);
    }
    one.reaches(&three);
    one.kill();
    three.kill();
}

/// Whether a heartbeat of this round, below 128, is among the bytes: field 10001 as its last.
fn has_round(bytes: &[u8], round: u8) -> bool {
    bytes.windows(4).any(|four| four == [0x88, 0xf1, 0x04, round])
}

#[test]
fn a_caller_of_another_cluster_is_refused() {
    let (a, b) = (Place::new(1), Place::new(2));
    let two = End::start(&b);
    two.knows(&[&a]);
    let refused = |from, cluster, lane, status: &str| {
        let (_, answer) = call(&b, from, cluster, lane);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    };
    refused(1, "c2", "urgent", "412");
    refused(9, "c1", "urgent", "404");
    refused(1, "c1", "nothing", "404");
    refused(1, "c1", "append", "101");
    two.forgets(1);
    refused(1, "c1", "append", "410");
    two.kill();
}

#[test]
fn damaged_bytes_close_the_connection() {
    let (a, b) = (Place::new(1), Place::new(2));
    let two = End::start(&b);
    two.knows(&[&a]);
    let meter = two.metrics.peers.of(2, 1);
    let garbage: [&[u8]; 4] = [
        // A length beyond the limit; a wrong checksum; an unknown kind; a message that is none.
        &[0xff; 9],
        &[1, 0, 0, 0, 1, 2, 3, 4, 1],
        &frame(99, b""),
        &frame(1, b"\xff\xff"),
    ];
    for (count, bytes) in garbage.into_iter().enumerate() {
        let (mut stream, answer) = call(&b, 1, "c1", "urgent");
        assert!(answer.contains("101"), "{answer}");
        stream.write_all(bytes).unwrap();
        // Closed, or reset: nothing more comes.
        let end = stream.read(&mut [0; 16]);
        assert!(end.is_err() || end.is_ok_and(|count| count == 0));
        two.inbox.until_polled("the count", |_| meter.received_failures.get() == count as u64 + 1);
    }
    two.kill();
}

/// A sender has one connection for each lane: what a thread waits for is bounded.
#[test]
fn a_lane_that_is_opened_again_ends_the_one_before() {
    let (a, b) = (Place::new(1), Place::new(2));
    let two = End::start(&b);
    two.knows(&[&a]);
    let ping = frame(2, &[7; 8]);
    let answers = |stream: &mut TcpStream| {
        stream.write_all(&ping).unwrap();
        stream.read_exact(&mut [0; 17]).unwrap();
    };
    let (mut first, _) = call(&b, 1, "c1", "append");
    let (mut urgent, _) = call(&b, 1, "c1", "urgent");
    answers(&mut first);
    let (mut second, _) = call(&b, 1, "c1", "append");
    answers(&mut second);
    let end = first.read(&mut [0; 16]);
    assert!(end.is_err() || end.is_ok_and(|count| count == 0));
    answers(&mut urgent);
    // Threads that wait do not keep a member from stopping, nor one from being removed.
    two.forgets(1);
    for lane in [&mut second, &mut urgent] {
        let end = lane.read(&mut [0; 16]);
        assert!(end.is_err() || end.is_ok_and(|count| count == 0));
    }
    two.kill();
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let content = [&[kind], body].concat();
    let (len, crc) = (content.len() as u32, crc32fast::hash(&content));
    [&len.to_le_bytes()[..], &crc.to_le_bytes(), &content].concat()
}

#[test]
fn a_peer_that_hangs_up_is_called_again() {
    let (a, b) = (Place::new(1), Place::new(2));
    let accepted = impostor(&b);
    let one = End::start(&a);
    one.knows(&[&b]);
    let mut kept = Vec::new();
    drop(lane(&accepted, "urgent", &mut kept));
    one.inbox.until("the loss", |given| given.unreachable.contains(&2).then_some(()));
    let _again = lane(&accepted, "urgent", &mut kept);
    one.kill();
}
