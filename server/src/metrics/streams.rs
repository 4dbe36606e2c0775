//! What watch streams cost and how they fail.

use std::time::Duration;

use super::text::Page;
use super::{Counter, Histogram};

/// `etcd_debugging_server_watch_send_loop_*` and `etcd_network_server_stream_failures_total`.
#[derive(Debug)]
pub struct StreamMetrics {
    /// Making the responses that were ready: all of one turn of a stream.
    pub watch: Histogram,
    /// The same for each event.
    pub per_event: Histogram,
    /// Making the answers to requests of one turn.
    pub control: Histogram,
    /// Finding out whose progress notices are due.
    pub progress: Histogram,
    /// Requests of watch streams that could not be read.
    pub watch_receive: Counter,
    /// Responses of watch streams that could not be sent.
    pub watch_send: Counter,
}

impl Default for StreamMetrics {
    fn default() -> Self {
        let histogram = || Histogram::doubling(Duration::from_millis(1), 14);
        Self {
            watch: histogram(),
            per_event: histogram(),
            control: histogram(),
            progress: histogram(),
            watch_receive: Counter::default(),
            watch_send: Counter::default(),
        }
    }
}

impl StreamMetrics {
    pub(super) fn render(&self, page: &mut Page) {
        for (of, help, histogram) in [
            ("control_stream", "Time to make the answers to a stream's requests", &self.control),
            ("progress", "Time to find whose progress notices are due", &self.progress),
            ("watch_stream", "Time to make the responses that a stream can have", &self.watch),
        ] {
            let name = format!("etcd_debugging_server_watch_send_loop_{of}_duration_seconds");
            page.histogram(&name, help, histogram);
        }
        let name = "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds";
        page.histogram(name, "The same for each event", &self.per_event);
        let failures = [("receive", &self.watch_receive), ("send", &self.watch_send)];
        let failed = || failures.iter().filter(|(_, count)| count.get() > 0);
        if failed().next().is_none() {
            return;
        }
        let name = "etcd_network_server_stream_failures_total";
        let mut family = page.family(name, "counter", "Streams that failed, not by the client's doing");
        for (kind, count) in failed() {
            family.sample(&[("API", "watch"), ("Type", kind)], count.get());
        }
    }
}
