//! How a thread waits before it sleeps: it lets the others run a few times. What it waits for takes about as long as it takes them all to
//! come by, and then nobody needs to be put to sleep and woken, which costs several times as much.
//!
//! That holds while those who wait have the processors to themselves. Whoever gives way to a program that computes gets the processor
//! back after milliseconds, and would have been preferred had it slept. So it is timed: when that takes a good part of the time, nobody gives
//! way for a good while. All who wait at once meet the same standstill, which counts once; now and then there is one without any such program.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// How often a thread lets others run before it sleeps.
const TIMES: u32 = 8;
/// A standstill: longer than it takes dozens of threads to put a record each in its place; shorter than a program's turn at the processor.
const LONG: Duration = Duration::from_millis(1);
/// More than one part in so many of the time spent in standstills is too much.
const SHARE: u64 = 4;
/// For how long it may be too much: a standstill of a quarter of this is borne, or half of the time for as long as this.
const DEBT_MAX: Duration = Duration::from_millis(100);
/// How many waits go by until it is tried again.
const SKIPPED: u32 = 1 << 17;

#[derive(Debug)]
pub(crate) struct Patience {
    /// How many waits are still to sleep at once.
    skip: AtomicU32,
    /// Times are nanoseconds from here on.
    base: Instant,
    /// Standstills up to here are counted.
    counted: AtomicU64,
    /// When all of them will have been made up for, at [`SHARE`] times their length.
    settled: AtomicU64,
}

impl Default for Patience {
    fn default() -> Patience {
        let (counted, settled) = Default::default();
        Patience { skip: AtomicU32::new(0), base: Instant::now(), counted, settled }
    }
}

impl Patience {
    /// One that never gives way: every wait is a sleep.
    #[cfg(test)]
    pub(crate) fn none() -> Patience {
        Patience { skip: AtomicU32::new(u32::MAX), ..Patience::default() }
    }

    /// Lets other threads run until it is `over`; false when it is time to sleep.
    pub(crate) fn wait(&self, over: impl Fn() -> bool) -> bool {
        let skip = &self.skip;
        if skip.load(Relaxed) > 0 && skip.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return false;
        }
        for _ in 0..TIMES {
            let start = self.base.elapsed();
            thread::yield_now();
            let end = self.base.elapsed();
            if end - start >= LONG && self.lost(start.as_nanos() as u64, end.as_nanos() as u64) {
                skip.store(SKIPPED, Relaxed);
                return over();
            }
            if over() {
                return true;
            }
        }
        false
    }

    /// Counts a standstill; true when there was too much of them.
    fn lost(&self, start: u64, end: u64) -> bool {
        let counted = self.counted.fetch_max(end, Relaxed);
        let cost = SHARE * end.saturating_sub(start.max(counted));
        let settled = self.settled.load(Relaxed).max(end) + cost;
        let too_much = settled - end > DEBT_MAX.as_nanos() as u64;
        self.settled.store(if too_much { end } else { settled }, Relaxed);
        too_much
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Whether 64 threads that all meet each of these standstills, `length` long and `apart` from each other, give up within two seconds.
    fn give_up(length: u64, apart: u64) -> bool {
        let patience = Patience::default();
        (0..2000 * MS / apart).any(|i| (0..64).any(|_| patience.lost(i * apart, i * apart + length * MS)))
    }

    #[test]
    fn a_standstill_counts_once_and_programs_that_compute_count() {
        assert!(!give_up(2, 100 * MS), "now and then the machine stands still");
        assert!(!give_up(20, 200 * MS), "rarely, and for long");
        assert!(give_up(3, 4 * MS), "another program has the processor most of the time");
        assert!(give_up(30, 200 * MS), "once for too long");
    }
}
