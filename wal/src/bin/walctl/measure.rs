//! Latencies of one measurement: rate, percentiles, a histogram in text.

use std::time::Duration;

/// What one measurement gave.
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    /// Latencies in nanoseconds, sorted.
    sorted: Vec<u64>,
}

impl Measure {
    pub(crate) fn new(name: String, mut latencies: Vec<u64>, elapsed: Duration) -> Measure {
        latencies.sort_unstable();
        let operations = latencies.len() as u64;
        Measure { name, operations, seconds: elapsed.as_secs_f64(), sorted: latencies }
    }

    /// One measurement out of several of the same thing.
    pub(crate) fn merge(parts: Vec<Measure>) -> Measure {
        let name = parts.first().map(|part| part.name.clone()).unwrap_or_default();
        let elapsed = Duration::from_secs_f64(parts.iter().map(|part| part.seconds).sum());
        Measure::new(name, parts.into_iter().flat_map(|part| part.sorted).collect(), elapsed)
    }

    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds.max(1e-9)
    }

    /// A percentile in microseconds.
    pub(crate) fn percentile(&self, p: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        let at = ((self.sorted.len() as f64 * p / 100.0) as usize).min(last);
        self.sorted.get(at).map_or(0.0, |ns| *ns as f64 / 1000.0)
    }

    pub(crate) fn line(&self) -> String {
        let [p50, p99, p999, max] = [50.0, 99.0, 99.9, 100.0].map(|p| self.percentile(p));
        let (name, rate) = (&self.name, self.rate());
        format!(
            "{name:<44} {rate:>9.0}/s   p50 {p50:>7.0}  p99 {p99:>7.0}  p99.9 {p999:>7.0}  max {max:>8.0} µs"
        )
    }

    pub(crate) fn json(&self) -> String {
        let [p50, p99, p999, max] = [50.0, 99.0, 99.9, 100.0].map(|p| self.percentile(p));
        let (name, rate) = (crate::args::quote(&self.name), self.rate());
        format!(
            "{{\"name\":{name},\"per_second\":{rate:.0},\"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\
             \"p999_us\":{p999:.1},\"max_us\":{max:.1}}}"
        )
    }

    /// One line for each doubling of the latency.
    pub(crate) fn histogram(&self) -> String {
        let mut counts = [0u64; 40];
        for ns in &self.sorted {
            let bucket = (64 - (ns / 1000).leading_zeros()) as usize;
            counts[bucket.min(39)] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let first = counts.iter().position(|n| *n > 0).unwrap_or(0);
        let last = counts.iter().rposition(|n| *n > 0).unwrap_or(0);
        let mut out = String::new();
        for (bucket, count) in counts.iter().enumerate().take(last + 1).skip(first) {
            let bar = "#".repeat((count * 50).div_ceil(most) as usize);
            out.push_str(&format!("    < {:>8} µs {count:>9} {bar}\n", 1u64 << bucket));
        }
        out
    }
}
