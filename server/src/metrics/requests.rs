//! Requests: how long they take, and by which versions of the API they ask.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::text::Page;
use super::{Counter, Histogram};
use crate::apply::tally::Kind;
use crate::clock::Stopwatch;
use crate::sync::lock;

/// So many versions are counted apart; what others ask is counted under [`OTHER`]. A client may say what it likes.
const VERSIONS_MAX: usize = 64;
/// See [`VERSIONS_MAX`].
const OTHER: &str = "other";
/// The version of clients that do not tell theirs, in etcd's word.
pub const UNKNOWN_VERSION: &str = "unknown";

/// What is asked of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A range.
    Range,
    /// A transaction that changes nothing.
    ReadonlyTxn,
    /// A command.
    Command(Kind),
}

impl Asked {
    const COUNT: usize = Kind::ALL.len() + 2;

    fn all() -> impl Iterator<Item = Asked> {
        Kind::ALL.into_iter().map(Asked::Command).chain([Asked::Range, Asked::ReadonlyTxn])
    }

    fn name(self) -> &'static str {
        match self {
            Asked::Range => "Range",
            Asked::ReadonlyTxn => "ReadonlyTxn",
            Asked::Command(kind) => kind.name(),
        }
    }

    fn place(self) -> usize {
        match self {
            Asked::Range => Kind::ALL.len(),
            Asked::ReadonlyTxn => Kind::ALL.len() + 1,
            Asked::Command(kind) => kind as usize,
        }
    }
}

/// Whether a call has one request and one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// It has.
    Unary,
    /// It has more of either.
    Stream,
}

/// `etcd_server_request_duration_seconds`, `etcd_server_range_duration_seconds` and `etcd_server_client_requests_total`.
#[derive(Debug)]
pub struct RequestMetrics {
    /// Failures and successes of each kind.
    durations: [[Histogram; 2]; Asked::COUNT],
    ranges: [Histogram; 2],
    unary: Mutex<BTreeMap<String, Arc<Counter>>>,
    stream: Mutex<BTreeMap<String, Arc<Counter>>>,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        let request = || Histogram::doubling(Duration::from_millis(1), 14);
        let range = || Histogram::doubling(Duration::from_micros(100), 20);
        Self {
            durations: std::array::from_fn(|_| [request(), request()]),
            ranges: [range(), range()],
            unary: Mutex::default(),
            stream: Mutex::default(),
        }
    }
}

impl RequestMetrics {
    /// `times` requests have taken `took` each. A command that was refused alike on every member is no failure.
    pub fn observe(&self, asked: Asked, success: bool, took: Duration, times: u64) {
        self.durations[asked.place()][usize::from(success)].observe_each(took, times);
    }

    /// `times` ranges were read in `took` each.
    pub fn observe_ranges(&self, success: bool, took: Duration, times: u64) {
        self.ranges[usize::from(success)].observe_each(took, times);
    }

