//! The bytes of responses. What differs from watcher to watcher is written here; events are spliced in as they are, encoded once
//! for all who watch them, and large ones are not even copied.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ketch_mvcc::Event;
use ketch_proto::etcdserverpb::WatchResponse;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::grpc::HEAD_BYTES;
use crate::grpc::outgoing::MESSAGE_BYTES_MAX;

/// From how many bytes on an event is handed out rather than copied.
const SPLICE_BYTES: usize = 8 << 10;
/// About how many bytes go out in one frame. One watcher's response may make it larger.
const FRAME_BYTES: usize = 16 << 10;
/// A response with more bytes of events goes out in several, if there are several revisions in it.
const RESPONSE_BYTES: usize = 1 << 20;
/// The field of the events in `WatchResponse`; the last one, so it can follow everything else.
const EVENTS: u32 = 11;
/// What a response that is followed by its next part has in front of its events.
const FRAGMENT_BYTES: usize = 2;

/// Responses on their way out, as pieces to send one after the other.
#[derive(Debug, Default)]
pub struct Frames {
    open: Vec<u8>,
    closed: VecDeque<Bytes>,
    bytes: usize,
    too_long: Option<usize>,
}

impl Frames {
    /// Whether enough is there to be sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes >= FRAME_BYTES
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The length of a response that no client could take. It was left out, and with it all that came behind it: once the others
    /// are taken, the stream must end.
    #[must_use]
    pub fn too_long(&self) -> Option<usize> {
        self.too_long
    }

