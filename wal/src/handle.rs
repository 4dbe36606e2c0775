//! A handle on durability: polled, blocked on, or awaited.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::core::Core;
use crate::error::Error;
use crate::group::WaiterId;
use crate::position::Position;

/// Says when everything up to a position is durable. Cheap to clone.
///
/// Awaiting it registers the task and waits for somebody's sync: of a thread in [`wait`](Durable::wait),
/// [`Wal::sync`](crate::Wal::sync) or [`Wal::commit`](crate::Wal::commit). Run one such thread if all of your callers are tasks.
///
/// # Cancel safety
/// Dropping the handle or its future takes nothing back: the records stay in the log.
#[derive(Debug)]
pub struct Durable {
    core: Arc<Core>,
    upto: Position,
    /// The entry among the waiters that this handle's last poll made.
    waiter: Option<WaiterId>,
}

impl Durable {
    pub(crate) fn new(core: Arc<Core>, upto: Position) -> Durable {
        Durable { core, upto, waiter: None }
    }

    /// The position that must become durable.
    pub fn upto(&self) -> Position {
        self.upto
    }

    /// Whether it is durable now.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::ReadOnly`] when it is not and never will be.
    pub fn poll(&self) -> Result<bool, Error> {
        self.core.is_durable(self.upto)
    }

    /// Blocks until it is durable; does the sync itself if nobody else does.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::ReadOnly`].
    pub fn wait(&self) -> Result<(), Error> {
        self.core.wait_durable(self.upto)
    }
}

impl Clone for Durable {
    fn clone(&self) -> Durable {
        Durable::new(Arc::clone(&self.core), self.upto)
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.core.group.forget(waiter);
        }
    }
}

impl Future for Durable {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (upto, read_only) = (this.upto.as_u64(), this.core.options().read_only);
        if !read_only && !this.core.group.register(upto, context.waker(), &mut this.waiter) {
            return Poll::Pending;
        }
        Poll::Ready(Durable::poll(this).map(|_| ()))
    }
}
