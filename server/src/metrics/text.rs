//! The Prometheus text format, version 0.0.4.
//!
//! ```text
//! # HELP name what it is
//! # TYPE name counter
//! name{label="value"} 17
//! ```

use std::fmt::{Display, Write};

use super::instrument::{Counter, Gauge, Histogram, Unit};

/// The content type of a scrape's answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Pairs of label name and value, in the order they are written.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Families, to be written in the order of their names; a family's head comes before its first sample.
#[derive(Debug, Default)]
pub(crate) struct Page {
    families: Vec<String>,
}

/// A family whose head was written.
pub(crate) struct Family<'a> {
    page: &'a mut Page,
    name: &'a str,
}

impl Page {
    pub(crate) fn finish(mut self) -> String {
        // Each begins with the same words and its name.
        self.families.sort_unstable();
        self.families.concat()
    }

    /// Begins a family; `kind` is `counter`, `gauge` or `histogram`.
    pub(crate) fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        self.families.push(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: self, name }
    }

    /// A family of one counter without labels.
    pub(crate) fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.family(name, "counter", help).sample(&[], counter.get());
    }

    /// A family of one gauge without labels, if it was ever set.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, gauge: &Gauge) {
        if let Some(value) = gauge.get() {
            self.family(name, "gauge", help).sample(&[], value);
        }
    }

    /// A family of one counter without labels, which etcd calls a gauge though it only grows.
    pub(crate) fn growing_gauge(&mut self, name: &str, help: &str, counter: &Counter) {
        self.family(name, "gauge", help).sample(&[], counter.get());
    }

    /// A family of one histogram without labels, in milliseconds.
    pub(crate) fn milliseconds(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help).histogram_in(Unit::Milliseconds, &[], histogram);
    }

    /// A family of one histogram without labels, in seconds.
    pub(crate) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help).histogram(&[], histogram);
    }
}

impl Family<'_> {
    /// One sample of a counter or gauge.
    pub(crate) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// All samples of one histogram, in seconds.
    pub(crate) fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        self.histogram_in(Unit::Seconds, labels, histogram);
    }

    fn histogram_in(&mut self, unit: Unit, labels: Labels<'_>, histogram: &Histogram) {
        let mut count = 0;
        for (bound, total) in histogram.cumulative(unit) {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            self.line("_bucket", labels, Some(&bound), total);
            count = total;
        }
        self.line("_sum", labels, None, histogram.sum(unit));
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        let Some(out) = self.page.families.last_mut() else { return };
        // Writing into a String cannot fail.
        let _ = write!(out, "{}{suffix}", self.name);
        let pairs = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut open = false;
        for (name, text) in pairs {
            let _ = write!(out, "{}{name}=\"{}\"", if open { ',' } else { '{' }, escape(text));
            open = true;
        }
        let _ = writeln!(out, "{} {value}", if open { "}" } else { "" });
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page() {
        let mut page = Page::default();
        page.gauge("never_set", "no", &Gauge::default());
        page.milliseconds("m", "of m", &Histogram::doubling(Duration::from_micros(500), 1));
        page.family("a_total", "counter", "of a").sample(&[("x", "q\"\\")], 3);
        let histogram = Histogram::doubling(Duration::from_micros(100), 2);
        histogram.observe(Duration::from_micros(150));
        page.histogram("h", "of h", &histogram);
        let expected = "# HELP a_total of a\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\"} 3\n\
                        # HELP h of h\n# TYPE h histogram\nh_bucket{le=\"0.0001\"} 0\nh_bucket{le=\"0.0002\"} 1\n\
                        h_bucket{le=\"+Inf\"} 1\nh_sum 0.00015\nh_count 1\n\
                        # HELP m of m\n# TYPE m histogram\nm_bucket{le=\"0.5\"} 0\nm_bucket{le=\"+Inf\"} 0\nm_sum 0\nm_count 0\n";
        assert_eq!(page.finish(), expected);
    }
}