    /// Starts measuring a request. One that is dropped before its end has failed.
    #[must_use]
    pub fn time(&self, asked: Asked) -> Timed<'_> {
        Timed { metrics: self, asked, watch: Some(Stopwatch::start()) }
    }

    /// The counter of the requests of clients that speak `version`.
    #[must_use]
    pub fn of_version(&self, kind: CallKind, version: &str) -> Arc<Counter> {
        let mut known = lock(match kind {
            CallKind::Unary => &self.unary,
            CallKind::Stream => &self.stream,
        });
        if let Some(counter) = known.get(version) {
            return Arc::clone(counter);
        }
        let name = if known.len() < VERSIONS_MAX { version } else { OTHER };
        Arc::clone(known.entry(name.to_owned()).or_default())
    }

    pub(super) fn render(&self, page: &mut Page) {
        self.render_clients(page);
        let results = || [("false", 0), ("true", 1)].into_iter();
        if self.ranges.iter().any(|histogram| histogram.count() > 0) {
            let name = "etcd_server_range_duration_seconds";
            let mut family = page.family(name, "histogram", "Time to read a range");
            for (success, place) in results().filter(|&(_, place)| self.ranges[place].count() > 0) {
                family.histogram(&[("success", success)], &self.ranges[place]);
            }
        }
        let mut used: Vec<_> = results()
            .flat_map(|(success, place)| {
                Asked::all().map(move |asked| (success, asked.name(), asked.place(), place))
            })
            .filter(|&(.., asked, place)| self.durations[asked][place].count() > 0)
            .collect();
        if used.is_empty() {
            return;
        }
        used.sort_unstable();
        let name = "etcd_server_request_duration_seconds";
        let mut family = page.family(name, "histogram", "Time to answer a request");
        for (success, asked, of, place) in used {
            family.histogram(&[("success", success), ("type", asked)], &self.durations[of][place]);
        }
    }

    fn render_clients(&self, page: &mut Page) {
        let (stream, unary) = (lock(&self.stream), lock(&self.unary));
        let kinds = [("stream", &*stream), ("unary", &*unary)];
        let all = kinds
            .iter()
            .flat_map(|(kind, versions)| versions.iter().map(move |(name, count)| (name, kind, count)));
        let mut counts: Vec<_> = all.filter(|(.., count)| count.get() > 0).collect();
        counts.sort_unstable_by_key(|&(version, kind, _)| (version, kind));
        if counts.is_empty() {
            return;
        }
        let name = "etcd_server_client_requests_total";
        let mut family = page.family(name, "counter", "Requests of clients, by the version that they speak");
        for (version, kind, count) in counts {
            family.sample(&[("client_api_version", version), ("type", kind)], count.get());
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Timed<'a> {
    metrics: &'a RequestMetrics,
    asked: Asked,
    watch: Option<Stopwatch>,
}

impl Timed<'_> {
    /// It has been answered, or has failed; gives the time that it took.
    pub fn end(mut self, success: bool) -> Duration {
        self.note(success)
    }

    /// It was none.
    pub fn forget(mut self) {
        self.watch = None;
    }

    fn note(&mut self, success: bool) -> Duration {
        let Some(watch) = self.watch.take() else { return Duration::ZERO };
        let took = watch.elapsed();
        self.metrics.observe(self.asked, success, took, 1);
        took
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.note(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(metrics: &RequestMetrics) -> Vec<String> {
        let mut page = Page::default();
        metrics.render(&mut page);
        let page = page.finish();
        let worth = |line: &&str| line.contains("_count") || line.starts_with("etcd_server_client");
        page.lines().filter(worth).map(|line| line.trim_start_matches("etcd_server_").to_owned()).collect()
    }

    #[test]
    fn requests_are_counted_by_how_they_ended() {
        let metrics = RequestMetrics::default();
        assert_eq!(samples(&metrics), Vec::<String>::new());
        metrics.time(Asked::ReadonlyTxn).end(true);
        metrics.time(Asked::Command(Kind::Put)).forget();
        drop(metrics.time(Asked::Command(Kind::Put)));
        metrics.observe(Asked::Range, true, Duration::from_millis(1), 3);
        metrics.observe_ranges(true, Duration::from_millis(1), 3);
        assert_eq!(
            samples(&metrics),
            [
                "range_duration_seconds_count{success=\"true\"} 3",
                "request_duration_seconds_count{success=\"false\",type=\"Put\"} 1",
                "request_duration_seconds_count{success=\"true\",type=\"Range\"} 3",
                "request_duration_seconds_count{success=\"true\",type=\"ReadonlyTxn\"} 1",
            ]
        );
    }

    #[test]
    fn versions_are_counted_apart_until_they_are_too_many() {
        let metrics = RequestMetrics::default();
        metrics.of_version(CallKind::Stream, "3.7").inc();
        for number in 0..2 * VERSIONS_MAX {
            metrics.of_version(CallKind::Unary, &format!("9.{number:03}")).inc();
        }
        metrics.of_version(CallKind::Unary, "9.000").inc();
        let samples = samples(&metrics);
        assert_eq!(samples.len(), VERSIONS_MAX + 2);
        for line in [
            "client_requests_total{client_api_version=\"3.7\",type=\"stream\"} 1".to_owned(),
            "client_requests_total{client_api_version=\"9.000\",type=\"unary\"} 2".to_owned(),
            format!("client_requests_total{{client_api_version=\"other\",type=\"unary\"}} {VERSIONS_MAX}"),
        ] {
            assert!(samples.contains(&line), "{line} is missing: {samples:?}");
        }
    }
}
