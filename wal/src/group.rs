//! Group commit: what is durable, who waits for it, who syncs for all of them, and the poison of a failed sync.
//!
//! There is no thread here. Whoever waits while nobody syncs does it, for everything appended by then; those who
//! come meanwhile wait, and one of them does the next round. A failure is remembered for good.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::thread::Thread;

use crate::error::Error;
use crate::planted::{Bug, planted};

#[derive(Debug, Default)]
pub(crate) struct Group {
    durable: AtomicU64,
    state: Mutex<State>,
    poison: OnceLock<(&'static str, Arc<io::Error>)>,
}

#[derive(Debug, Default)]
struct State {
    syncing: bool,
    waiters: Vec<Waiter>,
    /// The vector of the last round, to be used again.
    woken: Vec<Waiter>,
    /// How many waiters of tasks there have been.
    tasks: u64,
}

/// Names what one handle registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaiterId(u64);

#[derive(Debug)]
struct Waiter {
    upto: u64,
    wake: Wake,
}

impl Waiter {
    fn task(&self) -> Option<WaiterId> {
        match self.wake {
            Wake::Task(_, id) => Some(id),
            Wake::Thread(..) => None,
        }
    }
}

#[derive(Debug)]
enum Wake {
    /// Sleeps until the flag is set; may be asked to do the next round.
    Thread(Thread, Arc<AtomicBool>),
    Task(Waker, WaiterId),
}

impl Wake {
    fn wake(self) {
        match self {
            Wake::Thread(thread, woken) => {
                woken.store(true, Ordering::Release);
                thread.unpark();
            }
            Wake::Task(waker, _) => waker.wake(),
        }
    }
}

impl Group {
    pub(crate) fn new(durable: u64) -> Group {
        Group { durable: AtomicU64::new(durable), ..Group::default() }
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The error that every later call gets, once one write or sync failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.poison.get() {
            None => Ok(()),
            Some((operation, source)) => Err(Error::Poisoned { operation, source: Arc::clone(source) }),
        }
    }

    /// Remembers a failure for good; the first one counts.
    pub(crate) fn poison(&self, operation: &'static str, error: io::Error) -> Error {
        if planted(Bug::SyncErrorForgotten) {
            return Error::Poisoned { operation, source: Arc::new(error) };
        }
        let (operation, source) = self.poison.get_or_init(|| (operation, Arc::new(error)));
        let waiters = std::mem::take(&mut self.state().waiters);
        for waiter in waiters {
            waiter.wake.wake();
        }
        Error::Poisoned { operation, source: Arc::clone(source) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once everything below `upto` is durable. `sync` is one round: it gives the position up to which all is durable.
    pub(crate) fn wait(&self, upto: u64, sync: impl Fn() -> Result<u64, Error>) -> Result<(), Error> {
        let mut flag: Option<Arc<AtomicBool>> = None;
        loop {
            // Poison goes first: what is not acknowledged by now never is.
            self.check()?;
            if self.durable() >= upto {
                return Ok(());
            }
            let mut state = self.state();
            if self.poison.get().is_some() || self.durable() >= upto {
                continue;
            }
            if state.syncing {
                let flag = flag.get_or_insert_with(Arc::default);
                flag.store(false, Ordering::Release);
                state
                    .waiters
                    .push(Waiter { upto, wake: Wake::Thread(std::thread::current(), Arc::clone(flag)) });
                drop(state);
                while !flag.load(Ordering::Acquire) {
                    std::thread::park();
                }
                continue;
            }
            state.syncing = true;
            drop(state);
            let outcome = sync();
            self.finish(outcome)?;
        }
    }

    /// Publishes a round, hands the next one over, then wakes those who are served.
    fn finish(&self, outcome: Result<u64, Error>) -> Result<(), Error> {
        let mut state = self.state();
        state.syncing = false;
        let durable = match outcome {
            Ok(durable) => self.durable.fetch_max(durable, Ordering::AcqRel).max(durable),
            Err(error) => {
                drop(state);
                return Err(error);
            }
        };
        // The next round starts at once, beside the waking of those who are served.
        let next = state
            .waiters
            .iter()
            .position(|waiter| waiter.upto > durable && matches!(waiter.wake, Wake::Thread(..)));
        if let Some(next) = next {
            state.waiters.swap_remove(next).wake.wake();
        }
        let mut woken = std::mem::take(&mut state.woken);
        woken.extend(state.waiters.extract_if(.., |waiter| waiter.upto <= durable));
        drop(state);
        for waiter in woken.drain(..) {
            waiter.wake.wake();
        }
        self.state().woken = woken;
        Ok(())
    }

    /// Registers a task, in place of what it registered before; true when there is nothing to wait for.
    pub(crate) fn register(&self, upto: u64, waker: &Waker, waiter: &mut Option<WaiterId>) -> bool {
        let mut state = self.state();
        if self.durable() >= upto || self.poison.get().is_some() {
            return true;
        }
        if let Some(id) = *waiter
            && let Some(known) = state.waiters.iter_mut().find(|waiter| waiter.task() == Some(id))
        {
            let earlier = std::mem::replace(&mut known.wake, Wake::Task(waker.clone(), id));
            drop(state);
            // A waker may own its task, and the task a handle on this very log: it goes without the lock.
            drop(earlier);
            return false;
        }
        state.tasks += 1;
        let id = WaiterId(state.tasks);
        *waiter = Some(id);
        state.waiters.push(Waiter { upto, wake: Wake::Task(waker.clone(), id) });
        false
    }

    /// A task waits no more.
    pub(crate) fn forget(&self, id: WaiterId) {
        let mut state = self.state();
        let at = state.waiters.iter().position(|waiter| waiter.task() == Some(id));
        let gone = at.map(|at| state.waiters.swap_remove(at));
        drop(state);
        // As above.
        drop(gone);
    }
}
