//! The linearizable read barrier: a read waits until this member has applied everything that was committed
//! when the read came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::consensus::core::Input;
use crate::consensus::shell::Driver;

/// Why a read could not be made linearizable in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierError {
    /// No leader confirmed the read, or applying took too long.
    Timeout,
    /// The member is stopping.
    Stopped,
}

/// The read barrier of a member.
pub struct ReadBarrier {
    driver: Arc<Driver>,
    tickets: AtomicU64,
    /// Somebody is about to hand in what is queued.
    turn: AtomicBool,
    /// Who waits for so long waits in vain, whatever the client's patience.
    limit: Duration,
}

/// The duty to hand in what was queued; a reader that gives up does so as well.
struct Turn<'a>(&'a ReadBarrier);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Whoever comes from here on sees to itself.
        self.0.turn.store(false, Ordering::Release);
        self.0.driver.run();
    }
}

impl ReadBarrier {
    /// The barrier of the member that `driver` drives. Reads have until `limit` is over, if not less.
    #[must_use]
    pub fn new(driver: Arc<Driver>, limit: Duration) -> ReadBarrier {
        ReadBarrier { driver, tickets: AtomicU64::new(0), turn: AtomicBool::new(false), limit }
    }

    /// Whether a read need not wait: see [`Shared::is_up_to_date`](crate::state::Shared::is_up_to_date).
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.driver.stopped().is_none() && self.driver.shared().is_up_to_date()
    }

    /// Returns once the published store holds everything committed before the call.
    ///
    /// # Errors
    /// See [`BarrierError`].
    ///
    /// # Cancel safety
    /// Safe: dropping the future leaves nothing behind.
    pub async fn pass(&self, deadline: Instant) -> Result<(), BarrierError> {
        if self.is_open() {
            return Ok(());
        }
        let start = clock::now();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.driver.reads().register(ticket);
        self.driver.queue(Input::Read { ticket });
        if !self.turn.swap(true, Ordering::AcqRel) {
            let turn = Turn(self);
            // Those who are about to ask as well do so first: one question serves all.
            tokio::task::yield_now().await;
            drop(turn);
        }
        match tokio::time::timeout_at(deadline, waiting.value()).await {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(BarrierError::Stopped),
            Err(_elapsed) => {
                if start.elapsed() >= self.limit {
                    self.driver.metrics().read_indexes_slow.inc();
                }
                Err(BarrierError::Timeout)
            }
        }
    }
}
