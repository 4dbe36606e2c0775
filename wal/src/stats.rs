//! Counters of a log.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a log has done since it was opened. Cheap to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Batches appended.
    pub batches: u64,
    /// Records appended.
    pub records: u64,
    /// Bytes appended, frames included.
    pub bytes: u64,
    /// Write calls for appends.
    pub writes: u64,
    /// Rounds of sync: each makes durable all that was appended before it.
    pub syncs: u64,
    /// Segments begun.
    pub segments_begun: u64,
    /// Segments begun without a spare at hand: the file was created, and not zero-filled, on the way of an append.
    pub spare_misses: u64,
    /// Files used again.
    pub recycled: u64,
    /// Spares ready now.
    pub spares: u64,
    /// Preparations of a spare that failed, for want of space or otherwise; they are tried again.
    pub spare_failures: u64,
    /// Live segments.
    pub segments: u64,
    /// Bytes of the live segments up to their ends.
    pub live_bytes: u64,
}

/// The counters that change while the log works.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) segments_begun: AtomicU64,
    pub(crate) spare_misses: AtomicU64,
    pub(crate) recycled: AtomicU64,
    pub(crate) spare_failures: AtomicU64,
}

/// Adds to a counter; nothing else depends on the order of these.
pub(crate) fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            batches: get(&self.batches),
            records: get(&self.records),
            bytes: get(&self.bytes),
            writes: get(&self.writes),
            syncs: get(&self.syncs),
            segments_begun: get(&self.segments_begun),
            spare_misses: get(&self.spare_misses),
            recycled: get(&self.recycled),
            spare_failures: get(&self.spare_failures),
            ..Stats::default()
        }
    }
}
