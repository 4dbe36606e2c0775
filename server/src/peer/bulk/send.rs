//! The sender of a snapshot.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ketch_mvcc::{Chunk, Export, Fault, Held};
use ketch_raft::{Message, SnapshotMeta};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::{CHUNK_BYTES, SILENCE_MAX, WINDOW_BYTES};
use crate::clock::{self, Stopwatch};
use crate::peer::PING_EVERY;
use crate::peer::codec;
use crate::peer::frame::{self, FrameError, Kind, Outgoing};
use crate::peer::handshake::{self, DialError};
use crate::peer::network::Inner;
use crate::peer::reports::Report;
use crate::peer::table::Peer;
use crate::staging::Pinned;
use crate::stint;

/// Pause before a transfer that was cut off goes on.
const RESUME_AFTER: Duration = Duration::from_millis(100);

/// Attempts to go on that bring nothing, before the transfer is given up.
const FRUITLESS_MAX: usize = 20;

/// Why a snapshot did not arrive.
#[derive(Debug)]
enum SendError {
    Dial(DialError),
    Io(io::Error),
    Frame(FrameError),
    /// The receiver says why.
    Refused(String),
    /// The receiver is taking in another one, or has not noticed yet that this one was cut off.
    Busy,
    /// A frame that makes no sense here.
    Unexpected(Kind),
    /// The own store cannot be read.
    Export(Fault),
    /// The receiver is no member any more.
    Unwanted,
    Silent,
}

impl SendError {
    /// Whether another attempt may go better.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Dial(_) | Self::Silent | Self::Busy)
    }
}

impl From<io::Error> for SendError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<FrameError> for SendError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Frame(error) => error.fmt(f),
            Self::Refused(why) => f.write_str(why),
            Self::Busy => f.write_str("the receiver is busy"),
            Self::Unexpected(kind) => write!(f, "unexpected frame {kind:?}"),
            Self::Export(fault) => write!(f, "the store cannot be read: {fault}"),
            Self::Unwanted => f.write_str("the receiver is no member any more"),
            Self::Silent => f.write_str("the receiver is silent"),
        }
    }
}

/// Sends the snapshot of `message` with the content of `pinned`, and reports how it went. A transfer that is cut off
/// goes on where the receiver has come to, as long as each attempt brings it further.
pub(in crate::peer) async fn send(net: Arc<Inner>, peer: Arc<Peer>, message: Message, pinned: Pinned) {
    let took = Stopwatch::start();
    let meter = &peer.meter.snapshot_send;
    meter.inflights.inc();
    let outcome = attempts(&net, &peer, &message, &pinned).await;
    meter.inflights.dec();
    let SnapshotMeta { index, .. } = pinned.meta;
    let to = format_args!("{:x}", peer.id).to_string();
    match &outcome {
        Ok(()) => {
            meter.duration.observe(took.elapsed());
            tracing::info!(to, index, took = ?took.elapsed(), "sent a snapshot");
        }
        Err(error) => {
            meter.failures.inc();
            tracing::warn!(to, index, %error, "failed to send a snapshot");
        }
    }
    drop(pinned);
    peer.end_snapshot();
    net.report(Report::Snapshot { to: peer.id, ok: outcome.is_ok() });
}

async fn attempts(net: &Inner, peer: &Peer, message: &Message, pinned: &Pinned) -> Result<(), SendError> {
    // A transfer that has not begun has nothing to resume: raft asks again when it is time.
    let (mut begun, mut fruitless) = (false, 0);
    loop {
        let mut sent = 0;
        let outcome = transfer(net, peer, message, pinned, fruitless, &mut sent).await;
        begun |= sent > 0;
        fruitless = if sent > 0 { 0 } else { fruitless + 1 };
        match outcome {
            Err(error) if begun && fruitless <= FRUITLESS_MAX && error.is_passing() => {
                tokio::time::sleep(RESUME_AFTER).await;
            }
            other => return other,
        }
    }
}

async fn transfer(
    net: &Inner,
    peer: &Peer,
    message: &Message,
    pinned: &Pinned,
    attempt: usize,
    sent: &mut u64,
) -> Result<(), SendError> {
    let url = peer.url(attempt).ok_or(SendError::Unwanted)?;
    let opened = handshake::dial(&net.identity, peer.id, &url, "bulk", net.dial_timeout).await;
    let handshake::Opened { stream, early, .. } = opened.map_err(SendError::Dial)?;
    let (read, write) = tokio::io::split(stream);
    let mut sender = Sender {
        read,
        write,
        buffer: early,
        ahead: 0,
        heard: clock::now(),
        pace: Pace { next: clock::now(), rate: net.snapshot_rate.max(1) },
        peer,
        sent,
    };
    let mut announcement = Outgoing::default();
    announcement.push(Kind::Message, |body| codec::encode(message, body));
    sender.write(announcement).await?;
    let export = pinned.view.clone().resting(stint::rest).export_after(&sender.held().await?);
    if export.goes_on_from_another() {
        let to = format_args!("{:x}", peer.id).to_string();
        tracing::info!(
            to,
            index = pinned.meta.index,
            "going on with a snapshot that another member began to send"
        );
    }
    sender.stream(chunks_of(export)).await
}

/// Reads the chunks on a blocking thread, a little ahead of the socket.
fn chunks_of(mut export: Export) -> mpsc::Receiver<Result<Chunk, Fault>> {
    let (chunks, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        while let Some(chunk) = export.next_chunk(CHUNK_BYTES).transpose() {
            let failed = chunk.is_err();
            if chunks.blocking_send(chunk).is_err() || failed {
                break;
            }
        }
    });
    receiver
}

