//! One HTTP/2 connection of the generator, without its socket: requests become bytes, bytes become answers.
//!
//! A request costs a few hundred nanoseconds here, so that what shares the cores with a server takes little of them. Answers are
//! not decoded: one that ends with status 0 after exactly one whole message is a success (gRPC over HTTP/2, "Responses").

use std::collections::{HashMap, VecDeque};
use std::io;

use bytes::Bytes;
use ketch_proto::tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};
use ketch_proto::tonic::{Code, Status};
use ketch_server::h2::frame::{
    self, HEAD_BYTES, Head, PAYLOAD_BYTES_MAX, PREFACE, flag, kind, setting, without_padding,
};
use ketch_server::h2::hpack::{Decoder, Name, TABLE_BYTES};

/// Flow-control windows wide enough never to be what is measured.
const WINDOW_BYTES: u32 = 16 << 20;
/// What every connection's window is at first, either way (RFC 9113, section 6.9.2).
const FIRST_WINDOW_BYTES: u32 = 65_535;
/// Room for what was read: more than any frame.
const INPUT_BYTES: usize = 64 << 10;
/// Bytes in front of a gRPC message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// One of the clients that share a connection, and what became of its request.
pub(super) type Answer = (usize, Result<(), Status>);

/// See the module.
pub(super) struct Connection {
    /// What the socket should take.
    pub(super) output: Output,
    input: Box<[u8]>,
    filled: usize,
    decoder: Decoder,
    /// The part of a header block that has come.
    block: Vec<u8>,
    /// The header block of the first request, until it has been sent.
    first: Option<Vec<u8>>,
    /// That of every other request, which refers to the first.
    again: Vec<u8>,
    next_stream: u32,
    calls: HashMap<u32, Call>,
    /// Messages that wait for a window, and those behind them.
    backlog: VecDeque<Outgoing>,
    window: i64,
    stream_window: i64,
    /// Bytes taken that the server has not been told of.
    taken: u32,
}

#[derive(Default)]
struct Call {
    client: usize,
    /// Of the answer's body.
    prefix: [u8; PREFIX_BYTES],
    body: usize,
    taken: u32,
}

struct Outgoing {
    stream: u32,
    message: Vec<u8>,
    sent: usize,
    window: i64,
}

/// Bytes on their way to the socket.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    /// What has not been sent.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// The socket took `count` of it.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }
}

