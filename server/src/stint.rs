//! Long work in stints: a little of it, then a moment's sleep, however much is left.
//!
//! Linux may leave a thread that wakes up waiting until the next tick of its clock, 4 ms on many systems, while another one runs: it comes
//! first at once only where it has had less than its share of the processor, whatever the other one's priority. So whoever works for long
//! keeps requests, and the system's own threads that send a sync's flush to the device, waiting for whole ticks, unless it sleeps itself.

use std::thread;
use std::time::Duration;

/// Between two stints.
const BREATH: Duration = Duration::from_micros(50);

/// What a stint should take of a processor's time.
const STINT: Duration = Duration::from_micros(200);

/// Lets others run.
pub fn breathe() {
    thread::sleep(BREATH);
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
