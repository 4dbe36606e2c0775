//! A lane: messages to one peer in order, over one connection, bounded.
//!
//! Whoever brings messages writes them to the socket at once, unless another thread is writing (it takes these along) or
//! the socket is full (the link's task goes on when there is room). So a message costs no wake-up of a thread of
//! this member, and messages that come while the socket is busy go out together.
//!
//! Invariants:
//! 1. Frames are written in the order they were pushed: only who set `writing` writes.
//! 2. What waits is below the limits, counted with what is being written.
//! 3. What was pushed for one connection never goes over the next: the peer may have restarted in between.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use ketch_raft::Message;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::codec;
use super::frame::{Kind, Outgoing};
use super::stream::Stream;
use crate::clock;
use crate::consensus::shell::Pace;
use crate::metrics::Counter;
use crate::sync::lock;

/// Messages that follow one another sooner are written together.
const FAST: Duration = Duration::from_micros(250);
/// Pieces of one write.
const PIECES_MAX: usize = 64;

/// How much may wait in a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) bytes: usize,
    pub(crate) frames: usize,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits to be written.
    Queued,
    /// It is lost; and whether it is the first that is since the lane last was fine.
    Dropped {
        /// The raft core is to hear of it.
        first: bool,
    },
}

/// Messages to one peer.
#[derive(Debug)]
pub(crate) struct Lane {
    limit: Limit,
    state: Mutex<State>,
    /// Wakes the link's task: the socket is full, or broken.
    pub(crate) wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: Outgoing,
    link: Option<Link>,
    /// A message was lost, and raft was told, since the lane last was fine.
    lossy: bool,
}

#[derive(Debug)]
struct Link {
    stream: Arc<Stream>,
    /// Somebody writes, or the socket is full and the link's task will.
    writing: bool,
    writing_bytes: usize,
    writing_frames: usize,
    /// What the socket had no room for.
    stuck: Option<Outgoing>,
    broken: Option<ErrorKind>,
    /// Bytes that the socket has taken.
    written: u64,
    /// When something was last written.
    last: Option<Instant>,
}

impl Lane {
    pub(crate) fn new(limit: Limit) -> Lane {
        Lane { limit, state: Mutex::default(), wake: Notify::new() }
    }

    /// Takes `message`, to be written by the next [`flush`](Self::flush).
    pub(crate) fn push(&self, message: &Message) -> Pushed {
        let mut state = lock(&self.state);
        let has_room = state.link.as_ref().is_some_and(|link| {
            link.broken.is_none()
                && state.queue.bytes() + link.writing_bytes < self.limit.bytes
                && state.queue.frames() + link.writing_frames < self.limit.frames
        });
        if !has_room {
            let first = !std::mem::replace(&mut state.lossy, true);
            return Pushed::Dropped { first };
        }
        state.queue.push(Kind::Message, |body| codec::encode(message, body));
        Pushed::Queued
    }

