//! What the stations are made of: a queue that is emptied as a whole, a thread that sleeps until it is woken.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread::Thread;

use ketch_raft::{Body, Entry};

use super::Input;
use crate::sync::{lock, try_lock};

/// A queue that is emptied as a whole.
#[derive(Debug)]
pub(super) struct Queue<T>(Mutex<Vec<T>>);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue(Mutex::new(Vec::new()))
    }
}

impl<T> Queue<T> {
    pub(super) fn push(&self, item: T) {
        lock(&self.0).push(item);
    }

    pub(super) fn extend(&self, items: impl Iterator<Item = T>) {
        lock(&self.0).extend(items);
    }

    pub(super) fn append(&self, items: &mut Vec<T>) {
        if !items.is_empty() {
            lock(&self.0).append(items);
        }
    }

    /// Takes all.
    pub(super) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *lock(&self.0))
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Enters the `station` that this queue is for and takes all that waits, if nobody is there and `wanted` says so of it.
    pub(super) fn take_to<'a, S>(
        &self,
        station: &'a Mutex<S>,
        wanted: impl FnOnce(&[T]) -> bool,
    ) -> Option<(MutexGuard<'a, S>, Vec<T>)> {
        if self.is_empty() {
            return None;
        }
        let station = try_lock(station)?;
        let mut queue = lock(&self.0);
        let takes = !queue.is_empty() && wanted(&queue);
        takes.then(|| (station, std::mem::take(&mut *queue)))
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

/// So many bytes of proposals do not wait for the log: what follows them could no longer travel in the same message.
const GATHERED_MAX: u64 = 1 << 20;

/// Proposals, held back while the log is at work.
#[derive(Debug, Default)]
pub(super) struct Gather(Mutex<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    inputs: Vec<Input>,
    bytes: u64,
    held: bool,
}

impl Gathered {
    fn is_due(&self) -> bool {
        !self.inputs.is_empty() && (!self.held || self.bytes >= GATHERED_MAX)
    }
}

impl Gather {
    pub(super) fn push(&self, proposal: Input) {
        let bytes = match &proposal {
            Input::Propose { command, .. } => command.len() as u64,
            Input::Message(message) => match &message.body {
                Body::Propose { entries } => entries.iter().map(Entry::payload_bytes).sum(),
                _ => 0,
            },
            _ => 0,
        };
        let mut gathered = lock(&self.0);
        gathered.bytes += bytes;
        gathered.inputs.push(proposal);
    }

    /// Something is here that consensus may have now.
    pub(super) fn is_due(&self) -> bool {
        lock(&self.0).is_due()
    }

    /// Moves what is due to `inputs`. True when something stays behind.
    pub(super) fn take_due(&self, inputs: &mut Vec<Input>) -> bool {
        let mut gathered = lock(&self.0);
        if gathered.is_due() {
            gathered.bytes = 0;
            inputs.append(&mut gathered.inputs);
        }
        !gathered.inputs.is_empty()
    }

    /// How many proposals are here; a message from a follower may bring several.
    pub(super) fn len(&self) -> usize {
        let proposals = |input: &Input| match input {
            Input::Message(message) => match &message.body {
                Body::Propose { entries } => entries.len(),
                _ => 0,
            },
            _ => 1,
        };
        lock(&self.0).inputs.iter().map(proposals).sum()
    }

    /// The log is about to get something to sync. Called before it gets it, by whoever runs consensus.
    pub(super) fn hold(&self) {
        lock(&self.0).held = true;
    }

    /// The log has nothing to do. Called after each of its turns that leaves it so. A job that comes at the same time may run
    /// without a hold, which costs only company; no hold stays without a job, since each is followed by one.
    pub(super) fn release(&self) {
        lock(&self.0).held = false;
    }
}

/// One thread that sleeps until it is woken; a wake-up before the sleep is not lost.
#[derive(Debug, Default)]
pub(super) struct Sleeper {
    state: AtomicU32,
    thread: OnceLock<Thread>,
}

impl Sleeper {
    const AWAKE: u32 = 0;
    const ASLEEP: u32 = 1;
    const WOKEN: u32 = 2;

    pub(super) fn adopt(&self, thread: Thread) {
        // One thread only: a second one would find the first one's name here and sleep without a waker.
        let _first = self.thread.set(thread);
    }

    pub(super) fn wake(&self) {
        if self.state.swap(Self::WOKEN, Ordering::SeqCst) == Self::ASLEEP
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    pub(super) fn sleep(&self) {
        if self.state.compare_exchange(Self::AWAKE, Self::ASLEEP, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            while self.state.load(Ordering::SeqCst) == Self::ASLEEP {
                std::thread::park();
            }
        }
        self.state.store(Self::AWAKE, Ordering::SeqCst);
    }
}
