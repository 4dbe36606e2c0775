//! Long work in stints: a little of it, then a moment's sleep, however much is left, while there are short requests to serve.
//!
//! Linux may leave a thread that wakes up waiting until the next tick of its clock, 4 ms on many systems, while another one runs: it comes
//! first at once only where it has had less than its share of the processor, whatever the other one's priority. So whoever works for long
//! keeps requests, and the system's own threads that send a sync's flush to the device, waiting for whole ticks, unless it sleeps itself.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::{Exertion, Stopwatch};

/// Between two stints.
const BREATH: Duration = Duration::from_micros(50);

/// What a stint should take of a processor's time.
const STINT: Duration = Duration::from_micros(200);

/// For so long after a short request others are expected. On processors that nobody else wants, long work goes on without a break.
const EXPECTED: Duration = Duration::from_millis(100);

/// What is known of short requests.
#[derive(Debug)]
struct Requests {
    /// There was one since somebody last looked.
    asked: AtomicBool,
    /// When somebody last found that there was one, in microseconds after the process' first look.
    found: AtomicU64,
}

impl Requests {
    const fn new() -> Requests {
        Requests { asked: AtomicBool::new(false), found: AtomicU64::new(0) }
    }

    #[inline]
    fn asked(&self) {
        // Many threads may come here; as a rule it is known already.
        if !self.asked.load(Ordering::Relaxed) {
            self.asked.store(true, Ordering::Relaxed);
        }
    }

    /// Whether more are to be expected.
    fn are_expected(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        if self.asked.swap(false, Ordering::Relaxed) {
            self.found.store(now, Ordering::Relaxed);
            return true;
        }
        now.saturating_sub(self.found.load(Ordering::Relaxed)) < EXPECTED.as_micros() as u64
    }
}

/// Those of this process, whose processors are shared by all that it does.
static REQUESTS: Requests = Requests::new();

/// Somebody has asked for what takes microseconds, or for a sync of the log. Costs next to nothing.
#[inline]
pub fn asked() {
    REQUESTS.asked();
}

/// Lets others run, if there may be any.
pub fn breathe() {
    static BEGIN: OnceLock<Stopwatch> = OnceLock::new();
    if REQUESTS.are_expected(BEGIN.get_or_init(Stopwatch::start).elapsed()) {
        thread::sleep(BREATH);
    }
}

thread_local! {
    /// Since when this thread has not rested.
    static SINCE: Cell<Option<(Stopwatch, Exertion)>> = const { Cell::new(None) };
}

/// Lets others run if this thread has worked for a stint's time since it last did: to be called again and again in the midst of long
/// work. What the thread waited for is no work.
pub fn rest() {
    let now = || Some((Stopwatch::start(), Exertion::start()));
    let Some((since, exertion)) = SINCE.get() else { return SINCE.set(now()) };
    // Asking for the processor's time goes to the system, asking for the time does not.
    if since.elapsed() < STINT {
        return;
    }
    if exertion.elapsed() >= STINT / 2 {
        breathe();
    }
    SINCE.set(now());
}

/// The part of its budgets that a stint has: less after one that took long, more after a short one.
#[derive(Debug)]
pub struct Stint(usize);

impl Default for Stint {
    fn default() -> Stint {
        Stint(Stint::WHOLE)
    }
}

impl Stint {
    /// In so many parts.
    const WHOLE: usize = 16;

    /// The stint's part of `budget`; never nothing of what is at least 16.
    #[must_use]
    pub fn of(&self, budget: usize) -> usize {
        budget * self.0 / Stint::WHOLE
    }

    /// The stint took so much of a processor's time.
    pub fn took(&mut self, time: Duration) {
        if time > 2 * STINT {
            self.0 = (self.0 / 2).max(1);
        } else if time < STINT {
            self.0 = (self.0 + 1).min(Stint::WHOLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_expected_for_a_while() {
        let (requests, later) = (Requests::new(), Duration::from_secs(10));
        assert!(!requests.are_expected(later));
        requests.asked();
        assert!(requests.are_expected(later));
        assert!(requests.are_expected(later + EXPECTED / 2));
        assert!(!requests.are_expected(later + EXPECTED));
        requests.asked();
        assert!(requests.are_expected(later + 2 * EXPECTED));
    }

    #[test]
    fn budgets_follow_what_stints_take() {
        let mut stint = Stint::default();
        assert_eq!(stint.of(2000), 2000);
        // What costs a microsecond each settles where a stint is not too long, and stays there.
        let mut took = Vec::new();
        for _ in 0..100 {
            let time = Duration::from_micros(stint.of(2000) as u64);
            took.push(time);
            stint.took(time);
        }
        assert!(took[10..].iter().all(|time| *time <= 2 * STINT && *time >= STINT / 2), "{took:?}");
        // However long they take, something is done.
        (0..100).for_each(|_| stint.took(Duration::from_secs(1)));
        assert_eq!(stint.of(16), 1);
        (0..15).for_each(|_| stint.took(Duration::ZERO));
        assert_eq!(stint.of(2000), 2000);
    }
}
