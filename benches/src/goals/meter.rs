//! Time stamps that travel in values, latencies, and the memory of a server while something goes on.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::usage::memory;

/// Bytes of a stamped value.
const VALUE_BYTES: usize = 256;

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(4);

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// A value that says when its put was due.
pub(super) fn stamped(due: Instant) -> Vec<u8> {
    let mut value = vec![b'v'; VALUE_BYTES];
    let since = due.saturating_duration_since(epoch()).as_nanos();
    value[..8].copy_from_slice(&u64::try_from(since).unwrap_or(u64::MAX).to_be_bytes());
    value
}

/// How long ago the put of this value was due.
pub(super) fn age(value: &[u8]) -> Option<Duration> {
    let due = u64::from_be_bytes(value.get(..8)?.try_into().ok()?);
    Some(epoch().elapsed().saturating_sub(Duration::from_nanos(due)))
}

/// Latencies that many tasks write down.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies(Arc<Mutex<Vec<u32>>>);

impl Latencies {
    /// Microseconds, up to an hour.
    pub(super) fn add(&self, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(micros);
    }

    /// Everything since the last call.
    pub(super) fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The 99th percentile in milliseconds; NaN of nothing.
pub(super) fn p99_ms(mut latencies: Vec<u32>) -> f64 {
    latencies.sort_unstable();
    let place = latencies.len().saturating_sub(1) * 99 / 100;
    latencies.get(place).map_or(f64::NAN, |micros| f64::from(*micros) / 1e3)
}

/// Watches a server's anonymous memory until asked.
#[derive(Debug)]
pub(super) struct Peak {
    stop: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    before: u64,
}

impl Peak {
    pub(super) fn start(pid: u32) -> io::Result<Peak> {
        let before = memory(pid)?.anonymous;
        let (stop, highest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(before)));
        let (asked, seen) = (stop.clone(), highest.clone());
        std::thread::spawn(move || {
            while !asked.load(Relaxed) {
                if let Ok(now) = memory(pid) {
                    seen.fetch_max(now.anonymous, Relaxed);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Ok(Peak { stop, highest, before })
    }

    /// MiB above the start.
    pub(super) fn growth_mib(self) -> f64 {
        self.stop.store(true, Relaxed);
        mib(self.highest.load(Relaxed).saturating_sub(self.before))
    }
}

pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_its_age() {
        let value = stamped(Instant::now());
        assert!(age(&value).unwrap() < Duration::from_secs(60));
        assert_eq!(age(b"short"), None);
    }

    #[test]
    fn the_99th_percentile_of_a_known_set() {
        assert_eq!(p99_ms((1..=101).map(|n| n * 1000).collect()), 100.0);
        assert!(p99_ms(Vec::new()).is_nan());
    }
}
