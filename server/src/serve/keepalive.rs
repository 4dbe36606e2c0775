//! Pings to silent clients (`--grpc-keepalive-interval`, `--grpc-keepalive-timeout`): a connection whose other end vanished
//! without a word is found out, and what it holds is given free.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::clock;

/// How long an answer is awaited when no time is given.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Watches over one connection.
pub(super) struct KeepAlive {
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// Something has come since the timer was set.
    heard: bool,
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
        let timer = Box::pin(sleep(interval));
        Some(KeepAlive { interval, timeout, timer, heard: false, asked: false })
    }

    /// Something has come.
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// Ready when the client has not answered in time. `ping` sends a ping.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, ping: impl FnOnce([u8; 8])) -> Poll<()> {
        ready!(self.timer.as_mut().poll(context));
        let next = if std::mem::take(&mut self.heard) {
            self.asked = false;
            self.interval
        } else if self.asked {
            return Poll::Ready(());
        } else {
            ping(*b"ketch\0\0\0");
            self.asked = true;
            self.timeout
        };
        self.timer.as_mut().reset(clock::now() + next);
        // Registered anew; it cannot be due yet.
        let _pending = self.timer.as_mut().poll(context);
        Poll::Pending
    }
}
