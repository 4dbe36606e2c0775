//! The only place that reads the time.

use std::time::{Duration, Instant, SystemTime};

/// Measures how long something takes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Measures how long the calling thread runs on a processor: what it waits for does not count.
#[derive(Debug, Clone, Copy)]
pub struct Exertion(Duration);

impl Exertion {
    /// Starts now.
    #[must_use]
    pub fn start() -> Exertion {
        Exertion(processor_time())
    }

    /// What the thread ran since the start, which must have been on the same thread.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        processor_time().saturating_sub(self.0)
    }
}

fn processor_time() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// A clock that costs little to read, where there is one.
#[cfg(target_os = "linux")]
const COARSE: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
#[cfg(not(target_os = "linux"))]
const COARSE: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Measures what is done one after the other, to find what takes longer than a limit. Where the limit allows it, this is a clock that
/// the system moves on a few hundred times a second: it costs a fifth of an exact one.
#[derive(Debug)]
pub struct Laps {
    clock: libc::clockid_t,
    since: Duration,
}

impl Laps {
    /// Measures exactly enough for `limit`: to a tenth of it. Starts now.
    #[must_use]
    pub fn for_limit(limit: Duration) -> Laps {
        let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the system writes a timespec to where one is.
        let known = unsafe { libc::clock_getres(COARSE, &raw mut resolution) } == 0;
        let coarse = known && duration(resolution) <= limit / 10;
        let clock = if coarse { COARSE } else { libc::CLOCK_MONOTONIC };
        Laps { clock, since: read(clock) }
    }

    /// The time since the start or the last lap.
    pub fn lap(&mut self) -> Duration {
        let now = read(self.clock);
        now.saturating_sub(std::mem::replace(&mut self.since, now))
    }
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the system writes a timespec to where one is.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    duration(time)
}

fn duration(time: libc::timespec) -> Duration {
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

/// Now, as a calendar counts it: for people, never for decisions.
#[must_use]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Now, as a deadline counts it.
#[must_use]
pub fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_are_measured_as_exactly_as_the_limit_needs() {
        assert_eq!(Laps::for_limit(Duration::from_secs(10)).clock, COARSE);
        let mut exact = Laps::for_limit(Duration::from_nanos(1));
        assert_eq!(exact.clock, libc::CLOCK_MONOTONIC);
        let start = exact.since;
        let both = exact.lap() + exact.lap();
        assert_eq!(exact.since - start, both);
    }
}