    /// Bytes and frames that wait, those that are being written among them.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = lock(&self.state);
        let (bytes, frames) =
            state.link.as_ref().map_or((0, 0), |link| (link.writing_bytes, link.writing_frames));
        (state.queue.bytes() + bytes, state.queue.frames() + frames)
    }

    /// Asks the peer for a sign of life, to be answered with `token`.
    pub(crate) fn ping(&self, token: u64) {
        lock(&self.state).queue.push(Kind::Ping, |body| body.encoded.put_u64_le(token));
    }

    /// Writes what waits at once, or leaves it to the link's task when messages come so fast that they are better written
    /// together: each write costs the system more than the message costs us. A lone one has no company to wait for.
    pub(crate) fn hand_over(&self, pace: Pace, sent_bytes: &Counter) {
        let now = clock::now();
        let is_fast = {
            let mut state = lock(&self.state);
            let Some(link) = state.link.as_mut() else { return };
            link.last.replace(now).is_some_and(|last| now - last < FAST)
        };
        if is_fast && pace == Pace::Busy { self.wake.notify_one() } else { self.flush(sent_bytes) }
    }

    /// Writes what waits, as far as the socket takes it. Never waits.
    pub(crate) fn flush(&self, sent_bytes: &Counter) {
        while let Some((stream, mut batch)) = self.begin() {
            let before = batch.bytes();
            let outcome = write(&stream, &mut batch);
            sent_bytes.add((before - batch.bytes()) as u64);
            if !self.end(&stream, batch, before, outcome) {
                return;
            }
        }
    }

    /// Takes what waits, unless somebody else is writing.
    fn begin(&self) -> Option<(Arc<Stream>, Outgoing)> {
        let mut state = lock(&self.state);
        let State { queue, link, .. } = &mut *state;
        let link = link.as_mut().filter(|link| !link.writing && link.broken.is_none())?;
        if queue.is_empty() {
            return None;
        }
        link.writing = true;
        link.writing_bytes = queue.bytes();
        link.writing_frames = queue.frames();
        let mut batch = std::mem::take(queue);
        batch.seal();
        Some((Arc::clone(&link.stream), batch))
    }

    /// Notes how writing went; true to go on.
    fn end(&self, stream: &Arc<Stream>, batch: Outgoing, before: usize, outcome: io::Result<()>) -> bool {
        let mut state = lock(&self.state);
        let State { link, lossy, .. } = &mut *state;
        let Some(link) = link.as_mut().filter(|link| Arc::ptr_eq(&link.stream, stream)) else { return true };
        link.written += (before - batch.bytes()) as u64;
        link.writing_bytes = batch.bytes();
        match outcome {
            Ok(()) => {
                link.writing = false;
                link.writing_frames = 0;
                *lossy = false;
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => link.stuck = Some(batch),
            Err(error) => link.broken = Some(error.kind()),
        }
        drop(state);
        self.wake.notify_one();
        false
    }

    /// Goes on where the socket was full. For the link's task.
    pub(crate) fn resume(&self, sent_bytes: &Counter) {
        let taken = lock(&self.state).link.as_mut().and_then(|link| {
            let stuck = link.stuck.take()?;
            Some((Arc::clone(&link.stream), stuck))
        });
        let Some((stream, mut batch)) = taken else { return };
        let before = batch.bytes();
        let outcome = write(&stream, &mut batch);
        sent_bytes.add((before - batch.bytes()) as u64);
        if self.end(&stream, batch, before, outcome) {
            self.flush(sent_bytes);
        }
    }

    /// Whether the socket is full, and how many bytes it has taken so far; why it is broken, if it is.
    pub(crate) fn link_state(&self) -> (bool, u64, Option<ErrorKind>) {
        let state = lock(&self.state);
        state.link.as_ref().map_or((false, 0, None), |link| (link.stuck.is_some(), link.written, link.broken))
    }

    /// The lane stands. Says whether messages were lost since raft last heard of a loss.
    pub(crate) fn connect(&self, stream: Arc<Stream>) -> bool {
        let mut state = lock(&self.state);
        state.queue = Outgoing::default();
        state.link = Some(Link {
            stream,
            writing: false,
            writing_bytes: 0,
            writing_frames: 0,
            stuck: None,
            broken: None,
            written: 0,
            last: None,
        });
        std::mem::take(&mut state.lossy)
    }

    /// The connection is gone, and all that waited for it.
    pub(crate) fn disconnect(&self) {
        let mut state = lock(&self.state);
        state.queue = Outgoing::default();
        state.link = None;
        state.lossy = true;
    }
}

/// Writes all of `batch`, or until the socket is full.
fn write(stream: &Stream, batch: &mut Outgoing) -> io::Result<()> {
    while !batch.is_empty() {
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let count = batch.slices(&mut pieces);
        match stream.try_write(&pieces[..count]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => batch.advance(written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads what is there; false at the end of the connection.
pub(crate) fn read(stream: &Stream, into: &mut BytesMut) -> io::Result<bool> {
    into.reserve(1024);
    match stream.try_read(into) {
        Ok(count) => Ok(count > 0),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(true),
        Err(error) => Err(error),
    }
}
