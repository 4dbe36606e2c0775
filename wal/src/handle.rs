//! A handle on durability: polled, blocked on, or awaited.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::core::Core;
use crate::error::Error;
use crate::position::Position;

/// Says when everything up to a position is durable. Cheap to clone.
///
/// Awaiting it registers the task and waits for somebody's sync: of a thread in [`wait`](Durable::wait),
/// [`Wal::sync`](crate::Wal::sync) or [`Wal::commit`](crate::Wal::commit). Run one such thread if all of your callers are tasks.
///
/// # Cancel safety
/// Dropping the handle or its future takes nothing back: the records stay in the log.
#[derive(Debug, Clone)]
pub struct Durable {
    core: Arc<Core>,
    upto: Position,
}

impl Durable {
    pub(crate) fn new(core: Arc<Core>, upto: Position) -> Durable {
        Durable { core, upto }
    }

    /// The position that must become durable.
    pub fn upto(&self) -> Position {
        self.upto
    }

    /// Whether it is durable now.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when it is not and never will be.
    pub fn poll(&self) -> Result<bool, Error> {
        if self.core.group.durable() >= self.upto.as_u64() {
            return Ok(true);
        }
        self.core.group.check().map(|()| false)
    }

    /// Blocks until it is durable; does the sync itself if nobody else does.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn wait(&self) -> Result<(), Error> {
        self.core.wait_durable(self.upto)
    }
}

impl Future for Durable {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.core.group.register(self.upto.as_u64(), context.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(Durable::poll(&self).map(|_| ()))
    }
}
