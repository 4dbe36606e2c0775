//! Sends clients away that ping too often, as gRPC-Go's servers do (`--grpc-keepalive-min-time`; the "Client-side
//! Keepalive" document of the gRPC project): pings cost a server something, and a misconfigured fleet of clients would
//! ping it for ever.
//!
//! HTTP/2 libraries answer pings by themselves, so the connection's bytes are watched as they pass. A ping that comes
//! too soon after the one before is a strike; whatever is sent to the client forgives all strikes; the third in a row
//! ends the connection with GOAWAY, ENHANCE_YOUR_CALM and the word `too_many_pings`, which clients know.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frames::{FrameHead, Walk};
use crate::clock;

/// What an HTTP/2 connection begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// So many strikes are borne.
const STRIKES_MAX: u32 = 2;
/// Between two pings of a client that has no stream open.
const IDLE_MIN: Duration = Duration::from_secs(2 * 3600);
/// gRPC's own shortest time between two pings, when none is given.
const DEFAULT_MIN: Duration = Duration::from_secs(300);

/// A connection whose client's pings are counted.
#[derive(Debug)]
pub struct PingGuard<S> {
    inner: S,
    policy: Policy,
    received: Received,
    sent: Walk,
    /// What is still to be written of the last word to a client that is sent away.
    goodbye: Option<(Vec<u8>, usize)>,
}

#[derive(Debug)]
enum Received {
    /// So many bytes of the preface have come.
    Preface(usize),
    Frames(Walk),
    /// Not HTTP/2.
    Other,
}

/// Counts strikes.
#[derive(Debug)]
struct Policy {
    min: Duration,
    last_ping: Option<Instant>,
    strikes: u32,
    forgiven: bool,
    /// Streams that are open.
    open: BTreeSet<u32>,
    /// The highest stream that the client has opened.
    highest: u32,
}

impl Policy {
    fn received(&mut self, head: FrameHead) {
        match head.kind {
            HEADERS if head.stream > self.highest => {
                self.highest = head.stream;
                self.open.insert(head.stream);
            }
            RST_STREAM => drop(self.open.remove(&head.stream)),
            PING if head.flags & ACK == 0 => self.ping(clock::now()),
            _ => {}
        }
    }

    fn sent(&mut self, head: FrameHead) {
        self.forgiven |= matches!(head.kind, DATA | HEADERS);
        let ends = match head.kind {
            DATA | HEADERS => head.flags & END_STREAM != 0,
            kind => kind == RST_STREAM,
        };
        if ends {
            self.open.remove(&head.stream);
        }
    }

    fn ping(&mut self, now: Instant) {
        let min = if self.open.is_empty() { IDLE_MIN } else { self.min };
        let last = self.last_ping.replace(now);
        if std::mem::take(&mut self.forgiven) {
            self.strikes = 0;
        } else if last.is_some_and(|last| last + min > now) {
            self.strikes += 1;
        }
    }
}

impl<S> PingGuard<S> {
    /// Guards `inner`; pings may come every `min`, zero for gRPC's own limit of five minutes.
    pub fn new(inner: S, min: Duration) -> PingGuard<S> {
        let min = if min.is_zero() { DEFAULT_MIN } else { min };
        let open = BTreeSet::new();
        let policy = Policy { min, last_ping: None, strikes: 0, forgiven: false, open, highest: 0 };
        PingGuard { inner, policy, received: Received::Preface(0), sent: Walk::default(), goodbye: None }
    }

    fn received(&mut self, mut bytes: &[u8]) {
        if let Received::Preface(have) = &mut self.received {
            let taken = (PREFACE.len() - *have).min(bytes.len());
            if bytes[..taken] != PREFACE[*have..*have + taken] {
                self.received = Received::Other;
                return;
            }
            *have += taken;
            bytes = &bytes[taken..];
            if *have == PREFACE.len() {
                self.received = Received::Frames(Walk::default());
            }
        }
        if let Received::Frames(walk) = &mut self.received {
            walk.pass(bytes, |head| self.policy.received(head));
        }
        if self.policy.strikes > STRIKES_MAX && self.goodbye.is_none() {
            tracing::warn!("a client sent too many pings; closing its connection");
            self.goodbye = Some((goodbye(self.policy.highest), 0));
        }
    }

    fn sent(&mut self, bytes: &[u8]) {
        if matches!(self.received, Received::Frames(_)) {
            self.sent.pass(bytes, |head| self.policy.sent(head));
        }
    }
}

