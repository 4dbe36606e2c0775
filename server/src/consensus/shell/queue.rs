//! What the stations are made of: a queue that is emptied as a whole, a thread that sleeps until it is woken, a lock that
//! nobody waits for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread::Thread;

use crate::sync::lock;

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

    pub(super) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *lock(&self.0))
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
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

pub(super) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