    /// Takes the next piece.
    pub fn pop(&mut self) -> Option<Bytes> {
        if self.closed.is_empty() {
            self.close();
        }
        let piece = self.closed.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    /// Adds a response: `fixed`, which has no events, and after it `events`.
    pub fn push(&mut self, fixed: &WatchResponse, events: &[Bytes]) {
        let len = fixed.encoded_len() + events.iter().map(|event| event_len(event)).sum::<usize>();
        // A delete of many large values, with the values, in one response.
        let wire_len =
            u32::try_from(len).ok().filter(|_| len <= MESSAGE_BYTES_MAX && self.too_long.is_none());
        let Some(wire_len) = wire_len else {
            self.too_long.get_or_insert(len);
            return;
        };
        self.open.reserve(HEAD_BYTES + len.min(FRAME_BYTES));
        self.bytes += HEAD_BYTES + len;
        self.open.push(0);
        self.open.extend_from_slice(&wire_len.to_be_bytes());
        fixed.encode_raw(&mut self.open);
        for event in events {
            encode_key(EVENTS, WireType::LengthDelimited, &mut self.open);
            encode_varint(event.len() as u64, &mut self.open);
            if event.len() < SPLICE_BYTES {
                self.open.extend_from_slice(event);
            } else {
                self.close();
                self.closed.push_back(event.clone());
            }
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push_back(std::mem::take(&mut self.open).into());
        }
    }
}

/// What an event takes in a response.
fn event_len(event: &[u8]) -> usize {
    key_len(EVENTS) + encoded_len_varint(event.len() as u64) + event.len()
}

/// Adds `events` of one watcher in one response, or in several if they are many: whole revisions in each.
pub fn push_events(frames: &mut Frames, fixed: &WatchResponse, events: &[Arc<Event>], previous: bool) {
    if let [event] = events {
        return frames.push(fixed, &[event.wire(previous)]);
    }
    let wires: Vec<Bytes> = events.iter().map(|event| event.wire(previous)).collect();
    let (mut begin, mut bytes) = (0, 0);
    for at in 0..events.len() {
        let new_revision = at > begin && events[at].revision() != events[at - 1].revision();
        if new_revision && bytes >= RESPONSE_BYTES {
            frames.push(fixed, &wires[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += wires[at].len();
    }
    frames.push(fixed, &wires[begin..]);
}

/// Adds `events` of one watcher that accepts fragments: a response of `bytes_max` or more is split between events.
pub fn push_fragments(
    frames: &mut Frames,
    fixed: &WatchResponse,
    events: &[Arc<Event>],
    previous: bool,
    bytes_max: usize,
) {
    let wires: Vec<Bytes> = events.iter().map(|event| event.wire(previous)).collect();
    let lens: Vec<usize> = wires.iter().map(|wire| event_len(wire)).collect();
    if fixed.encoded_len() + lens.iter().sum::<usize>() < bytes_max {
        return frames.push(fixed, &wires);
    }
    let parts = parts(&lens, fixed.encoded_len() + FRAGMENT_BYTES, bytes_max);
    let last = parts.len().saturating_sub(1);
    for (number, part) in parts.into_iter().enumerate() {
        frames.push(&WatchResponse { fragment: number < last, ..fixed.clone() }, &wires[part]);
    }
}

/// Cuts events of these lengths into parts that stay, each with `head` bytes, below `bytes_max`; but every part has one.
fn parts(lens: &[usize], head: usize, bytes_max: usize) -> Vec<std::ops::Range<usize>> {
    let (mut parts, mut begin, mut bytes) = (Vec::new(), 0, head);
    for (at, len) in lens.iter().enumerate() {
        if at > begin && bytes + len >= bytes_max {
            parts.push(begin..at);
            (begin, bytes) = (at, head);
        }
        bytes += len;
    }
    parts.push(begin..lens.len());
    parts
}

#[cfg(test)]
mod tests {
    use ketch_proto::etcdserverpb::ResponseHeader;
    use ketch_proto::mvccpb::{Event as EventMessage, KeyValue, event::EventType};

    use super::*;

    fn fixed() -> WatchResponse {
        let header = ResponseHeader { cluster_id: 1, member_id: 2, revision: 300, raft_term: 4 };
        WatchResponse { header: Some(header), watch_id: 7, ..WatchResponse::default() }
    }

    fn event(value_bytes: usize) -> EventMessage {
        let kv = KeyValue {
            key: Bytes::from_static(b"key"),
            value: vec![b'v'; value_bytes].into(),
            mod_revision: 300,
            ..KeyValue::default()
        };
        EventMessage { r#type: EventType::Put as i32, kv: Some(kv), prev_kv: None }
    }

    fn drain(mut frames: Frames) -> (usize, Vec<u8>) {
        let (mut pieces, mut wire) = (0, Vec::new());
        while let Some(piece) = frames.pop() {
            pieces += 1;
            wire.extend_from_slice(&piece);
        }
        assert!(frames.is_empty());
        (pieces, wire)
    }

    #[test]
    fn the_bytes_are_those_of_a_grpc_message() {
        for value_bytes in [0, 10, 300, SPLICE_BYTES, 100_000] {
            let response = WatchResponse { events: vec![event(3), event(value_bytes), event(4)], ..fixed() };
            let events: Vec<Bytes> =
                response.events.iter().map(|event| event.encode_to_vec().into()).collect();
            let mut frames = Frames::default();
            frames.push(&fixed(), &events);
            frames.push(&fixed(), &[]);
            let (pieces, wire) = drain(frames);
            let mut expected = Vec::new();
            for message in [response.encode_to_vec(), fixed().encode_to_vec()] {
                expected.push(0);
                expected.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
                expected.extend_from_slice(&message);
            }
            assert_eq!(wire, expected);
            assert_eq!(pieces, if value_bytes < SPLICE_BYTES { 1 } else { 3 }, "large events stand alone");
        }
    }

    #[test]
    fn a_response_that_is_too_long_is_left_out_and_so_is_all_behind_it() {
        let event: Bytes = vec![0; 16 << 20].into();
        let mut frames = Frames::default();
        frames.push(&fixed(), &vec![event.clone(); 127]);
        assert_eq!(frames.too_long(), None);
        frames.push(&fixed(), &vec![event.clone(); 128]);
        frames.push(&fixed(), &[]);
        assert!(frames.too_long().is_some_and(|len| len > 1 << 31));
        let mut bytes = 0;
        while let Some(piece) = frames.pop() {
            bytes += piece.len();
        }
        assert!((127 << 24..128 << 24).contains(&bytes), "{bytes}");
        assert!(frames.is_empty() && frames.too_long().is_some());
    }

    #[test]
    fn large_events_are_not_copied() {
        let event: Bytes = vec![0; SPLICE_BYTES].into();
        let mut frames = Frames::default();
        frames.push(&fixed(), std::slice::from_ref(&event));
        let _head = frames.pop();
        assert_eq!(frames.pop().unwrap().as_ptr(), event.as_ptr());
    }

    #[test]
    fn parts_stay_below_the_limit_unless_one_event_is_above_it() {
        assert_eq!(parts(&[40, 40, 40], 10, 100), [0..2, 2..3]);
        assert_eq!(parts(&[40, 50, 40], 10, 100), [0..1, 1..2, 2..3], "the limit itself is too much");
        assert_eq!(parts(&[500, 10, 500], 10, 100), [0..1, 1..2, 2..3]);
        assert_eq!(parts(&[500, 600], 10, 100), [0..1, 1..2]);
    }
}