/// GOAWAY (RFC 9113, section 6.8).
fn goodbye(highest: u32) -> Vec<u8> {
    const ENHANCE_YOUR_CALM: u32 = 11;
    const WHY: &[u8] = b"too_many_pings";
    let mut frame = vec![0, 0, 8 + WHY.len() as u8, 7, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&highest.to_be_bytes());
    frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend_from_slice(WHY);
    frame
}

impl<S: AsyncWrite + Unpin> PingGuard<S> {
    /// Writes the last word as far as the connection takes it; it fits between two frames only.
    fn poll_goodbye(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((frame, written)) = &mut self.goodbye
            && *written < frame.len()
            && self.sent.is_between_frames()
        {
            match ready!(Pin::new(&mut self.inner).poll_write(context, &frame[*written..]))? {
                0 => break,
                more => *written += more,
            }
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "too many pings")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PingGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.goodbye.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
            this.received(&buffer.filled()[before..]);
        }
        if this.goodbye.is_some() { this.poll_goodbye(context) } else { Poll::Ready(Ok(())) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for PingGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, parts))?;
        let mut left = written;
        for part in parts {
            let taken = left.min(part.len());
            self.sent(&part[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    fn guarded(min: Duration) -> (PingGuard<DuplexStream>, DuplexStream) {
        let (server, client) = duplex(1 << 16);
        (PingGuard::new(server, min), client)
    }

    /// What the server reads of `bytes`; false when the connection is over.
    async fn bears(server: &mut PingGuard<DuplexStream>, client: &mut DuplexStream, bytes: &[u8]) -> bool {
        client.write_all(bytes).await.unwrap();
        server.read_exact(&mut vec![0; bytes.len()]).await.is_ok()
    }

    #[tokio::test]
    async fn the_third_strike_ends_the_connection() {
        let (mut server, mut client) = guarded(Duration::from_secs(3600));
        assert!(bears(&mut server, &mut client, PREFACE).await);
        assert!(bears(&mut server, &mut client, &frame(HEADERS, 4, 7, b"")).await);
        let ping = frame(PING, 0, 0, &[0; 8]);
        for _ in 0..3 {
            assert!(bears(&mut server, &mut client, &ping).await, "the first is free, two more are borne");
        }
        assert!(!bears(&mut server, &mut client, &ping).await);
        drop(server);
        let mut last = Vec::new();
        client.read_to_end(&mut last).await.unwrap();
        assert_eq!(last, frame(7, 0, 0, b"\0\0\0\x07\0\0\0\x0btoo_many_pings"));
    }

    #[tokio::test]
    async fn what_is_sent_forgives() {
        let (mut server, mut client) = guarded(Duration::from_secs(3600));
        assert!(bears(&mut server, &mut client, PREFACE).await);
        for _ in 0..20 {
            assert!(bears(&mut server, &mut client, &frame(PING, 0, 0, &[0; 8])).await);
            server.write_all(&frame(DATA, 0, 1, b"answer")).await.unwrap();
        }
        // Acknowledgements are no pings; pings of HTTP/1 do not exist.
        for _ in 0..20 {
            assert!(bears(&mut server, &mut client, &frame(PING, ACK, 0, &[0; 8])).await);
        }
        let (mut server, mut client) = guarded(Duration::from_secs(3600));
        for _ in 0..20 {
            assert!(bears(&mut server, &mut client, &frame(PING, 0, 0, &[0; 8])).await);
        }
    }

    #[test]
    fn with_open_streams_the_time_given_counts_and_without_two_hours() {
        let start = Instant::now();
        let mut policy = PingGuard::new((), Duration::from_secs(5)).policy;
        let strikes = |policy: &mut Policy, seconds: u64| {
            policy.ping(start + Duration::from_secs(seconds));
            policy.strikes
        };
        policy.received(FrameHead { kind: HEADERS, flags: 4, stream: 1 });
        assert_eq!([0, 5, 10, 14, 19].map(|at| strikes(&mut policy, at)), [0, 0, 0, 1, 1]);
        policy.sent(FrameHead { kind: HEADERS, flags: END_STREAM, stream: 1 });
        assert_eq!(strikes(&mut policy, 100), 0, "forgiven by the answer");
        assert_eq!([200, 7300, 14_600].map(|at| strikes(&mut policy, at)), [1, 2, 2]);
    }
}
