//! What the calls of one connection add to the metrics. It is gathered, and added up when the calls of one read have begun, or when
//! the answers of one turn are there: calls that come together share the additions, and one look at the clock.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::{METHODS, PUT, RANGE, TXN, method};
use crate::apply::tally::Kind;
use crate::clock;
use crate::metrics::grpc::{GrpcMethod, GrpcMetrics};
use crate::metrics::{Asked, CallKind, Counter, Metrics, UNKNOWN_VERSION};

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// When the calls began that are being begun.
    now: Option<Instant>,
    begun: Gathered,
    answered: Gathered,
    alike: Alike,
    client: Client,
}

/// Calls and bytes of messages.
#[derive(Debug, Default)]
struct Gathered {
    /// By tag.
    calls: [u64; METHODS.len()],
    bytes: u64,
}

/// Calls of one method that began at the same time, and end at the same time.
#[derive(Debug, Default)]
struct Alike {
    tag: u8,
    start: Option<Instant>,
    calls: u64,
}

/// The version of the API that the connection's client speaks, and who counts its calls.
#[derive(Debug, Default)]
struct Client {
    version: Option<HeaderValue>,
    counter: Option<Arc<Counter>>,
    calls: u64,
}

impl Counts {
    /// When the calls of this read have begun.
    pub(super) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(clock::now)
    }

    /// A call has begun, of a client that speaks `version`.
    pub(super) fn begun(&mut self, metrics: &Metrics, tag: u8, bytes: usize, version: Option<&HeaderValue>) {
        self.begun.add(tag, bytes);
        self.client.add(metrics, version);
    }

    /// A call was answered well.
    pub(super) fn answered(&mut self, tag: u8, bytes: usize) {
        self.answered.add(tag, bytes);
    }

    /// All calls of a read have begun, and the ranges among them are answered: each has its share of the time.
    pub(super) fn all_begun(&mut self, metrics: &Metrics) {
        let Some(start) = self.now.take() else { return };
        let bytes = self.begun.take(&metrics.grpc, |method, calls| {
            method.started.add(calls);
            method.received.add(calls);
        });
        metrics.grpc.received_bytes.add(bytes);
        self.client.flush();
        let ranges = self.answered.calls[usize::from(RANGE) - 1];
        if ranges > 0 {
            let share = start.elapsed() / u32::try_from(ranges).unwrap_or(u32::MAX);
            observe(metrics, RANGE, true, share, ranges);
            metrics.requests.observe_ranges(true, share, ranges);
            self.all_answered(metrics);
        }
    }

    /// A command has answered a call that began at `start` and ends at `now`.
    pub(super) fn ended(&mut self, metrics: &Metrics, tag: u8, start: Instant, now: Instant) {
        if (self.alike.tag, self.alike.start) != (tag, Some(start)) {
            self.settle_alike(metrics, now);
            self.alike = Alike { tag, start: Some(start), calls: 0 };
        }
        self.alike.calls += 1;
    }

    /// All answers of one turn are there, at `now`.
    pub(super) fn settle(&mut self, metrics: &Metrics, now: Instant) {
        self.all_answered(metrics);
        self.settle_alike(metrics, now);
    }

    fn all_answered(&mut self, metrics: &Metrics) {
        let bytes = self.answered.take(&metrics.grpc, |method, calls| {
            method.handled[0].add(calls);
            method.sent.add(calls);
        });
        metrics.grpc.sent_bytes.add(bytes);
    }

    fn settle_alike(&mut self, metrics: &Metrics, now: Instant) {
        let Alike { tag, start, calls } = std::mem::take(&mut self.alike);
        if let Some(start) = start {
            observe(metrics, tag, true, now.saturating_duration_since(start), calls);
        }
    }
}

impl Gathered {
    fn add(&mut self, tag: u8, bytes: usize) {
        if let Some(calls) = usize::from(tag).checked_sub(1).and_then(|place| self.calls.get_mut(place)) {
            *calls += 1;
        }
        self.bytes += bytes as u64;
    }

