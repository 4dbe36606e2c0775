//! Group commit: what is durable, who waits for it, who syncs for all of them, and the poison of a failed sync.
//!
//! There is no thread here. Whoever waits while nobody syncs does it, for everything appended by then; those who
//! come meanwhile wait, and one of them does the next round. Sleepers are kept apart by the round that serves them, so one call wakes
//! exactly those who are served. A failure is remembered for good.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use crate::error::Error;
use crate::planted::{Bug, planted};

#[derive(Debug, Default)]
pub(crate) struct Group {
    durable: AtomicU64,
    /// What the round under way will have made durable; all that is staged by now while it has not taken it yet.
    promised: AtomicU64,
    state: Mutex<State>,
    /// Threads sleep here by the round that serves them, even or odd: there is one under way and one to come.
    gates: [Condvar; 2],
    poison: OnceLock<(&'static str, Arc<io::Error>)>,
}

#[derive(Debug, Default)]
struct State {
    syncing: bool,
    /// The number of the round under way, or of the last one.
    round: u64,
    /// How many threads sleep at each gate.
    asleep: [usize; 2],
    tasks: Vec<Task>,
    /// The vector of the last round, to be used again.
    woken: Vec<Task>,
    /// How many tasks there have been.
    tasks_ever: u64,
}

/// Names what one handle registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaiterId(u64);

#[derive(Debug)]
struct Task {
    upto: u64,
    id: WaiterId,
    waker: Waker,
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
        let tasks = std::mem::take(&mut self.state().tasks);
        for gate in &self.gates {
            gate.notify_all();
        }
        for task in tasks {
            task.waker.wake();
        }
        Error::Poisoned { operation, source: Arc::clone(source) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The round under way makes everything up to here durable, and nothing that is staged from now on. To be called while nothing can be staged.
    pub(crate) fn promise(&self, upto: u64) {
        self.promised.store(upto, Ordering::Release);
    }

    /// Returns once everything below `upto`, which is staged, is durable. `sync` is one round: it promises, and gives the position up
    /// to which all is durable.
    pub(crate) fn wait(&self, upto: u64, sync: impl Fn() -> Result<u64, Error>) -> Result<(), Error> {
        let mut state = self.state();
        loop {
            // Poison goes first: what is not acknowledged by now never is.
            self.check()?;
            if self.durable() >= upto {
                return Ok(());
            }
            if state.syncing {
                let served_by = state.round + u64::from(upto > self.promised.load(Ordering::Acquire));
                let gate = (served_by % 2) as usize;
                state.asleep[gate] += 1;
                state = self.gates[gate].wait(state).unwrap_or_else(PoisonError::into_inner);
                state.asleep[gate] -= 1;
                continue;
            }
            state.syncing = true;
            state.round += 1;
            self.promise(u64::MAX);
            drop(state);
            let outcome = sync();
            state = self.finish(outcome)?;
        }
    }

    /// Publishes a round, wakes those whom it served, and one of the others, who does the next round if nobody else has begun by then.
    fn finish(&self, outcome: Result<u64, Error>) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.state();
        state.syncing = false;
        let durable = outcome?;
        let durable = self.durable.fetch_max(durable, Ordering::AcqRel).max(durable);
        let gate = (state.round % 2) as usize;
        let asleep = state.asleep;
        let mut woken = std::mem::take(&mut state.woken);
        woken.extend(state.tasks.extract_if(.., |task| task.upto <= durable));
        drop(state);
        if asleep[gate] > 0 {
            self.gates[gate].notify_all();
        }
        if asleep[1 - gate] > 0 {
            self.gates[1 - gate].notify_one();
        }
        for task in woken.drain(..) {
            task.waker.wake();
        }
        let mut state = self.state();
        state.woken = woken;
        Ok(state)
    }

    /// Registers a task, in place of what it registered before; true when there is nothing to wait for.
    pub(crate) fn register(&self, upto: u64, waker: &Waker, waiter: &mut Option<WaiterId>) -> bool {
        let mut state = self.state();
        if self.durable() >= upto || self.poison.get().is_some() {
            return true;
        }
        if let Some(id) = *waiter
            && let Some(known) = state.tasks.iter_mut().find(|task| task.id == id)
        {
            let earlier = std::mem::replace(&mut known.waker, waker.clone());
            drop(state);
            // A waker may own its task, and the task a handle on this very log: it goes without the lock.
            drop(earlier);
            return false;
        }
        state.tasks_ever += 1;
        let id = WaiterId(state.tasks_ever);
        *waiter = Some(id);
        state.tasks.push(Task { upto, id, waker: waker.clone() });
        false
    }

    /// A task waits no more.
    pub(crate) fn forget(&self, id: WaiterId) {
        let mut state = self.state();
        let at = state.tasks.iter().position(|task| task.id == id);
        let gone = at.map(|at| state.tasks.swap_remove(at));
        drop(state);
        // As above.
        drop(gone);
    }
}