struct Sender<'a, R, W> {
    read: R,
    write: W,
    buffer: BytesMut,
    /// Bytes that the receiver has not taken in yet.
    ahead: u64,
    heard: Instant,
    pace: Pace,
    peer: &'a Peer,
    sent: &'a mut u64,
}

/// When the next chunk may leave.
struct Pace {
    next: Instant,
    /// Bytes a second.
    rate: u64,
}

impl Pace {
    /// Timers are late by a millisecond, and threads that give way by several: a chunk that left late is made up for by those behind it, up
    /// to so much. Otherwise every delay would lower the rate, at half a mebibyte each to less than two thirds.
    const MADE_UP_FOR: Duration = Duration::from_millis(20);

    /// A chunk left.
    fn sent(&mut self, bytes: u64, now: Instant) {
        let cost = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.rate);
        self.next = self.next.max(now - Self::MADE_UP_FOR) + cost;
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Sender<'_, R, W> {
    async fn write(&mut self, frames: Outgoing) -> Result<(), SendError> {
        let bytes = frames.bytes() as u64;
        let write = &mut self.write;
        let all = async {
            for piece in frames.into_pieces() {
                write.write_all(&piece).await?;
            }
            Ok::<_, io::Error>(())
        };
        tokio::time::timeout(SILENCE_MAX, all).await.map_err(|_| SendError::Silent)??;
        self.peer.meter.sent_bytes.add(bytes);
        Ok(())
    }

    /// The next frame of the receiver.
    async fn next(&mut self) -> Result<(Kind, Bytes), SendError> {
        loop {
            if let Some(frame) = frame::next_frame(&mut self.buffer)? {
                self.heard = clock::now();
                return Ok(frame);
            }
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// What the receiver has.
    async fn held(&mut self) -> Result<Held, SendError> {
        loop {
            let next = tokio::time::timeout(SILENCE_MAX, self.next());
            match next.await.map_err(|_| SendError::Silent)?? {
                (Kind::Held, bytes) => {
                    return Held::from_bytes(&bytes).ok_or(SendError::Unexpected(Kind::Held));
                }
                (Kind::Taken, _) => {}
                (Kind::Refused, why) => return Err(refused(&why)),
                (Kind::Busy, _) => return Err(SendError::Busy),
                (kind, _) => return Err(SendError::Unexpected(kind)),
            }
        }
    }

    /// Sends all chunks, waits until the receiver has made them durable.
    async fn stream(&mut self, mut chunks: mpsc::Receiver<Result<Chunk, Fault>>) -> Result<(), SendError> {
        let mut wishes = self.peer.wishes();
        let mut ticks = tokio::time::interval(PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut all_sent = false;
        loop {
            let may_send = !all_sent && self.ahead < WINDOW_BYTES;
            tokio::select! {
                frame = self.next() => match frame? {
                    (Kind::Taken, mut count) if count.len() == 8 => {
                        self.ahead = self.ahead.saturating_sub(count.get_u64_le());
                    }
                    (Kind::Done, _) => return Ok(()),
                    (Kind::Refused, why) => return Err(refused(&why)),
                    (kind, _) => return Err(SendError::Unexpected(kind)),
                },
                chunk = chunks.recv(), if may_send => match chunk {
                    Some(chunk) => self.chunk(chunk.map_err(SendError::Export)?).await?,
                    None => all_sent = true,
                },
                _ = ticks.tick() => {
                    if clock::now() - self.heard > SILENCE_MAX {
                        return Err(SendError::Silent);
                    }
                    let mut ping = Outgoing::default();
                    ping.push(Kind::Ping, |body| body.encoded.put_u64_le(0));
                    self.write(ping).await?;
                }
                _ = wishes.changed() => {
                    if wishes.borrow().unwanted {
                        return Err(SendError::Unwanted);
                    }
                }
            }
        }
    }

    /// Sends one chunk, no sooner than the rate allows.
    async fn chunk(&mut self, chunk: Chunk) -> Result<(), SendError> {
        tokio::time::sleep_until(self.pace.next).await;
        let bytes = chunk.bytes.len() as u64;
        self.pace.sent(bytes, clock::now());
        let mut frame = Outgoing::default();
        frame.push(Kind::Chunk, |body| body.spliced.push((body.encoded.len(), chunk.bytes)));
        self.write(frame).await?;
        self.ahead += bytes;
        *self.sent += bytes;
        Ok(())
    }
}

fn refused(why: &[u8]) -> SendError {
    SendError::Refused(String::from_utf8_lossy(why).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_leave_late_do_not_lower_the_rate() {
        let start = clock::now();
        let mut pace = Pace { next: start, rate: 1_000_000 };
        let mut now = start;
        for _ in 0..100 {
            // The timer wakes the sender a little late, now and then very late.
            now = now.max(pace.next) + Duration::from_micros(900);
            pace.sent(2000, now);
        }
        let took = now - start;
        assert!(took <= Duration::from_millis(201), "100 chunks of 2 ms took {took:?}");
        // What was not used for long is not made up for.
        now += Duration::from_secs(5);
        pace.sent(2000, now);
        assert_eq!(pace.next, now - Pace::MADE_UP_FOR + Duration::from_millis(2));
    }
}
