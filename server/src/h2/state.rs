//! One connection's state: its streams, windows and settings. Bytes go in (`receive.rs`), events and bytes come out;
//! no socket, no task. How much a client can make it hold is bounded by what is announced here.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::frame::{self, PAYLOAD_BYTES_MAX, Reason, setting};
use super::hpack::{Decoder, Encoder};
use super::output::Output;
use super::pings::Pings;
use super::request::{FIELDS_BYTES_MAX, RequestHead};

/// What a client may send on one stream before any of it is read, in bytes.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection together.
pub const CONNECTION_WINDOW: u32 = 4 << 20;
/// The window that a connection begins with, whatever is announced (RFC 9113, section 6.9.2).
const FIRST_WINDOW: u32 = (1 << 16) - 1;
/// Answers wait with their tasks when so many bytes wait for the system already.
pub const UNSENT_MAX: usize = 128 << 10;
/// So many requests more than were answered may be taken back, or be none, before the client is sent away.
pub const WASTED_MAX: u32 = 10_000;
/// So many streams that ended before their client's side had are remembered: what it had under way then is ignored.
const ENDED_EARLY_MAX: usize = 64;

/// How connections behave.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Streams that may be open at the same time.
    pub streams_max: u32,
    /// The shortest time between two pings of a client.
    pub ping_min: Duration,
    /// Looks at a head and gives its tag. Requests with one are handed over with their bodies, as [`Event::Call`], unless these
    /// are large.
    pub tag: fn(&RequestHead) -> u8,
}

/// What came of the bytes that a client sent.
#[derive(Debug)]
pub enum Event {
    /// A request has begun; its body may still be coming.
    Request {
        /// Its stream.
        stream: u32,
        /// Its head.
        head: Arc<RequestHead>,
    },
    /// A request with a tag is there as a whole. What its body takes of the windows is still taken: either
    /// [`State::consumed`] or [`State::put_back`] is due.
    Call {
        /// Its stream.
        stream: u32,
        /// Its head.
        head: Arc<RequestHead>,
        /// Its body.
        body: Bytes,
    },
    /// The client takes a request back, or the stream broke.
    Reset {
        /// Its stream.
        stream: u32,
    },
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fatal {
    /// The RFC's code.
    pub reason: Reason,
    /// In words.
    pub why: &'static str,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// What may be sent; below zero after the client has made its windows smaller.
    pub(super) send_window: i64,
    /// What the client may send.
    pub(super) receive_window: i64,
    /// What was read of it and not announced yet.
    pub(super) unannounced: u32,
    /// The client's side has ended.
    pub(super) received_all: bool,
    /// An answer has begun.
    pub(super) answered: bool,
    /// It stands in line for the connection.
    pub(super) in_line: bool,
    /// A request that waits for its body.
    pub(super) held: Option<Arc<RequestHead>>,
    /// What is still to come of the body, if the request said how long that is.
    pub(super) body_left: Option<u64>,
    /// What has come of the body and was not read.
    pub(super) body: BytesMut,
    /// Waits for the body.
    pub(super) reader: Option<Waker>,
    /// Waits for room to send, or for the end of the stream.
    pub(super) writer: Option<Waker>,
}

/// Stream numbers are spread as they are: clients choose them, but only upwards.
#[derive(Debug, Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.wrapping_mul(31).wrapping_add(u64::from(byte)));
    }
    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A header block whose end is still to come.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) ends: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: usize,
}

/// A head that was decoded, and from what: clients say the same again and again.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) block: Box<[u8]>,
    pub(super) version: u64,
    pub(super) head: Arc<RequestHead>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct State {
    pub(super) options: Options,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) known: Option<Known>,
    pub(super) streams: HashMap<u32, Stream, BuildHasherDefault<Spread>>,
    pub(super) ended_early: VecDeque<u32>,
    /// The highest stream that the client has opened.
    pub(super) highest: u32,
    /// The beginning of a frame whose end is still to come.
    pub(super) partial: Vec<u8>,
    pub(super) block: Option<Block>,
    /// The client has said its settings.
    pub(super) settled: bool,
    /// The window that the client's streams begin with.
    pub(super) first_window: i64,
    /// The largest frame that the client takes.
    pub(super) frame_max: usize,
    pub(super) send_window: i64,
    pub(super) receive_window: i64,
    pub(super) unannounced: u32,
    pub(super) out: Output,
    /// Bytes that wait for the system, here and with the connection's task.
    pub(super) unsent: usize,
    /// Streams that wait for the connection.
    pub(super) line: VecDeque<u32>,
    pub(super) pings: Pings,
    pub(super) wasted: u32,
    /// No more requests are taken.
    pub(super) closing: bool,
    /// The last stream that was taken, once the client was told which.
    last_taken: Option<u32>,
    /// The last word was said.
    pub(super) failed: bool,
}

