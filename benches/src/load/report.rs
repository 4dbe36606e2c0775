//! What a run showed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::plan::Plan;
use super::run::{SAMPLE_NS, Samples};

/// Percentiles of the latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Arithmetic mean.
    pub mean: Duration,
    /// Half of the requests were at least this fast.
    pub p50: Duration,
    /// 90 %.
    pub p90: Duration,
    /// 99 %.
    pub p99: Duration,
    /// 99.9 %.
    pub p999: Duration,
    /// The slowest.
    pub max: Duration,
}

/// The result of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Operation, connections, clients and rate in words.
    pub title: String,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Requests that succeeded.
    pub succeeded: u64,
    /// Code and text of failed requests, and how often each came.
    pub errors: BTreeMap<String, u64>,
    /// Of the requests that succeeded.
    pub latency: Latency,
}

impl Report {
    pub(super) fn new(plan: &Plan, elapsed: Duration, samples: &[Samples]) -> Report {
        let mut errors = BTreeMap::new();
        for (text, count) in samples.iter().flat_map(|sample| &sample.errors) {
            *errors.entry(text.clone()).or_default() += count;
        }
        let loop_kind = match plan.rate {
            Some(rate) => format!("{rate}/s"),
            None => "closed loop".to_owned(),
        };
        let title = format!(
            "{}, {} connections, {} clients, {loop_kind}",
            plan.operation.name(),
            plan.connections,
            plan.clients
        );
        let succeeded = samples.iter().map(|sample| sample.latencies.len() as u64).sum();
        Report { title, elapsed, succeeded, errors, latency: latency(samples) }
    }

    /// Successful requests per second.
    pub fn rate(&self) -> f64 {
        self.succeeded as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Number of failed requests.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// As JSON: durations in microseconds, the rate per second.
    pub fn to_json(&self) -> Value {
        let micros = |duration: Duration| duration.as_nanos() as f64 / 1e3;
        json!({
            "title": self.title,
            "elapsed_us": micros(self.elapsed),
            "rate": self.rate(),
            "succeeded": self.succeeded,
            "failed": self.failed(),
            "errors": self.errors,
            "latency_us": {
                "mean": micros(self.latency.mean),
                "p50": micros(self.latency.p50),
                "p90": micros(self.latency.p90),
                "p99": micros(self.latency.p99),
                "p99.9": micros(self.latency.p999),
                "max": micros(self.latency.max),
            },
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = &self.latency;
        writeln!(f, "{}", self.title)?;
        writeln!(
            f,
            "  {} requests in {:.2} s, {:.0} per second, {} failed",
            self.succeeded,
            self.elapsed.as_secs_f64(),
            self.rate(),
            self.failed()
        )?;
        write!(
            f,
            "  latency: mean {:.1?}, p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, max {:.1?}",
            latency.mean, latency.p50, latency.p90, latency.p99, latency.p999, latency.max
        )?;
        for (text, count) in &self.errors {
            write!(f, "\n  {count} × {text}")?;
        }
        Ok(())
    }
}

/// Percentiles over all clients, to three digits.
fn latency(samples: &[Samples]) -> Latency {
    let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, u64::from(u32::MAX), 3) else {
        return Latency::default();
    };
    for unit in samples.iter().flat_map(|sample| &sample.latencies) {
        histogram.saturating_record(u64::from(*unit).max(1));
    }
    if histogram.is_empty() {
        return Latency::default();
    }
    let time = |units: u64| Duration::from_nanos(units * SAMPLE_NS);
    let quantile = |q| time(histogram.value_at_quantile(q));
    Latency {
        mean: time(histogram.mean() as u64),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        p999: quantile(0.999),
        max: time(histogram.max()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_set() {
        let sample = Samples { latencies: (1..=1000).map(|n| n * 10).collect(), errors: BTreeMap::new() };
        let found = latency(&[sample]);
        let near = |found: Duration, micros: u64| {
            let expected = Duration::from_micros(micros);
            assert!(found.abs_diff(expected) <= expected / 500, "{found:?} is not {expected:?}");
        };
        near(found.p50, 500);
        near(found.p99, 990);
        near(found.max, 1000);
    }

    #[test]
    fn a_run_without_answers_reports_zeroes() {
        let report = Report::new(&Plan::default(), Duration::from_secs(1), &[]);
        assert_eq!((report.succeeded, report.latency), (0, Latency::default()));
        assert_eq!(report.to_json()["latency_us"]["p99"], 0.0);
    }
}
