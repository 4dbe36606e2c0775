//! When progress notices are due: the interval, a little longer by chance so that streams opened together are not all served
//! together.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// The least interval; a smaller one is raised to it.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The interval if none is given.
pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(600);

/// The instants at which one stream gives notice, counted from its start.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start: Instant,
    every: Duration,
}

impl Schedule {
    /// The schedule of the stream that is the `number`th of this member: every `interval` and up to a tenth more.
    #[must_use]
    pub fn new(interval: Duration, number: u64) -> Schedule {
        Schedule { start: clock::now(), every: interval + jitter(interval, number) }
    }

    /// The first instant after `now`.
    #[must_use]
    pub fn next(&self, now: Instant) -> Instant {
        let gone = now.saturating_duration_since(self.start).as_nanos() / self.every.as_nanos().max(1);
        let rounds = u32::try_from(gone).unwrap_or(u32::MAX).saturating_add(1);
        self.start + self.every * rounds
    }
}

/// Less than a tenth of `interval`. Multiples of the golden ratio lie as far apart as can be, however many there are.
fn jitter(interval: Duration, number: u64) -> Duration {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let share = number.wrapping_mul(GOLDEN) >> 32;
    let tenth = interval.as_nanos() / 10;
    Duration::from_nanos(u64::try_from((tenth * u128::from(share)) >> 32).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_spread_over_a_tenth_of_the_interval() {
        let interval = Duration::from_secs(10);
        let jitters: Vec<Duration> = (0..100).map(|number| jitter(interval, number)).collect();
        assert!(jitters.iter().all(|jitter| *jitter < Duration::from_secs(1)));
        let tenths: std::collections::BTreeSet<u128> =
            jitters.iter().map(|jitter| jitter.as_millis() / 100).collect();
        assert_eq!(tenths.len(), 10, "every tenth of it is used");
    }

    #[test]
    fn a_late_look_does_not_shift_the_schedule() {
        let schedule = Schedule { start: clock::now(), every: Duration::from_secs(10) };
        let at = |seconds| schedule.start + Duration::from_secs(seconds);
        assert_eq!(schedule.next(at(0)), at(10));
        assert_eq!(schedule.next(at(9)), at(10));
        assert_eq!(schedule.next(at(10)), at(20));
        assert_eq!(schedule.next(at(37)), at(40));
    }
}