impl Connection {
    /// A connection to `authority` whose requests all go to the method at `path`.
    pub(super) fn new(authority: &str, path: &str) -> Connection {
        let mut output = Output::default();
        output.bytes.extend_from_slice(PREFACE);
        let settings = [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, WINDOW_BYTES)];
        frame::write_settings(&settings, &mut output.bytes);
        frame::write_window_update(0, WINDOW_BYTES - FIRST_WINDOW_BYTES, &mut output.bytes);
        let (first, again) = header_blocks(authority, path);
        Connection {
            output,
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            filled: 0,
            decoder: Decoder::default(),
            block: Vec::new(),
            first: Some(first),
            again,
            next_stream: 1,
            calls: HashMap::new(),
            backlog: VecDeque::new(),
            window: i64::from(FIRST_WINDOW_BYTES),
            stream_window: i64::from(FIRST_WINDOW_BYTES),
            taken: 0,
        }
    }

    /// Asks for `client` with `message`, an encoded message with its five bytes in front.
    pub(super) fn request(&mut self, client: usize, message: &[u8]) {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.calls.insert(stream, Call { client, ..Call::default() });
        let first = self.first.take();
        let block = first.as_deref().unwrap_or(&self.again);
        frame::write(kind::HEADERS, flag::END_HEADERS, stream, block, &mut self.output.bytes);
        let len = message.len() as i64;
        let now = self.backlog.is_empty()
            && message.len() <= PAYLOAD_BYTES_MAX
            && len <= self.window.min(self.stream_window);
        if now {
            self.window -= len;
            frame::write(kind::DATA, flag::END_STREAM, stream, message, &mut self.output.bytes);
        } else {
            let message = message.to_vec();
            self.backlog.push_back(Outgoing { stream, message, sent: 0, window: self.stream_window });
            self.send_backlog();
        }
    }

    /// The clients whose requests are under way.
    pub(super) fn under_way(&self) -> impl Iterator<Item = usize> + '_ {
        self.calls.values().map(|call| call.client)
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// Where the next bytes of the socket belong.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.input[self.filled..]
    }

    /// `count` bytes came. Answers that are whole are appended to `answers`.
    ///
    /// # Errors
    ///
    /// The server ends the connection or does not speak HTTP/2.
    pub(super) fn receive(&mut self, count: usize, answers: &mut Vec<Answer>) -> io::Result<()> {
        self.filled += count;
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..self.filled];
        let mut outcome = Ok(());
        while let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() {
            let head = Head::read(head);
            if head.len > PAYLOAD_BYTES_MAX {
                outcome = Err(broken("a frame larger than was allowed"));
                break;
            }
            let Some((payload, after)) = after.split_at_checked(head.len) else { break };
            outcome = self.frame(head, payload, answers);
            rest = after;
            if outcome.is_err() {
                break;
            }
        }
        let left = rest.len();
        let from = self.filled - left;
        self.input = input;
        self.input.copy_within(from..self.filled, 0);
        self.filled = left;
        outcome
    }

    fn frame(&mut self, head: Head, payload: &[u8], answers: &mut Vec<Answer>) -> io::Result<()> {
        match head.kind {
            kind::DATA => self.data(head, payload, answers)?,
            kind::HEADERS => {
                let fields = without_padding(head.has(flag::PADDED), payload);
                let fields = fields.ok_or_else(|| broken("padding longer than its frame"))?;
                let skip = if head.has(flag::PRIORITY) { 5 } else { 0 };
                self.block.extend_from_slice(fields.get(skip..).unwrap_or_default());
                // Fields that end the stream may need more frames, none of which says so.
                if head.has(flag::END_HEADERS) {
                    self.fields(head.stream, head.has(flag::END_STREAM), answers)?;
                } else if head.has(flag::END_STREAM) {
                    return Err(broken("a status longer than one frame"));
                }
            }
            kind::CONTINUATION => {
                self.block.extend_from_slice(payload);
                if head.has(flag::END_HEADERS) {
                    self.fields(head.stream, false, answers)?;
                }
            }
            kind::SETTINGS if !head.has(flag::ACK) => self.settings(payload)?,
            kind::PING if !head.has(flag::ACK) => {
                frame::write(kind::PING, flag::ACK, 0, payload, &mut self.output.bytes);
            }
            kind::WINDOW_UPDATE => {
                let more = i64::from(number(payload)? & 0x7fff_ffff);
                if head.stream == 0 {
                    self.window += more;
                } else if let Some(waits) = self.backlog.iter_mut().find(|one| one.stream == head.stream) {
                    waits.window += more;
                }
                self.send_backlog();
            }
            kind::RST_STREAM => {
                let reason = number(payload)?;
                let status = Status::internal(format!("the server reset the stream, reason {reason}"));
                self.end(head.stream, Err(status), answers);
            }
            kind::GOAWAY => {
                let why = String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned();
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    format!("the server goes away: {why}"),
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, head: Head, payload: &[u8], answers: &mut Vec<Answer>) -> io::Result<()> {
        let body = without_padding(head.has(flag::PADDED), payload);
        let body = body.ok_or_else(|| broken("padding longer than its frame"))?;
        self.taken += head.len as u32;
        if self.taken >= WINDOW_BYTES / 2 {
            frame::write_window_update(0, std::mem::take(&mut self.taken), &mut self.output.bytes);
        }
        if let Some(call) = self.calls.get_mut(&head.stream) {
            for (place, byte) in call.prefix.iter_mut().skip(call.body).zip(body) {
                *place = *byte;
            }
            call.body += body.len();
            call.taken += head.len as u32;
            if call.taken >= WINDOW_BYTES / 2 {
                let taken = std::mem::take(&mut call.taken);
                frame::write_window_update(head.stream, taken, &mut self.output.bytes);
            }
        }
        if head.has(flag::END_STREAM) {
            self.end(head.stream, Err(Status::unknown("an answer without a status")), answers);
        }
        Ok(())
    }

    /// The header block is whole.
    fn fields(&mut self, stream: u32, last: bool, answers: &mut Vec<Answer>) -> io::Result<()> {
        let mut status = None;
        let mut message = None;
        let visit = self.decoder.decode(&self.block, |field| {
            if let Name::Field(name) = &field.name {
                match name.as_str() {
                    "grpc-status" => status = Some(field.value.clone()),
                    "grpc-message" => message = Some(field.value.clone()),
                    _ => {}
                }
            }
        });
        visit.map_err(|_| broken("a header block that cannot be understood"))?;
        self.block.clear();
        if last {
            let outcome = self.outcome(stream, status, message);
            self.end(stream, outcome, answers);
        }
        Ok(())
    }

    fn outcome(&self, stream: u32, status: Option<Bytes>, message: Option<Bytes>) -> Result<(), Status> {
        let Some(status) = status else {
            return Err(Status::unknown("an answer without a status"));
        };
        if Code::from_bytes(&status) != Code::Ok {
            return Err(refusal(&status, message));
        }
        let Some(call) = self.calls.get(&stream) else { return Ok(()) };
        let [_, len @ ..] = call.prefix;
        let whole = call.body >= PREFIX_BYTES && call.body - PREFIX_BYTES == u32::from_be_bytes(len) as usize;
        if whole { Ok(()) } else { Err(Status::internal("success without exactly one whole message")) }
    }

    fn end(&mut self, stream: u32, outcome: Result<(), Status>, answers: &mut Vec<Answer>) {
        if let Some(call) = self.calls.remove(&stream) {
            self.backlog.retain(|one| one.stream != stream);
            answers.push((call.client, outcome));
        }
    }

    fn settings(&mut self, payload: &[u8]) -> io::Result<()> {
        for entry in payload.chunks_exact(6) {
            let [n0, n1, value @ ..] = entry else { continue };
            let (name, value) = (u16::from_be_bytes([*n0, *n1]), number(value)?);
            match name {
                setting::HEADER_TABLE_SIZE if (value as usize) < TABLE_BYTES => {
                    return Err(broken("a server that remembers no header fields is not served here"));
                }
                setting::INITIAL_WINDOW_SIZE => {
                    let more = i64::from(value) - self.stream_window;
                    self.stream_window += more;
                    for waits in &mut self.backlog {
                        waits.window += more;
                    }
                }
                _ => {}
            }
        }
        frame::write(kind::SETTINGS, flag::ACK, 0, &[], &mut self.output.bytes);
        self.send_backlog();
        Ok(())
    }

    fn send_backlog(&mut self) {
        while let Some(first) = self.backlog.front_mut() {
            let left = first.message.len() - first.sent;
            let room = usize::try_from(self.window.min(first.window)).unwrap_or(0);
            let piece = left.min(room).min(PAYLOAD_BYTES_MAX);
            if piece == 0 {
                break;
            }
            let flags = if piece == left { flag::END_STREAM } else { 0 };
            let bytes = &first.message[first.sent..first.sent + piece];
            frame::write(kind::DATA, flags, first.stream, bytes, &mut self.output.bytes);
            first.sent += piece;
            first.window -= piece as i64;
            self.window -= piece as i64;
            if piece == left {
                self.backlog.pop_front();
            }
        }
    }
}

/// The header blocks of the first and of every further request (RFC 7541): the first has its fields remembered, in this order, so that
/// the last of them is entry 62 of the others.
fn header_blocks(authority: &str, path: &str) -> (Vec<u8>, Vec<u8>) {
    const METHOD_POST: u8 = 0x83;
    const SCHEME_HTTP: u8 = 0x86;
    const FIRST_REMEMBERED: u8 = 62;
    let fields = [
        (":authority", authority),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "ketch-load"),
    ];
    let mut first = vec![METHOD_POST, SCHEME_HTTP];
    let mut again = first.clone();
    for (at, (name, value)) in fields.into_iter().enumerate() {
        first.push(0x40);
        for text in [name, value] {
            integer(text.len(), &mut first);
            first.extend_from_slice(text.as_bytes());
        }
        again.push(0x80 | (FIRST_REMEMBERED + (fields.len() - 1 - at) as u8));
    }
    (first, again)
}

