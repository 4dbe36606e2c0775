//! What a client sends: frames found in its bytes, checked, and carried out (RFC 9113, sections 5 and 6).
//!
//! What breaks the rules of the connection ends it ([`Fatal`]); what breaks those of a stream ends the stream.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::frame::{self, HEAD_BYTES, Head, PAYLOAD_BYTES_MAX, Reason, WINDOW_MAX, flag, kind, setting};
use super::request::{FIELDS_BYTES_MAX, Problem, RequestHead};
use super::state::{Block, CONNECTION_WINDOW, Event, Fatal, Known, STREAM_WINDOW, State, Stream, UNSENT_MAX};
use crate::clock;

/// A header block comes in so many frames at most: as many as the largest one needs, and some more.
const BLOCK_FRAMES_MAX: usize = FIELDS_BYTES_MAX / PAYLOAD_BYTES_MAX * 5 / 4;
/// A head is remembered if its block is no longer than this, in bytes.
const KNOWN_BYTES_MAX: usize = 256;
/// A body is handed over with its request as long as it is not larger than this, in bytes.
const CALL_BYTES_MAX: usize = 64 << 10;
/// The same as long as so many bytes of all bodies wait to be taken. Bodies that wait for their ends must leave room for these.
const CROWDED_BYTES: i64 = CONNECTION_WINDOW as i64 / 4;

const WINDOW_TOO_LARGE: Fatal = Fatal { reason: Reason::FlowControl, why: "a window of more than 2^31 - 1" };

const fn protocol(why: &'static str) -> Fatal {
    Fatal { reason: Reason::Protocol, why }
}

const fn frame_size(why: &'static str) -> Fatal {
    Fatal { reason: Reason::FrameSize, why }
}

impl State {
    /// Takes the next bytes; adds what came of them to `events`.
    ///
    /// # Errors
    /// Why the connection ends; [`State::fail`] says so to the client.
    pub fn receive(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Fatal> {
        while !bytes.is_empty() {
            if self.partial.is_empty() {
                match self.whole_frame(bytes)? {
                    Some(head) => {
                        let (frame, rest) = bytes.split_at(HEAD_BYTES + head.len);
                        self.frame(head, &frame[HEAD_BYTES..], events)?;
                        bytes = rest;
                    }
                    None => {
                        self.partial.extend_from_slice(bytes);
                        return Ok(());
                    }
                }
                continue;
            }
            // The end of a frame that began earlier: first its head, then the rest.
            let wanted = match self.partial.first_chunk() {
                None => HEAD_BYTES,
                Some(head) => HEAD_BYTES + self.head(head)?.len,
            };
            let taken = (wanted - self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            let partial = std::mem::take(&mut self.partial);
            match self.whole_frame(&partial)? {
                Some(head) => self.frame(head, &partial[HEAD_BYTES..], events)?,
                None => self.partial = partial,
            }
        }
        Ok(())
    }

    /// The head of the frame that `bytes` begin with, if all of the frame is there.
    fn whole_frame(&self, bytes: &[u8]) -> Result<Option<Head>, Fatal> {
        let Some(head) = bytes.first_chunk() else { return Ok(None) };
        let head = self.head(head)?;
        Ok((bytes.len() >= HEAD_BYTES + head.len).then_some(head))
    }

    fn head(&self, bytes: &[u8; HEAD_BYTES]) -> Result<Head, Fatal> {
        let head = Head::read(bytes);
        if head.len > PAYLOAD_BYTES_MAX {
            return Err(frame_size("a frame is larger than was announced"));
        }
        if !self.settled && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(protocol("the first frame must be SETTINGS"));
        }
        let continues = self.block.as_ref().map(|block| block.stream);
        let fits = match continues {
            Some(stream) => head.kind == kind::CONTINUATION && head.stream == stream,
            None => head.kind != kind::CONTINUATION,
        };
        if fits { Ok(head) } else { Err(protocol("a header block comes in one piece")) }
    }

    fn frame(&mut self, head: Head, payload: &[u8], events: &mut Vec<Event>) -> Result<(), Fatal> {
        match head.kind {
            kind::DATA => self.data(head, payload, events),
            kind::HEADERS => self.headers(head, payload, events),
            kind::CONTINUATION => self.continuation(head, payload, events),
            kind::WINDOW_UPDATE => self.window_update(head, payload, events),
            kind::RST_STREAM => self.client_resets(head, payload, events),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.pinged(head, payload),
            kind::PRIORITY if head.stream == 0 => Err(protocol("PRIORITY without a stream")),
            kind::PRIORITY if payload.len() != 5 => Err(frame_size("PRIORITY has five bytes")),
            kind::PUSH_PROMISE => Err(protocol("a client promises nothing")),
            kind::GOAWAY if head.stream != 0 => Err(protocol("GOAWAY on a stream")),
            // A client that goes away takes what it asked for along; what is not known is ignored (section 4.1).
            _ => Ok(()),
        }
    }

    fn headers(&mut self, head: Head, payload: &[u8], events: &mut Vec<Event>) -> Result<(), Fatal> {
        if head.stream.is_multiple_of(2) {
            return Err(protocol("clients open odd streams"));
        }
        let block = frame::without_padding(head.has(flag::PADDED), payload)
            .ok_or(protocol("more padding than frame"))?;
        let block = if head.has(flag::PRIORITY) {
            block.get(5..).ok_or(frame_size("a priority has five bytes"))?
        } else {
            block
        };
        let ends = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.block(head.stream, ends, block, events);
        }
        self.block = Some(Block { stream: head.stream, ends, bytes: block.to_vec(), frames: 1 });
        Ok(())
    }

