//! Whether heartbeats leave in time. They do not where the process gets no processor, or its threads wait for each other.

use std::sync::Mutex;
use std::time::Duration;

use ketch_raft::{Body, Message, Term};

use super::Driver;
use crate::clock::Stopwatch;
use crate::metrics::Metrics;
use crate::sync::lock;

/// The last heartbeats that left, and when the next ones should.
#[derive(Debug)]
pub(super) struct Heartbeats {
    interval: Duration,
    /// As leader of which term.
    last: Mutex<Option<(Term, Stopwatch)>>,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Heartbeats::new(Duration::MAX)
    }
}

impl Heartbeats {
    pub(super) fn new(interval: Duration) -> Heartbeats {
        Heartbeats { interval, last: Mutex::default() }
    }

    /// Looks at messages that are about to leave. The first heartbeats of a term are never late.
    pub(super) fn note(&self, messages: &[Message], metrics: &Metrics) {
        let heartbeats = || messages.iter().filter(|message| matches!(message.body, Body::Heartbeat { .. }));
        let Some(term) = heartbeats().next().map(|message| message.term) else { return };
        let last = lock(&self.last).replace((term, Stopwatch::start()));
        let Some((_, since)) = last.filter(|(before, _)| *before == term) else { return };
        let expected = self.interval.saturating_mul(2);
        let Some(exceeded) = since.elapsed().checked_sub(expected).filter(|late| !late.is_zero()) else {
            return;
        };
        for message in heartbeats() {
            metrics.heartbeats_late.inc();
            tracing::warn!(
                to = format_args!("{:x}", message.to),
                heartbeat_interval = ?self.interval,
                expected_duration = ?expected,
                exceeded_duration = ?exceeded,
                "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk"
            );
        }
    }
}

impl Driver {
    /// Warns of heartbeats that leave later than two of these after the last ones.
    #[must_use]
    pub fn heartbeat_every(self, interval: Duration) -> Driver {
        Driver { heartbeats: Heartbeats::new(interval), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeats(term: Term) -> Vec<Message> {
        let beat = |to| Message { from: 1, to, term, body: Body::Heartbeat { commit: 0, round: 1 } };
        vec![beat(2), beat(3)]
    }

    #[test]
    fn what_leaves_late_is_counted_for_each_peer() {
        let metrics = Metrics::new();
        // Any time at all is too long.
        let strict = Heartbeats::new(Duration::ZERO);
        strict.note(&heartbeats(1), &metrics);
        strict.note(&[], &metrics);
        assert_eq!(metrics.heartbeats_late.get(), 0, "the first ones");
        strict.note(&heartbeats(1), &metrics);
        assert_eq!(metrics.heartbeats_late.get(), 2);
        strict.note(&heartbeats(2), &metrics);
        assert_eq!(metrics.heartbeats_late.get(), 2, "of another term");
        let patient = Heartbeats::new(Duration::MAX);
        patient.note(&heartbeats(1), &metrics);
        patient.note(&heartbeats(1), &metrics);
        assert_eq!(metrics.heartbeats_late.get(), 2);
    }
}
