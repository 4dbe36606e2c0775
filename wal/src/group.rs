//! Group commit: what is durable, who waits for it, who syncs for all of them, and the poison of a failed sync.
//!
//! There is no thread here. Whoever waits while nobody syncs does it, for everything staged by then; those who come
//! meanwhile wait, and one of them does the next round. A failure is remembered for good.
//!
//! Waiting takes no lock. The *phase* counts rounds and says how far the round under way is; sleepers are kept apart by the
//! round that serves them, at one of two gates:
//!
//! ```text
//! phase 4r      nobody syncs; r rounds are over                    whoever comes leads: 4r → 4r + 1
//!       4r + 1  round r is under way and has taken nothing yet     it serves all that is staged by now: gate r
//!       4r + 2  it has taken what lies below `promised`            gate r if it serves, else gate r + 1
//!       4r + 4  it is over: gate r is opened for all, gate r + 1 for one, who leads the next round
//! ```
//!
//! Before it sleeps, a thread lets the others run a few times ([`Patience`]).
//!
//! No wake-up is lost: a sleeper looks at its gate's value, then checks that the round is still under way, then sleeps unless the
//! value has changed; the end of a round changes the phase first and the values of both gates afterwards.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use crate::error::Error;
use crate::gate::Gate;
use crate::patience::Patience;
use crate::planted::{Bug, planted};

