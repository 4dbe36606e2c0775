//! The cell that readers take the newest root from: the writer never waits for a reader, nor a reader for the writer.
//!
//! There are a few slots, each holding a pointer behind a lock that is only ever *tried*. The writer fills a slot
//! that is not the current one — skipping any that a reader happens to be copying from — and then names it current
//! with one atomic store. A reader copies the pointer out of the current slot, which must still be the current one when the reader
//! has its lock; that fails only when the writer has published since, and then a newer slot is current already.
//!
//! A model checker runs this file with its own locks, and fewer slots, through every interleaving: `tests/it/publishing.rs`.

use std::sync::{Arc, TryLockError};

use super::sync::{AtomicUsize, Ordering, RwLock, SLOTS, spin_loop};

/// See the file's comment. One writer, any number of readers.
#[derive(Debug)]
pub(crate) struct Cell<T> {
    pub(super) slots: [RwLock<Option<Arc<T>>>; SLOTS],
    pub(super) current: AtomicUsize,
}

impl<T> Cell<T> {
    pub(crate) fn new(value: Arc<T>) -> Cell<T> {
        let slots = std::array::from_fn(|slot| RwLock::new((slot == 0).then(|| Arc::clone(&value))));
        Cell { slots, current: AtomicUsize::new(0) }
    }

    /// The value published last.
    pub(crate) fn get(&self) -> Arc<T> {
        loop {
            let current = self.current.load(Ordering::Acquire);
            let guard = match self.slots[current % SLOTS].try_read() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    spin_loop();
                    continue;
                }
            };
            // The writer may have gone round meanwhile: then the slot is empty, or has a value that is about to become the current one,
            // and whoever took it early could see the one before it afterwards.
            if self.current.load(Ordering::Acquire) == current
                && let Some(value) = &*guard
            {
                return Arc::clone(value);
            }
            drop(guard);
            spin_loop();
        }
    }

    /// Publishes `value`; returns the one it replaces, so that the caller decides where it is dropped.
    pub(crate) fn set(&self, value: Arc<T>) -> Option<Arc<T>> {
        let current = self.current.load(Ordering::Relaxed);
        let mut next = current;
        loop {
            next = (next + 1) % SLOTS;
            if next == current {
                spin_loop();
                continue;
            }
            let mut guard = match self.slots[next].try_write() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            *guard = Some(value);
            break;
        }
        self.current.store(next, Ordering::Release);
        // The old slot is emptied when nobody is copying from it; else `tidy` does so.
        match self.slots[current].try_write() {
            Ok(mut guard) => guard.take(),
            Err(_) => None,
        }
    }

    /// Empties slots that could not be emptied when they were replaced, because a reader was copying from them. Only for
    /// the writer, and whoever excludes it: a slot that is being filled is not current yet.
    pub(crate) fn tidy(&self) {
        let current = self.current.load(Ordering::Relaxed);
        for (_, slot) in self.slots.iter().enumerate().filter(|(i, _)| *i != current) {
            if let Ok(mut guard) = slot.try_write() {
                drop(guard.take());
            }
        }
    }
}
