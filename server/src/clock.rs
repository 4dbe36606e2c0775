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
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the system writes a timespec to where one is.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
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