    /// Adds each method's calls by `add`; gives the bytes.
    fn take(&mut self, metrics: &GrpcMetrics, add: impl Fn(&GrpcMethod, u64)) -> u64 {
        for (tag, calls) in (1..).zip(&mut self.calls) {
            if let (1.., Some(method)) = (*calls, method(metrics, tag)) {
                add(method, std::mem::take(calls));
            }
        }
        std::mem::take(&mut self.bytes)
    }
}

impl Client {
    fn add(&mut self, metrics: &Metrics, version: Option<&HeaderValue>) {
        if self.counter.is_none() || self.version.as_ref() != version {
            self.flush();
            let text = version.map_or(UNKNOWN_VERSION.as_bytes(), HeaderValue::as_bytes);
            let text = std::str::from_utf8(text).unwrap_or(UNKNOWN_VERSION);
            self.version = version.cloned();
            self.counter = Some(metrics.requests.of_version(CallKind::Unary, text));
        }
        self.calls += 1;
    }

    fn flush(&mut self) {
        if let (1.., Some(counter)) = (self.calls, &self.counter) {
            counter.add(std::mem::take(&mut self.calls));
        }
    }
}

/// So many calls of a tag have taken `took` each.
pub(super) fn observe(metrics: &Metrics, tag: u8, success: bool, took: Duration, times: u64) {
    let asked = match tag {
        PUT => Asked::Command(Kind::Put),
        RANGE => Asked::Range,
        TXN => Asked::Command(Kind::Txn),
        _ => Asked::Command(Kind::DeleteRange),
    };
    metrics.requests.observe(asked, success, took, times);
    if let Some(handling) = method(&metrics.grpc, tag).and_then(|method| method.handling.as_ref()) {
        handling.observe_each(took, times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_come_together_are_added_together() {
        let metrics = Metrics::extensive();
        let mut counts = Counts::default();
        let version = |text| Some(HeaderValue::from_static(text));
        let start = counts.now();
        assert_eq!(counts.now(), start);
        for (tag, bytes, speaks) in [(RANGE, 7, version("3.7")), (PUT, 9, version("3.7")), (RANGE, 7, None)] {
            counts.begun(&metrics, tag, bytes, speaks.as_ref());
            if tag == RANGE {
                counts.answered(tag, 30);
            }
        }
        let of = |tag| {
            let method = method(&metrics.grpc, tag).unwrap();
            let handling = method.handling.as_ref().unwrap().count();
            [
                method.started.get(),
                method.received.get(),
                method.handled[0].get(),
                method.sent.get(),
                handling,
            ]
        };
        assert_eq!(of(RANGE), [0; 5], "not yet");
        counts.all_begun(&metrics);
        assert_eq!((of(RANGE), of(PUT)), ([2; 5], [1, 1, 0, 0, 0]));
        assert_eq!((metrics.grpc.received_bytes.get(), metrics.grpc.sent_bytes.get()), (23, 60));
        let clients =
            ["3.7", UNKNOWN_VERSION].map(|text| metrics.requests.of_version(CallKind::Unary, text).get());
        assert_eq!(clients, [2, 1]);
        let now = clock::now();
        counts.ended(&metrics, PUT, start, now);
        counts.ended(&metrics, PUT, start, now);
        counts.ended(&metrics, TXN, start, now);
        counts.answered(PUT, 10);
        counts.settle(&metrics, now);
        assert_eq!((of(PUT), of(TXN)), ([1, 1, 1, 1, 2], [0, 0, 0, 0, 1]));
        assert_eq!(metrics.grpc.sent_bytes.get(), 70);
        counts.settle(&metrics, now);
        counts.all_begun(&metrics);
        assert_eq!((of(PUT), of(RANGE)), ([1, 1, 1, 1, 2], [2; 5]), "once");
    }
}
