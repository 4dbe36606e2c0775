//! The cell that readers take the newest root from: the writer never waits for a reader, nor a reader for the writer.
//!
//! There are a few slots, each holding a pointer behind a lock that is only ever *tried*. The writer fills a slot
//! that is not the current one — skipping any that a reader happens to be copying from — and then names it current
//! with one atomic store. A reader copies the pointer out of the current slot; that fails only when the writer has
//! since gone once around all slots and is filling this very one, and then a newer slot is current already.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, TryLockError};

const SLOTS: usize = 8;

/// See the file's comment. One writer, any number of readers.
#[derive(Debug)]
pub(crate) struct Cell<T> {
    slots: [RwLock<Option<Arc<T>>>; SLOTS],
    current: AtomicUsize,
}

impl<T> Cell<T> {
    pub(crate) fn new(value: Arc<T>) -> Cell<T> {
        let slots: [RwLock<Option<Arc<T>>>; SLOTS] = Default::default();
        let cell = Cell { slots, current: AtomicUsize::new(0) };
        cell.set(value);
        cell
    }

    /// The value published last.
    pub(crate) fn get(&self) -> Arc<T> {
        loop {
            let slot = &self.slots[self.current.load(Ordering::Acquire) % SLOTS];
            let guard = match slot.try_read() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    std::hint::spin_loop();
                    continue;
                }
            };
            if let Some(value) = &*guard {
                return Arc::clone(value);
            }
        }
    }

    /// Publishes `value`; returns the one it replaces, so that the caller decides where it is dropped.
    pub(crate) fn set(&self, value: Arc<T>) -> Option<Arc<T>> {
        let current = self.current.load(Ordering::Relaxed);
        let mut next = current;
        loop {
            next = (next + 1) % SLOTS;
            if next == current {
                std::hint::spin_loop();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_only_growing_values() {
        let cell = Cell::new(Arc::new(0u64));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < 50_000 {
                        let now = *cell.get();
                        assert!(now >= last, "{now} after {last}");
                        last = now;
                    }
                });
            }
            for value in 1..=50_000 {
                cell.set(Arc::new(value));
            }
        });
    }

    #[test]
    fn nothing_old_is_kept_when_nobody_reads() {
        let first = Arc::new(1);
        let cell = Cell::new(Arc::clone(&first));
        drop(cell.set(Arc::new(2)));
        assert_eq!(Arc::strong_count(&first), 1);
        // A reader is copying while its slot is replaced.
        let second = cell.get();
        let busy = cell.slots[cell.current.load(Ordering::Relaxed)].read().unwrap();
        cell.set(Arc::new(3));
        drop(busy);
        assert_eq!(Arc::strong_count(&second), 2);
        cell.tidy();
        assert_eq!((Arc::strong_count(&second), *cell.get()), (1, 3));
    }
}
