//! What a measured value is kept in: a counter, a gauge, a histogram. No locks: relaxed atomics only, since a
//! scrape needs no order between instruments.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts up, from zero at the start of the process.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A value that goes up and down. It is absent from a scrape until it was set once, so that nobody reads a zero
/// that nobody measured.
#[derive(Debug)]
pub struct Gauge(AtomicI64);

const UNSET: i64 = i64::MIN;

impl Default for Gauge {
    fn default() -> Self {
        Self(AtomicI64::new(UNSET))
    }
}

impl Gauge {
    /// A gauge that is zero from the start, for values counted with [`Gauge::add`].
    #[must_use]
    pub fn zero() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value.max(UNSET + 1), Relaxed);
    }

    /// Replaces the value by one that cannot be negative.
    pub fn set_unsigned(&self, value: u64) {
        self.set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Replaces the value by 1 or 0.
    pub fn set_bool(&self, value: bool) {
        self.set(i64::from(value));
    }

    /// Adds to a gauge made by [`Gauge::zero`].
    pub fn add(&self, difference: i64) {
        self.0.fetch_add(difference, Relaxed);
    }

    /// Adds one to a gauge made by [`Gauge::zero`].
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one from a gauge made by [`Gauge::zero`].
    pub fn dec(&self) {
        self.add(-1);
    }

    /// The value, unless it was never set.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        let value = self.0.load(Relaxed);
        (value != UNSET).then_some(value)
    }
}

/// Durations sorted into buckets.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds in nanoseconds, ascending.
    bounds: Box<[u64]>,
    /// Observations of each bucket alone, the last one of those above every bound.
    counts: Box<[AtomicU64]>,
    /// Sum of all observations in nanoseconds.
    sum: AtomicU64,
}

impl Histogram {
    /// `buckets` bounds, the first one `first`, each twice its predecessor.
    #[must_use]
    pub fn doubling(first: Duration, buckets: u32) -> Self {
        let first = nanoseconds(first);
        Self::of((0..buckets).map(|n| first.saturating_mul(1 << n.min(63))))
    }

    /// Buckets with these upper bounds, which ascend.
    #[must_use]
    pub fn with_bounds(bounds: impl IntoIterator<Item = Duration>) -> Self {
        Self::of(bounds.into_iter().map(nanoseconds))
    }

    fn of(bounds: impl Iterator<Item = u64>) -> Self {
        let bounds: Box<[u64]> = bounds.collect();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Records one duration.
    pub fn observe(&self, duration: Duration) {
        self.observe_each(duration, 1);
    }

    /// Records the same duration `times` times.
    pub fn observe_each(&self, duration: Duration, times: u64) {
        let nanoseconds = nanoseconds(duration);
        let bucket = self.bounds.partition_point(|bound| *bound < nanoseconds);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(times, Relaxed);
        }
        self.sum.fetch_add(nanoseconds.saturating_mul(times), Relaxed);
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Upper bounds with the number of observations up to each; the last bound is infinite.
    pub(crate) fn cumulative(&self, unit: Unit) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.iter().map(move |bound| unit.of(*bound)).chain([f64::INFINITY]);
        let mut total = 0;
        bounds.zip(&self.counts).map(move |(bound, count)| {
            total += count.load(Relaxed);
            (bound, total)
        })
    }

    /// Sum of all observations.
    pub(crate) fn sum(&self, unit: Unit) -> f64 {
        unit.of(self.sum.load(Relaxed))
    }
}

/// What a family counts its durations in, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
}

impl Unit {
    /// Nanoseconds in this unit. Exact enough: a sum loses nanoseconds only after a hundred days of waiting.
    #[expect(clippy::cast_precision_loss, reason = "a scrape is a floating point number")]
    fn of(self, nanoseconds: u64) -> f64 {
        let per_unit = match self {
            Unit::Seconds => 1e9,
            Unit::Milliseconds => 1e6,
        };
        nanoseconds as f64 / per_unit
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::doubling(Duration::from_millis(1), 3);
        for ms in [1, 2, 3, 4, 5] {
            histogram.observe(Duration::from_millis(ms));
        }
        let buckets: Vec<(f64, u64)> = histogram.cumulative(Unit::Seconds).collect();
        assert_eq!(buckets, [(0.001, 1), (0.002, 2), (0.004, 4), (f64::INFINITY, 5)]);
        assert_eq!(histogram.cumulative(Unit::Milliseconds).next(), Some((1.0, 1)));
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum(Unit::Seconds) - 0.015).abs() < 1e-9);
        histogram.observe_each(Duration::from_millis(2), 10);
        assert_eq!(histogram.cumulative(Unit::Seconds).nth(1), Some((0.002, 12)));
        assert!((histogram.sum(Unit::Seconds) - 0.035).abs() < 1e-9);
    }

    #[test]
    fn bounds_may_be_any_that_ascend() {
        let histogram = Histogram::with_bounds([5, 10, 25].map(Duration::from_millis));
        histogram.observe(Duration::from_millis(10));
        let buckets: Vec<(f64, u64)> = histogram.cumulative(Unit::Seconds).collect();
        assert_eq!(buckets, [(0.005, 0), (0.01, 1), (0.025, 1), (f64::INFINITY, 1)]);
    }

    #[test]
    fn a_gauge_is_absent_until_it_is_set() {
        let gauge = Gauge::default();
        assert_eq!(gauge.get(), None);
        gauge.set(-1);
        assert_eq!(gauge.get(), Some(-1));
        assert_eq!(Gauge::zero().get(), Some(0));
    }
}
