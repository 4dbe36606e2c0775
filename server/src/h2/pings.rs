//! Sends clients away that ping too often, as gRPC-Go's servers do (`--grpc-keepalive-min-time`; the "Client-side
//! Keepalive" document of the gRPC project): pings cost a server something, and a misconfigured fleet of clients would
//! ping it for ever.
//!
//! A ping that comes too soon after the one before is a strike; whatever is sent to the client forgives all strikes; the third in
//! a row ends the connection with GOAWAY, ENHANCE_YOUR_CALM and the word `too_many_pings`, which clients know.

use std::time::Duration;

use tokio::time::Instant;

use super::frame::Reason;
use super::state::Fatal;

/// So many strikes are borne.
const STRIKES_MAX: u32 = 2;
/// Between two pings of a client that has no stream open.
const IDLE_MIN: Duration = Duration::from_secs(2 * 3600);
/// gRPC's own shortest time between two pings, when none is given.
const DEFAULT_MIN: Duration = Duration::from_secs(300);

/// Counts strikes.
#[derive(Debug)]
pub(super) struct Pings {
    min: Duration,
    last: Option<Instant>,
    strikes: u32,
    forgiven: bool,
}

impl Pings {
    /// Pings may come every `min`, zero for gRPC's own limit of five minutes.
    pub(super) fn new(min: Duration) -> Pings {
        let min = if min.is_zero() { DEFAULT_MIN } else { min };
        Pings { min, last: None, strikes: 0, forgiven: false }
    }

    /// Headers or data are sent.
    pub(super) fn forgive(&mut self) {
        self.forgiven = true;
    }

    /// A ping has come at `now`, while the client had no stream open if it is `idle`.
    pub(super) fn received(&mut self, now: Instant, idle: bool) -> Result<(), Fatal> {
        let min = if idle { IDLE_MIN } else { self.min };
        let last = self.last.replace(now);
        if std::mem::take(&mut self.forgiven) {
            self.strikes = 0;
        } else if last.is_some_and(|last| last + min > now) {
            self.strikes += 1;
        }
        if self.strikes <= STRIKES_MAX {
            return Ok(());
        }
        tracing::warn!("a client sent too many pings; closing its connection");
        Err(Fatal { reason: Reason::EnhanceYourCalm, why: "too_many_pings" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_open_streams_the_time_given_counts_and_without_two_hours() {
        let start = Instant::now();
        let mut pings = Pings::new(Duration::from_secs(5));
        let mut ping =
            |seconds: u64, idle: bool| pings.received(start + Duration::from_secs(seconds), idle).is_ok();
        assert!(ping(0, false) && ping(5, false) && ping(10, false) && ping(15, false));
        // The first strike, the second, and the one that ends it.
        assert!(ping(19, false) && ping(23, false) && !ping(27, false));
        let mut pings = Pings::new(Duration::ZERO);
        let mut ping =
            |seconds: u64, idle: bool| pings.received(start + Duration::from_secs(seconds), idle).is_ok();
        assert!(ping(0, true) && ping(7200, true) && ping(7500, false) && ping(7800, false));
        assert!(ping(8000, true) && ping(8400, true) && !ping(9000, true));
    }

    #[test]
    fn what_is_sent_forgives() {
        let start = Instant::now();
        let mut pings = Pings::new(Duration::from_secs(3600));
        for _ in 0..20 {
            pings.received(start, false).unwrap();
            pings.forgive();
        }
        assert!(
            (0..3).all(|_| pings.received(start, false).is_ok()),
            "the one that is forgiven, and two strikes"
        );
        assert!(pings.received(start, false).is_err());
    }
}
