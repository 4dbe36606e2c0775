//! What compactions cost, under the names that etcd has for its own.
//!
//! | etcd | here |
//! | --- | --- |
//! | pause of the index | a slice of the index's tombstones dropped, while which no command is applied |
//! | pause of the store | a slice of the search for what is dead; nobody waits for it |
//! | total | from the compaction's being seen until everything dead is found |

use std::time::{Duration, UNIX_EPOCH};

use super::text::Page;
use super::{Counter, Gauge, Histogram};
use crate::clock::{self, Stopwatch};

/// `etcd_debugging_mvcc_*compaction*`.
#[derive(Debug)]
pub struct CompactionMetrics {
    index_pause: Histogram,
    pause: Histogram,
    total: Histogram,
    last: Gauge,
    keys: Counter,
}

impl Default for CompactionMetrics {
    fn default() -> Self {
        Self {
            index_pause: Histogram::doubling(Duration::from_micros(500), 14),
            pause: Histogram::doubling(Duration::from_millis(1), 13),
            total: Histogram::doubling(Duration::from_millis(100), 14),
            last: Gauge::zero(),
            keys: Counter::default(),
        }
    }
}

/// One round of the store's duties, as far as compaction goes.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Time of the search for what is dead.
    pub search: Duration,
    /// Time in which the applier was held up.
    pub held: Duration,
    /// Whether nothing is left to do.
    pub is_done: bool,
    /// How many versions were found dead so far, in this life and before.
    pub dead: u64,
}

/// Follows the compactions of one store from round to round.
#[derive(Debug, Default)]
pub struct CompactionMeter {
    running: Option<Stopwatch>,
    dead: Option<u64>,
}

impl CompactionMeter {
    /// Takes the next round in.
    pub fn note(&mut self, metrics: &CompactionMetrics, round: Round) {
        // A store that took the place of another one counts anew.
        let before = self.dead.replace(round.dead).unwrap_or(round.dead);
        metrics.keys.add(round.dead.saturating_sub(before));
        if self.running.is_none() && !round.is_done {
            self.running = Some(Stopwatch::start());
        }
        let Some(running) = self.running else { return };
        metrics.pause.observe(whole(round.search));
        metrics.index_pause.observe(whole(round.held));
        if round.is_done {
            self.running = None;
            metrics.total.observe(whole(running.elapsed()));
            metrics
                .last
                .set_unsigned(clock::wall().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()));
        }
    }
}

/// Whole milliseconds, as etcd counts them.
fn whole(duration: Duration) -> Duration {
    duration - Duration::from_nanos(u64::from(duration.subsec_nanos() % 1_000_000))
}

impl CompactionMetrics {
    pub(super) fn render(&self, page: &mut Page) {
        page.counter("etcd_debugging_mvcc_db_compaction_keys_total", "Versions compacted away", &self.keys);
        let last = "When a compaction was done last, in seconds since 1970; 0 if none was";
        page.gauge("etcd_debugging_mvcc_db_compaction_last", last, &self.last);
        let name = "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds";
        page.milliseconds(name, "Time of one slice of the search for what is dead", &self.pause);
        let name = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds";
        page.milliseconds(name, "Time until all that is dead was found", &self.total);
        let name = "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds";
        page.milliseconds(name, "Time for which compaction held up the applier", &self.index_pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compaction_is_followed_to_its_end() {
        let metrics = CompactionMetrics::default();
        let mut meter = CompactionMeter::default();
        let mut round = |dead, is_done| {
            let (search, held) = (Duration::from_micros(2700), Duration::from_micros(900));
            meter.note(&metrics, Round { search, held, is_done, dead });
            [metrics.keys.get(), metrics.pause.count(), metrics.index_pause.count(), metrics.total.count()]
        };
        assert_eq!(round(100, true), [0; 4], "of a life before");
        assert_eq!(round(104, false), [4, 1, 1, 0]);
        assert_eq!(round(110, true), [10, 2, 2, 1]);
        assert_eq!(round(110, true), [10, 2, 2, 1]);
        assert_eq!(round(3, true), [10, 2, 2, 1], "another store");
        assert_eq!(round(5, true), [12, 2, 2, 1]);
        assert!(metrics.last.get().is_some_and(|last| last > 0));
        assert_eq!(whole(Duration::from_micros(2700)), Duration::from_millis(2));
    }
}
