//! Pings to silent clients (`--grpc-keepalive-interval`, `--grpc-keepalive-timeout`): a connection whose other end vanished
//! without a word is found out, and what it holds is given free.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Connection;
use h2::{Ping, PingPong};
use tokio::time::{Sleep, sleep};

use super::connection::Io;
use crate::clock;

/// How long an answer is awaited when no time is given.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Watches over one connection.
pub(super) struct KeepAlive {
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    pings: Option<PingPong>,
    /// An answer is awaited.
    asked: bool,
}

impl KeepAlive {
    /// Pings after so much silence and waits so long; `None` when no pings are wanted.
    pub(super) fn new((interval, timeout): (Duration, Duration)) -> Option<KeepAlive> {
        if interval.is_zero() {
            return None;
        }
        let timeout = if timeout.is_zero() { TIMEOUT } else { timeout };
        Some(KeepAlive { interval, timeout, timer: Box::pin(sleep(interval)), pings: None, asked: false })
    }

    /// Ready when the client has not answered in time. `heard` says whether anything has come since the last call that was told so.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Connection<Io, Bytes>,
        heard: impl FnOnce() -> bool,
    ) -> Poll<()> {
        if self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let next = if heard() {
            self.asked = false;
            self.interval
        } else if self.asked {
            return Poll::Ready(());
        } else {
            self.ask(context, connection);
            self.timeout
        };
        self.timer.as_mut().reset(clock::now() + next);
        // Registered anew; it cannot be due yet.
        let _pending = self.timer.as_mut().poll(context);
        Poll::Pending
    }

    fn ask(&mut self, context: &mut Context<'_>, connection: &mut Connection<Io, Bytes>) {
        self.asked = true;
        if self.pings.is_none() {
            self.pings = connection.ping_pong();
        }
        if let Some(pings) = &mut self.pings {
            // What came to the ping before is known already.
            let _answered = pings.poll_pong(context);
            let _under_way = pings.send_ping(Ping::opaque());
        }
    }
}
