//! A client by hand: frames in, frames out.

use std::task::{Context, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::super::frame::{self, HEAD_BYTES, Head, flag, kind};
use super::super::*;

/// Fields of a usual request: POST, http, /, and a type.
pub(super) const POST: &[u8] = b"\x83\x86\x84\x0f\x10\x10application/grpc";
/// The same to another place.
pub(super) const POST_CALL: &[u8] = b"\x83\x86\x44\x05/call\x0f\x10\x10application/grpc";

/// A client, and the state that it talks to.
pub(super) struct Client {
    pub(super) state: State,
    pub(super) events: Vec<Event>,
    pub(super) result: Result<(), Fatal>,
    /// What the server has sent and nobody looked at.
    pub(super) got: Vec<(Head, Vec<u8>)>,
}

pub(super) fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(kind, flags, stream, payload, &mut out);
    out
}

pub(super) fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    bytes(kind::HEADERS, flag::END_HEADERS | flags, stream, block)
}

pub(super) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    bytes(kind::DATA, flags, stream, payload)
}

pub(super) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_settings(settings, &mut out);
    out
}

pub(super) fn window(stream: u32, increment: u32) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_window_update(stream, increment, &mut out);
    out
}

pub(super) fn reset(stream: u32) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_reset(stream, Reason::Cancel, &mut out);
    out
}

/// Nobody is woken in these tests.
pub(super) fn task() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Client {
    /// Has said nothing yet.
    pub(super) fn silent() -> Client {
        let tag = |head: &RequestHead| u8::from(head.uri.path() == "/call");
        let options = Options { streams_max: 100, ping_min: std::time::Duration::ZERO, tag };
        Client { state: State::new(options), events: Vec::new(), result: Ok(()), got: Vec::new() }
    }

    /// Has said its settings, and has seen what came to that.
    pub(super) fn new() -> Client {
        let mut client = Client::silent();
        client.send(&settings(&[]));
        client.frames();
        client
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> &mut Client {
        if self.result.is_ok() {
            self.result = self.state.receive(bytes, &mut self.events);
            if let Err(fatal) = self.result {
                self.state.fail(fatal);
            }
        }
        self
    }

    /// What the server sent since the last time, all of it taken.
    pub(super) fn frames(&mut self) -> Vec<(Head, Vec<u8>)> {
        let mut out = Output::default();
        self.state.take_output(&mut out);
        let all: Vec<u8> = {
            let mut all = Vec::new();
            while !out.is_empty() {
                let first: Vec<u8> = out.slices().iter().flat_map(|part| part.to_vec()).collect();
                out.advance(first.len());
                all.extend_from_slice(&first);
            }
            all
        };
        self.state.sent(all.len());
        let (mut rest, mut frames) = (&all[..], Vec::new());
        while let Some(head) = rest.first_chunk() {
            let head = Head::read(head);
            let (payload, behind) = rest[HEAD_BYTES..].split_at(head.len);
            frames.push((head, payload.to_vec()));
            rest = behind;
        }
        assert!(rest.is_empty(), "only whole frames are sent");
        frames
    }

    /// The kinds and streams of what was sent.
    pub(super) fn kinds(&mut self) -> Vec<(u8, u32)> {
        self.frames().iter().map(|(head, _)| (head.kind, head.stream)).collect()
    }

    /// Why the server ended the connection.
    pub(super) fn goaway(&mut self) -> Option<u32> {
        let frames = self.frames();
        let (_, payload) = frames.iter().find(|(head, _)| head.kind == kind::GOAWAY)?;
        Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()))
    }

    /// Why the server ended `stream`.
    pub(super) fn reset_of(&mut self, stream: u32) -> Option<u32> {
        assert_eq!(self.result, Ok(()), "only a stream ends");
        let frames = self.frames();
        let ended = |head: &Head| head.kind == kind::RST_STREAM && head.stream == stream;
        let (_, payload) = frames.iter().find(|(head, _)| ended(head))?;
        Some(u32::from_be_bytes(payload[..].try_into().unwrap()))
    }

    pub(super) fn answer(&mut self, stream: u32, ends: bool) {
        assert!(self.state.send_head(stream, StatusCode::OK, &HeaderMap::new(), ends));
    }

    /// Sends what there is room for of so many bytes; how many that were.
    pub(super) fn send_some(&mut self, stream: u32, bytes: usize) -> usize {
        let mut data = Bytes::from(vec![7; bytes]);
        let _whatever = self.state.send_data(stream, &mut data, false, &task());
        bytes - data.len()
    }
}

impl Head {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}