#[derive(Debug, Default)]
pub(crate) struct Group {
    durable: AtomicU64,
    phase: AtomicU64,
    /// What the round under way will have made durable, once it has taken it.
    promised: AtomicU64,
    gates: [Gate; 2],
    patience: Patience,
    /// Threads that wait for a round, asleep or not.
    waiting_threads: AtomicUsize,
    /// How many tasks are registered or about to be.
    waiting_tasks: AtomicUsize,
    tasks: Mutex<Tasks>,
    poison: OnceLock<(&'static str, Arc<io::Error>)>,
}

#[derive(Debug, Default)]
struct Tasks {
    waiting: Vec<Task>,
    /// The vector of the last round, to be used again.
    woken: Vec<Task>,
    /// How many tasks there have been.
    ever: u64,
}

/// Where a round stands, in the last two bits of the phase.
const IDLE: u64 = 0;
const GATHERING: u64 = 1;
const TAKEN: u64 = 2;
/// From one round to the next.
const ROUND: u64 = 4;

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
        self.durable.load(SeqCst)
    }

    /// The error that every later call gets, once one write or sync failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.poison.get() {
            None => Ok(()),
            Some((operation, source)) => Err(Error::Poisoned { operation, source: Arc::clone(source) }),
        }
    }

    /// Remembers a failure for good, the first one counts, and wakes everybody.
    pub(crate) fn poison(&self, operation: &'static str, error: io::Error) -> Error {
        if planted(Bug::SyncErrorForgotten) {
            return Error::Poisoned { operation, source: Arc::new(error) };
        }
        let (operation, source) = self.poison.get_or_init(|| (operation, Arc::new(error)));
        self.gates.iter().for_each(Gate::open);
        self.wake_waiting(u64::MAX);
        Error::Poisoned { operation, source: Arc::clone(source) }
    }

    /// Runs what goes to the disk. A panic of it poisons as an error does: what it did is not known, and nobody may sleep on.
    pub(crate) fn guarded<T>(&self, operation: &'static str, work: impl FnOnce() -> T) -> T {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            self.poison(operation, io::Error::other("it panicked"));
            resume_unwind(panic)
        })
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate(&self, round: u64) -> &Gate {
        &self.gates[(round % 2) as usize]
    }

    /// The round under way makes everything up to here durable, and nothing that is staged from now on. To be called by it,
    /// while nothing can be staged.
    pub(crate) fn promise(&self, upto: u64) {
        self.promised.store(upto, SeqCst);
        // Only the one that leads changes a phase that is not idle.
        self.phase.fetch_add(TAKEN - GATHERING, SeqCst);
    }

    /// Returns once everything below `upto`, which is staged, is durable. `sync` is one round: it promises, and gives the position up
    /// to which all is durable.
    pub(crate) fn wait(&self, upto: u64, sync: impl Fn() -> Result<u64, Error>) -> Result<(), Error> {
        let mut called_to_lead = false;
        loop {
            // Poison goes first: what is not acknowledged by now never is.
            self.check()?;
            if self.durable() >= upto {
                if called_to_lead {
                    self.call_another();
                }
                return Ok(());
            }
            let phase = self.phase.load(SeqCst);
            if phase % ROUND == IDLE {
                if self.phase.compare_exchange(phase, phase + GATHERING, SeqCst, SeqCst).is_ok() {
                    self.lead(phase / ROUND, &sync)?;
                }
                continue;
            }
            let round = phase / ROUND;
            let served = phase % ROUND == GATHERING || upto <= self.promised.load(SeqCst);
            let gate = self.gate(round + u64::from(!served));
            let seen = gate.value();
            // Still the same round: what was read of it belongs together, and its end is yet to open the gate.
            let now = self.phase.load(SeqCst);
            if now / ROUND == round && now % ROUND != IDLE && self.poison.get().is_none() {
                let over = || self.phase.load(SeqCst) / ROUND != round || self.poison.get().is_some();
                self.waiting_threads.fetch_add(1, SeqCst);
                if !self.patience.wait(over) {
                    gate.sleep(seen);
                    called_to_lead = !served;
                }
                self.waiting_threads.fetch_sub(1, SeqCst);
            }
        }
    }

    fn lead(&self, round: u64, sync: impl Fn() -> Result<u64, Error>) -> Result<(), Error> {
        // Those whom the last round served are about to bring more: they get the processor first. Nobody there, no call.
        if self.waiting_threads.load(SeqCst) > 0 {
            std::thread::yield_now();
        }
        // It ends the round even when it panics.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.guarded("round of sync", sync)));
        let served = outcome.as_ref().ok().and_then(|outcome| outcome.as_ref().ok()).copied();
        let durable = self.durable.fetch_max(served.unwrap_or(0), SeqCst).max(served.unwrap_or(0));
        self.phase.store((round + 1) * ROUND, SeqCst);
        self.gate(round).open();
        if served.is_some() {
            self.gate(round + 1).open_for_one();
        } else {
            self.gate(round + 1).open();
        }
        let outcome = outcome.unwrap_or_else(|panic| resume_unwind(panic));
        self.wake_tasks(durable);
        outcome.map(drop)
    }

    /// Whoever was woken to lead and need not, because more became durable than was promised, lets another one look.
    fn call_another(&self) {
        if self.phase.load(SeqCst) % ROUND == IDLE {
            self.gates.iter().for_each(Gate::open_for_one);
        }
    }

    fn wake_tasks(&self, durable: u64) {
        // A task that is being registered counted itself before it looks at what is durable.
        if self.waiting_tasks.load(SeqCst) == 0 {
            return;
        }
        self.wake_waiting(durable);
    }

    fn wake_waiting(&self, durable: u64) {
        let mut tasks = self.tasks();
        let mut woken = std::mem::take(&mut tasks.woken);
        woken.extend(tasks.waiting.extract_if(.., |task| task.upto <= durable));
        drop(tasks);
        self.waiting_tasks.fetch_sub(woken.len(), SeqCst);
        let mut panicked = None;
        for task in woken.drain(..) {
            // A waker is somebody else's code: if it panics, the others are woken all the same.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task.waker.wake())) {
                panicked = Some(panic);
            }
        }
        self.tasks().woken = woken;
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
    }

    /// Registers a task, in place of what it registered before; true when there is nothing to wait for.
    pub(crate) fn register(&self, upto: u64, waker: &Waker, waiter: &mut Option<WaiterId>) -> bool {
        let mut tasks = self.tasks();
        self.waiting_tasks.fetch_add(1, SeqCst);
        if self.durable() >= upto || self.poison.get().is_some() {
            self.waiting_tasks.fetch_sub(1, SeqCst);
            return true;
        }
        if let Some(id) = *waiter
            && let Some(known) = tasks.waiting.iter_mut().find(|task| task.id == id)
        {
            self.waiting_tasks.fetch_sub(1, SeqCst);
            let earlier = std::mem::replace(&mut known.waker, waker.clone());
            drop(tasks);
            // A waker may own its task, and the task a handle on this very log: it goes without the lock.
            drop(earlier);
            return false;
        }
        tasks.ever += 1;
        let id = WaiterId(tasks.ever);
        *waiter = Some(id);
        tasks.waiting.push(Task { upto, id, waker: waker.clone() });
        false
    }

    /// A task waits no more.
    pub(crate) fn forget(&self, id: WaiterId) {
        let mut tasks = self.tasks();
        let at = tasks.waiting.iter().position(|task| task.id == id);
        let gone = at.map(|at| tasks.waiting.swap_remove(at));
        drop(tasks);
        self.waiting_tasks.fetch_sub(usize::from(gone.is_some()), SeqCst);
        // As above.
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    /// Few enough for an interpreter that tries one order of the threads' steps after another:
    /// `MIRIFLAGS="-Zmiri-many-seeds=0..256" cargo +nightly miri test -p ketch-wal --lib group`.
    const THREADS: u64 = if cfg!(miri) { 4 } else { 16 };
    const COMMITS: u64 = if cfg!(miri) { 6 } else { 3000 };

    /// Rounds over a counter that stands for the staged bytes. A wake-up that is lost shows as a test that does not end.
    #[test]
    fn nobody_returns_early_and_nobody_is_forgotten() {
        many_wait(Group::new(0));
        many_wait(Group { patience: Patience::none(), ..Group::default() });
    }

    fn many_wait(group: Group) {
        let (staged, leading) = (AtomicU64::new(0), AtomicBool::new(false));
        let sync = || {
            assert!(!leading.swap(true, SeqCst), "two rounds at once");
            let upto = staged.load(SeqCst);
            group.promise(upto);
            thread::yield_now();
            // Now and then more is durable than was promised.
            let durable = if upto % 7 == 0 { staged.load(SeqCst) } else { upto };
            leading.store(false, SeqCst);
            Ok(durable)
        };
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..COMMITS {
                        let upto = staged.fetch_add(1, SeqCst) + 1;
                        group.wait(upto, sync).unwrap();
                        assert!(group.durable() >= upto);
                    }
                });
            }
        });
        assert_eq!(group.durable(), THREADS * COMMITS);
        assert_eq!(group.phase.load(SeqCst) % ROUND, IDLE);
    }

    #[test]
    fn a_failure_wakes_everybody_for_good() {
        let (group, staged) = (Group::new(0), AtomicU64::new(0));
        let sync = || {
            group.promise(staged.load(SeqCst));
            // The others sleep by now, or come later; both get the error.
            while staged.load(SeqCst) < 8 {
                thread::yield_now();
            }
            Err(group.poison("sync", io::Error::other("gone")))
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let upto = staged.fetch_add(1, SeqCst) + 1;
                    assert!(matches!(group.wait(upto, sync), Err(Error::Poisoned { .. })));
                });
            }
        });
        assert!(group.check().is_err());
        assert_eq!(group.durable(), 0);
    }
}
