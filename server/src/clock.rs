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