    fn continuation(&mut self, head: Head, payload: &[u8], events: &mut Vec<Event>) -> Result<(), Fatal> {
        let Some(mut block) = self.block.take() else { return Err(protocol("nothing to continue")) };
        block.bytes.extend_from_slice(payload);
        block.frames += 1;
        if block.bytes.len() > FIELDS_BYTES_MAX || block.frames > BLOCK_FRAMES_MAX {
            return Err(Fatal { reason: Reason::EnhanceYourCalm, why: "a header block without end" });
        }
        if head.has(flag::END_HEADERS) {
            return self.block(block.stream, block.ends, &block.bytes, events);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A whole header block: a request's, or trailers.
    fn block(&mut self, id: u32, ends: bool, block: &[u8], events: &mut Vec<Event>) -> Result<(), Fatal> {
        // Whatever becomes of it: it may hold what later ones rest on.
        let head = match self.decode(block) {
            Err(Problem::Undecodable) => {
                return Err(Fatal { reason: Reason::Compression, why: "a header block that is none" });
            }
            decoded => decoded,
        };
        if id <= self.highest {
            return self.trailers(id, ends, events);
        }
        self.highest = id;
        if self.closing || self.streams.len() >= self.options.streams_max as usize {
            self.write(|out| frame::write_reset(id, Reason::RefusedStream, out));
            return self.waste();
        }
        let head = match head {
            Ok(head) if !(ends && head.content_length.is_some_and(|length| length > 0)) => head,
            Err(Problem::TooLarge) => {
                self.begin(id, ends, None);
                return self.refuse(id, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
            }
            _ => {
                self.write(|out| frame::write_reset(id, Reason::Protocol, out));
                return self.waste();
            }
        };
        let body_left = head.content_length.filter(|_| !ends);
        self.begin(id, ends, body_left);
        if head.tag != 0 && !ends {
            // Handed over with its body.
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.held = Some(head);
            }
        } else {
            events.push(Event::Request { stream: id, head });
        }
        Ok(())
    }

    fn decode(&mut self, block: &[u8]) -> Result<Arc<RequestHead>, Problem> {
        if let Some(known) = &self.known
            && known.version == self.decoder.version()
            && *known.block == *block
        {
            return Ok(Arc::clone(&known.head));
        }
        let version = self.decoder.version();
        let mut head = RequestHead::decode(&mut self.decoder, block)?;
        head.tag = (self.options.tag)(&head);
        let head = Arc::new(head);
        // Said again, it means the same only if it changed nothing.
        if version == self.decoder.version() && block.len() <= KNOWN_BYTES_MAX {
            self.known = Some(Known { block: block.into(), version, head: Arc::clone(&head) });
        }
        Ok(head)
    }

    fn begin(&mut self, id: u32, received_all: bool, body_left: Option<u64>) {
        let stream = Stream {
            send_window: self.first_window,
            receive_window: STREAM_WINDOW.into(),
            unannounced: 0,
            received_all,
            answered: false,
            in_line: false,
            held: None,
            body_left,
            body: BytesMut::new(),
            reader: None,
            writer: None,
        };
        self.streams.insert(id, stream);
    }

    fn trailers(&mut self, id: u32, ends: bool, events: &mut Vec<Event>) -> Result<(), Fatal> {
        match self.streams.get(&id) {
            None if self.ended_early.contains(&id) => Ok(()),
            None => Err(Fatal { reason: Reason::StreamClosed, why: "HEADERS on a stream that has ended" }),
            Some(stream) if stream.received_all => self.break_stream(id, Reason::StreamClosed, events),
            Some(_) if !ends => self.break_stream(id, Reason::Protocol, events),
            Some(_) => self.body_ends(id, events),
        }
    }

    fn data(&mut self, head: Head, payload: &[u8], events: &mut Vec<Event>) -> Result<(), Fatal> {
        if head.stream.is_multiple_of(2) || head.stream > self.highest {
            return Err(protocol("DATA on a stream that has not begun"));
        }
        self.receive_window -= head.len as i64;
        if self.receive_window < 0 {
            return Err(Fatal { reason: Reason::FlowControl, why: "more than the connection's window" });
        }
        let data = frame::without_padding(head.has(flag::PADDED), payload)
            .ok_or(protocol("more padding than frame"))?;
        let id = head.stream;
        let untaken = i64::from(CONNECTION_WINDOW) - self.receive_window - i64::from(self.unannounced);
        let Some(stream) = self.streams.get_mut(&id) else {
            self.release(head.len);
            if self.ended_early.contains(&id) {
                return Ok(());
            }
            self.write(|out| frame::write_reset(id, Reason::StreamClosed, out));
            return self.waste();
        };
        stream.receive_window -= head.len as i64;
        let fault = if stream.received_all {
            Some(Reason::StreamClosed)
        } else if stream.receive_window < 0 {
            Some(Reason::FlowControl)
        } else if stream.body_left.is_some_and(|left| left < data.len() as u64) {
            Some(Reason::Protocol)
        } else {
            None
        };
        if let Some(reason) = fault {
            self.release(head.len);
            return self.break_stream(id, reason, events);
        }
        if let Some(left) = &mut stream.body_left {
            *left -= data.len() as u64;
        }
        let ends = head.has(flag::END_STREAM);
        // The usual request: small, and in one frame.
        if ends
            && stream.body.is_empty()
            && stream.body_left.is_none_or(|left| left == 0)
            && let Some(head) = stream.held.take()
        {
            stream.received_all = true;
            events.push(Event::Call { stream: id, head, body: Bytes::copy_from_slice(data) });
        } else {
            stream.body.extend_from_slice(data);
            if (stream.body.len() > CALL_BYTES_MAX || untaken > CROWDED_BYTES && !ends)
                && let Some(head) = stream.held.take()
            {
                events.push(Event::Request { stream: id, head });
            }
            if let Some(reader) = stream.reader.take() {
                reader.wake();
            }
            if ends {
                self.body_ends(id, events)?;
            }
        }
        if data.len() < head.len {
            self.release_stream(id, head.len - data.len());
        }
        Ok(())
    }

    /// The client's side of a stream ends.
    fn body_ends(&mut self, id: u32, events: &mut Vec<Event>) -> Result<(), Fatal> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.body_left.is_some_and(|left| left > 0) {
            return self.break_stream(id, Reason::Protocol, events);
        }
        stream.received_all = true;
        if let Some(head) = stream.held.take() {
            events.push(Event::Call { stream: id, head, body: stream.body.split().freeze() });
        }
        if let Some(reader) = stream.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    fn break_stream(&mut self, id: u32, reason: Reason, events: &mut Vec<Event>) -> Result<(), Fatal> {
        self.reset(id, reason);
        events.push(Event::Reset { stream: id });
        self.waste()
    }

    fn client_resets(&mut self, head: Head, payload: &[u8], events: &mut Vec<Event>) -> Result<(), Fatal> {
        if payload.len() != 4 {
            return Err(frame_size("RST_STREAM has four bytes"));
        }
        if head.stream.is_multiple_of(2) || head.stream > self.highest {
            return Err(protocol("RST_STREAM on a stream that has not begun"));
        }
        let Some(mut stream) = self.remove(head.stream) else { return Ok(()) };
        // The client knows: nothing more of it can come.
        if !stream.received_all {
            self.ended_early.pop_back();
        }
        stream.wake();
        events.push(Event::Reset { stream: head.stream });
        if stream.answered { Ok(()) } else { self.waste() }
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(protocol("SETTINGS on a stream"));
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(frame_size("an acknowledgement is empty")) };
        }
        if !payload.len().is_multiple_of(6) {
            return Err(frame_size("a setting has six bytes"));
        }
        self.settled = true;
        let mut first_window = self.first_window;
        for entry in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match name {
                setting::HEADER_TABLE_SIZE => self.encoder.set_table_bytes(value),
                setting::ENABLE_PUSH if value > 1 => return Err(protocol("pushing is on or off")),
                setting::INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_MAX => {
                    return Err(WINDOW_TOO_LARGE);
                }
                setting::INITIAL_WINDOW_SIZE => first_window = value.into(),
                setting::MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return Err(protocol("no size of a frame"));
                }
                // Larger ones than may wait to be sent are of no use.
                setting::MAX_FRAME_SIZE => self.frame_max = (value as usize).min(UNSENT_MAX),
                _ => {}
            }
        }
        // All streams are looked at for it: once a frame, and not for ever.
        if first_window != self.first_window {
            self.set_first_window(first_window)?;
            if !self.streams.is_empty() {
                self.waste()?;
            }
        }
        self.write(|out| frame::write(kind::SETTINGS, flag::ACK, 0, &[], out));
        Ok(())
    }

    fn set_first_window(&mut self, window: i64) -> Result<(), Fatal> {
        let difference = window - std::mem::replace(&mut self.first_window, window);
        for stream in self.streams.values_mut() {
            stream.send_window += difference;
            if stream.send_window > WINDOW_MAX {
                return Err(WINDOW_TOO_LARGE);
            }
            if difference > 0
                && let Some(writer) = stream.writer.take()
            {
                writer.wake();
            }
        }
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8], events: &mut Vec<Event>) -> Result<(), Fatal> {
        let Ok(increment) = <[u8; 4]>::try_from(payload) else {
            return Err(frame_size("WINDOW_UPDATE has four bytes"));
        };
        let increment = i64::from(u32::from_be_bytes(increment) & 0x7fff_ffff);
        let id = head.stream;
        if id == 0 {
            self.send_window += increment;
            return match increment {
                0 => Err(protocol("a window is opened by nothing")),
                _ if self.send_window > WINDOW_MAX => Err(WINDOW_TOO_LARGE),
                _ => {
                    self.serve_line();
                    Ok(())
                }
            };
        }
        if id.is_multiple_of(2) || id > self.highest {
            return Err(protocol("WINDOW_UPDATE on a stream that has not begun"));
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.send_window += increment;
        let reason = match increment {
            0 => Reason::Protocol,
            _ if stream.send_window > WINDOW_MAX => Reason::FlowControl,
            _ => {
                if let Some(writer) = stream.writer.take() {
                    writer.wake();
                }
                return Ok(());
            }
        };
        self.break_stream(id, reason, events)
    }

    fn pinged(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(protocol("PING on a stream"));
        }
        if payload.len() != 8 {
            return Err(frame_size("PING has eight bytes"));
        }
        if head.has(flag::ACK) {
            return Ok(());
        }
        self.pings.received(clock::now(), self.streams.is_empty())?;
        self.write(|out| frame::write(kind::PING, flag::ACK, 0, payload, out));
        Ok(())
    }
}