impl State {
    /// A connection whose client has said that it speaks HTTP/2 ([`frame::PREFACE`]) and nothing else so far.
    #[must_use]
    pub fn new(options: Options) -> State {
        let mut state = State {
            options,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            known: None,
            streams: HashMap::default(),
            ended_early: VecDeque::new(),
            highest: 0,
            partial: Vec::new(),
            block: None,
            settled: false,
            first_window: FIRST_WINDOW.into(),
            frame_max: PAYLOAD_BYTES_MAX,
            send_window: FIRST_WINDOW.into(),
            receive_window: CONNECTION_WINDOW.into(),
            unannounced: 0,
            out: Output::default(),
            unsent: 0,
            line: VecDeque::new(),
            pings: Pings::new(options.ping_min),
            wasted: 0,
            closing: false,
            last_taken: None,
            failed: false,
        };
        state.write(|out| {
            let settings = [
                (setting::MAX_CONCURRENT_STREAMS, options.streams_max),
                (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
                (setting::MAX_HEADER_LIST_SIZE, FIELDS_BYTES_MAX as u32),
            ];
            frame::write_settings(&settings, out);
            frame::write_window_update(0, CONNECTION_WINDOW - FIRST_WINDOW, out);
        });
        state
    }

    /// Says that no more requests are taken. Those under way go on.
    pub fn close(&mut self) {
        if !std::mem::replace(&mut self.closing, true) && !self.failed {
            self.go_away(Reason::NoError, "");
        }
    }

    /// Says the last word and lets go of all streams.
    pub fn fail(&mut self, fatal: Fatal) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        self.go_away(fatal.reason, fatal.why);
        self.abandon();
    }

    /// Names the last stream that was taken: those after it are refused, so it stays the same when it is named again.
    fn go_away(&mut self, reason: Reason, why: &str) {
        let last = *self.last_taken.get_or_insert(self.highest);
        self.write(|out| frame::write_goaway(last, reason, why, out));
    }

    /// Lets go of all streams: their tasks find nobody any more.
    pub fn abandon(&mut self) {
        self.failed = true;
        for (_, mut stream) in std::mem::take(&mut self.streams) {
            stream.wake();
        }
    }

    /// Whether there is nothing more to do but to send what waits.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.failed || self.closing && self.streams.is_empty()
    }

    /// Whether the client has said its settings, which it does first of all.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether `stream` is open.
    #[must_use]
    pub fn is_open(&self, stream: u32) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Sends a ping.
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.write(|out| frame::write(frame::kind::PING, 0, 0, &payload, out));
    }

    /// Whether more is to be read: a client that does not take what it caused is not asked for more.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.failed && self.unsent < 2 * UNSENT_MAX
    }

    /// Whether nothing waits to be sent.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.unsent == 0
    }

    /// Hands over what waits to be sent.
    pub fn take_output(&mut self, to: &mut Output) {
        self.out.move_to(to);
    }

    /// So many bytes were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.unsent -= bytes.min(self.unsent);
        self.serve_line();
    }

    /// Wakes more of those who wait for the connection if those who were woken had nothing to send. Says whether there are still
    /// more: then this is to be called again.
    pub fn serve_idle_line(&mut self) -> bool {
        if self.line.is_empty() || self.unsent > 0 || self.send_window <= 0 {
            return false;
        }
        self.serve_line();
        !self.line.is_empty()
    }

    /// A call's body of so many bytes was taken.
    pub fn consumed(&mut self, bytes: usize) {
        self.release(bytes);
    }

    /// A call's body is to be read like any other; false if its stream is gone.
    pub fn put_back(&mut self, id: u32, body: &Bytes) -> bool {
        match self.streams.get_mut(&id) {
            Some(stream) => {
                stream.body.extend_from_slice(body);
                true
            }
            None => {
                self.release(body.len());
                false
            }
        }
    }

    pub(super) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.out.len();
        self.out.write(write);
        self.unsent += self.out.len() - before;
    }

    /// Opens the connection's window by so many bytes, some of which may be announced later.
    pub(super) fn release(&mut self, bytes: usize) {
        self.unannounced += bytes as u32;
        if self.unannounced >= CONNECTION_WINDOW / 2 {
            let increment = std::mem::take(&mut self.unannounced);
            self.receive_window += i64::from(increment);
            self.write(|out| frame::write_window_update(0, increment, out));
        }
    }

    /// Opens a stream's window, and the connection's.
    pub(super) fn release_stream(&mut self, id: u32, bytes: usize) {
        self.release(bytes);
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.received_all) else { return };
        stream.unannounced += bytes as u32;
        if stream.unannounced >= STREAM_WINDOW / 2 {
            let increment = std::mem::take(&mut stream.unannounced);
            stream.receive_window += i64::from(increment);
            self.write(|out| frame::write_window_update(id, increment, out));
        }
    }

    /// Forgets a stream. Whoever has something of it finds it gone.
    pub(super) fn remove(&mut self, id: u32) -> Option<Stream> {
        let mut stream = self.streams.remove(&id)?;
        self.release(stream.body.len());
        if !stream.received_all {
            if self.ended_early.len() >= ENDED_EARLY_MAX {
                self.ended_early.pop_front();
            }
            self.ended_early.push_back(id);
        }
        stream.wake();
        if stream.in_line && self.line.len() > 2 * self.streams.len() + 64 {
            // Those that left are skipped when their turn comes, which may be never.
            let streams = &self.streams;
            self.line.retain(|id| streams.contains_key(id));
        }
        if self.streams.is_empty() {
            // A connection that had many has one or two as a rule, or none.
            self.streams.shrink_to(16);
            self.line = VecDeque::new();
        }
        Some(stream)
    }

    /// Ends a stream on which something is wrong, or that nobody answers.
    pub(super) fn reset(&mut self, id: u32, reason: Reason) {
        self.remove(id);
        self.write(|out| frame::write_reset(id, reason, out));
    }

    /// Counts a request that came to nothing.
    pub(super) fn waste(&mut self) -> Result<(), Fatal> {
        self.wasted += 1;
        if self.wasted > WASTED_MAX {
            return Err(Fatal {
                reason: Reason::EnhanceYourCalm,
                why: "too many requests that are taken back",
            });
        }
        Ok(())
    }
}

impl Stream {
    pub(super) fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}