/// A length of seven bits' prefix, not Huffman coded (RFC 7541, section 5.1).
fn integer(value: usize, out: &mut Vec<u8>) {
    let Some(mut rest) = value.checked_sub(127) else {
        out.push(value as u8);
        return;
    };
    out.push(127);
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// A status that is not 0, its message decoded.
fn refusal(status: &Bytes, message: Option<Bytes>) -> Status {
    let mut fields = HeaderMap::new();
    for (name, value) in [("grpc-status", Some(status.clone())), ("grpc-message", message)] {
        if let Some(Ok(value)) = value.map(HeaderValue::from_maybe_shared) {
            fields.insert(HeaderName::from_static(name), value);
        }
    }
    Status::from_header_map(&fields).unwrap_or_else(|| Status::unknown("a status that is none"))
}

fn number(payload: &[u8]) -> io::Result<u32> {
    let bytes = payload.first_chunk().ok_or_else(|| broken("a frame that is too short"))?;
    Ok(u32::from_be_bytes(*bytes))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_request_means_the_same_fields_as_the_first() {
        let authority = "a".repeat(300);
        let (first, again) = header_blocks(&authority, "/etcdserverpb.KV/Put");
        let mut decoder = Decoder::default();
        let mut read = |block: &[u8]| {
            let mut fields = Vec::new();
            decoder.decode(block, |field| fields.push(field.clone())).unwrap();
            fields
        };
        let fields = read(&first);
        assert_eq!(fields.len(), 7);
        assert!(fields.iter().any(|field| field.name == Name::Authority && field.value == authority));
        assert!(fields.iter().any(|field| field.name == Name::Path && field.value == "/etcdserverpb.KV/Put"));
        assert_eq!(read(&again), fields);
        assert_eq!(again.len(), 7);
    }
}
