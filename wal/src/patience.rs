//! How a thread waits before it sleeps: it lets the others run a few times. What it waits for takes about as long as it takes them all to
//! come by, and then nobody needs to be put to sleep and woken, which costs several times as much.
//!
//! That holds while those who wait have the processors to themselves. Whoever gives way to a program that computes gets the processor
//! back after milliseconds, and would have been preferred had it slept. So it is timed: once giving way took long, nobody does it for a good while.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// How often a thread lets others run before it sleeps.
const TIMES: u32 = 8;
/// Longer than it takes dozens of threads to put a record each in its place; shorter than a program's turn at the processor.
const LONG: Duration = Duration::from_millis(1);
/// A long one weighs as much as this many short ones: in good times one in hundreds is long, beside a program that computes nearly all are.
const WEIGHT: u32 = 16;
/// This much weight, and giving way is given up.
const TROUBLE_MAX: u32 = 64 * WEIGHT;
/// How many waits go by until it is tried again.
const SKIPPED: u32 = 1 << 17;

#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// How many waits are still to sleep at once.
    skip: AtomicU32,
    trouble: AtomicU32,
}

fn lower(counter: &AtomicU32) -> bool {
    counter.load(Relaxed) > 0 && counter.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl Patience {
    /// One that never gives way: every wait is a sleep.
    #[cfg(test)]
    pub(crate) fn none() -> Patience {
        Patience { skip: AtomicU32::new(u32::MAX), ..Patience::default() }
    }

    /// Lets other threads run until it is `over`; false when it is time to sleep.
    pub(crate) fn wait(&self, over: impl Fn() -> bool) -> bool {
        if lower(&self.skip) {
            return false;
        }
        for _ in 0..TIMES {
            let start = Instant::now();
            thread::yield_now();
            if start.elapsed() < LONG {
                lower(&self.trouble);
            } else if self.trouble.fetch_add(WEIGHT, Relaxed) + WEIGHT >= TROUBLE_MAX {
                self.trouble.store(0, Relaxed);
                self.skip.store(SKIPPED, Relaxed);
                return over();
            }
            if over() {
                return true;
            }
        }
        false
    }
}
