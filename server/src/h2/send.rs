//! What a client is sent: heads, data as far as windows have room, trailers.

use std::task::Context;

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};

use super::frame::{self, Head, Reason, flag, kind};
use super::state::{Fatal, State, UNSENT_MAX};

/// So many streams that wait for the connection are woken together.
const WOKEN_MAX: usize = 16;

/// What became of data that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// All of it is on its way.
    All,
    /// Not all: the task is woken when there is room.
    Blocked,
    /// The stream is gone.
    Gone,
}

impl State {
    /// Begins an answer; `ends` it at the same time if there is nothing behind the head. False if the stream is gone.
    pub fn send_head(&mut self, id: u32, status: StatusCode, headers: &HeaderMap, ends: bool) -> bool {
        if !self.streams.contains_key(&id) {
            return false;
        }
        self.wasted = self.wasted.saturating_sub(1);
        self.begin_answer(id, status, headers, ends);
        true
    }

    fn begin_answer(&mut self, id: u32, status: StatusCode, headers: &HeaderMap, ends: bool) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.answered = true;
        self.write_block(id, ends, |encoder, out| {
            encoder.status(status.as_u16(), out);
            headers.iter().for_each(|(name, value)| encoder.field(name.as_str(), value.as_bytes(), out));
        });
        if ends {
            self.ends(id);
        }
    }

    /// Ends an answer with trailers. False if the stream is gone.
    pub fn send_trailers(&mut self, id: u32, trailers: &HeaderMap) -> bool {
        if !self.streams.contains_key(&id) {
            return false;
        }
        self.write_block(id, true, |encoder, out| {
            encoder.begin(out);
            trailers.iter().for_each(|(name, value)| encoder.field(name.as_str(), value.as_bytes(), out));
        });
        self.ends(id);
        true
    }

    /// Sends as much of `data` as there is room for, and takes it off. With its last byte the answer `ends`, if it is to.
    pub fn send_data(&mut self, id: u32, data: &mut Bytes, ends: bool, task: &Context<'_>) -> Sent {
        loop {
            let Some(stream) = self.streams.get_mut(&id) else { return Sent::Gone };
            if data.is_empty() && !ends {
                return Sent::All;
            }
            let room = if self.unsent < UNSENT_MAX { self.send_window.min(stream.send_window) } else { 0 };
            if room <= 0 && !data.is_empty() {
                stream.writer = Some(task.waker().clone());
                // What blocks only this stream is no matter of the connection's.
                if stream.send_window > 0 && !std::mem::replace(&mut stream.in_line, true) {
                    self.line.push_back(id);
                }
                return Sent::Blocked;
            }
            let len = data.len().min(room.max(0) as usize).min(self.frame_max);
            stream.send_window -= len as i64;
            let piece = data.split_to(len);
            let last = ends && !data.has_remaining();
            self.data_frame(id, piece, last);
            if last {
                self.ends(id);
                return Sent::All;
            }
        }
    }

    /// A whole answer of gRPC with one small message, if there is room for it: not if the stream is gone, or would have to wait.
    /// Says which.
    pub fn send_unary(&mut self, id: u32, message: &Bytes) -> Sent {
        let Some(stream) = self.streams.get_mut(&id) else { return Sent::Gone };
        let room = self.send_window.min(stream.send_window).min(self.frame_max as i64);
        if self.unsent >= UNSENT_MAX || message.len() as i64 > room {
            return Sent::Blocked;
        }
        stream.answered = true;
        stream.send_window -= message.len() as i64;
        self.wasted = self.wasted.saturating_sub(1);
        self.write_block(id, false, |encoder, out| {
            encoder.status(200, out);
            encoder.field("content-type", b"application/grpc", out);
        });
        self.data_frame(id, message.clone(), false);
        self.write_block(id, true, |encoder, out| {
            encoder.begin(out);
            encoder.field("grpc-status", b"0", out);
        });
        self.ends(id);
        Sent::All
    }

    /// Gives a stream up that is still open.
    pub fn cancel(&mut self, id: u32, reason: Reason) {
        if self.streams.contains_key(&id) {
            self.reset(id, reason);
        }
    }

    /// Wakes some of those who wait for the connection, if it has room.
    pub(super) fn serve_line(&mut self) {
        if self.unsent >= UNSENT_MAX || self.send_window <= 0 {
            return;
        }
        let mut woken = 0;
        while woken < WOKEN_MAX
            && let Some(id) = self.line.pop_front()
        {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.in_line = false;
            if let Some(writer) = stream.writer.take() {
                writer.wake();
                woken += 1;
            }
        }
    }

    /// Refuses a request by its head alone. It counts as one that came to nothing.
    pub(super) fn refuse(&mut self, id: u32, status: StatusCode) -> Result<(), Fatal> {
        self.begin_answer(id, status, &HeaderMap::new(), true);
        self.waste()
    }

    /// The answer has ended; the stream with it, also if the client has more to say.
    fn ends(&mut self, id: u32) {
        let Some(stream) = self.remove(id) else { return };
        if !stream.received_all {
            self.write(|out| frame::write_reset(id, Reason::NoError, out));
        }
    }

    fn data_frame(&mut self, id: u32, piece: Bytes, ends: bool) {
        let flags = if ends { flag::END_STREAM } else { 0 };
        let len = piece.len();
        self.pings.forgive();
        self.send_window -= len as i64;
        self.write(|out| Head { len, kind: kind::DATA, flags, stream: id }.write(out));
        self.unsent += len;
        self.out.piece(piece);
    }

    /// Writes HEADERS, and CONTINUATION if the block is larger than a frame may be.
    fn write_block(
        &mut self,
        id: u32,
        ends: bool,
        encode: impl FnOnce(&mut super::hpack::Encoder, &mut Vec<u8>),
    ) {
        self.pings.forgive();
        let before = self.out.len();
        let (encoder, frame_max) = (&mut self.encoder, self.frame_max);
        self.out.write(|out| {
            let at = out.len();
            let ends = if ends { flag::END_STREAM } else { 0 };
            Head { len: 0, kind: kind::HEADERS, flags: flag::END_HEADERS | ends, stream: id }.write(out);
            let begin = out.len();
            encode(encoder, out);
            let len = out.len() - begin;
            if len <= frame_max {
                let [_, a, b, c] = (len as u32).to_be_bytes();
                out[at..at + 3].copy_from_slice(&[a, b, c]);
                return;
            }
            let block = out.split_off(begin);
            out.truncate(at);
            let mut pieces = block.chunks(frame_max).peekable();
            let (mut kind, mut flags) = (kind::HEADERS, ends);
            while let Some(piece) = pieces.next() {
                let last = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
                frame::write(kind, flags | last, id, piece, out);
                (kind, flags) = (kind::CONTINUATION, 0);
            }
        });
        self.unsent += self.out.len() - before;
    }
}
