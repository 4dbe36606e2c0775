//! A gate: threads sleep at it by the value it shows and are let through by a change of that value. No lock is held on
//! either side, so those who are let through do not queue for one.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    value: AtomicU32,
    /// Those who sleep or are about to.
    asleep: AtomicUsize,
    #[cfg(not(target_os = "linux"))]
    fallback: (std::sync::Mutex<()>, std::sync::Condvar),
}

impl Gate {
    /// What the gate shows now. Look at it first, then decide to sleep: a change in between is not missed.
    pub(crate) fn value(&self) -> u32 {
        self.value.load(Ordering::SeqCst)
    }

    /// Sleeps unless the gate shows something else than `seen` by now. May return for no reason.
    pub(crate) fn sleep(&self, seen: u32) {
        // Counted before the system compares: whoever changes the value afterwards sees the sleeper.
        self.asleep.fetch_add(1, Ordering::SeqCst);
        self.system_sleep(seen);
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }

    /// Changes the value and wakes everybody.
    pub(crate) fn open(&self) {
        self.change(i32::MAX);
    }

    /// Changes the value and wakes one of those who sleep.
    pub(crate) fn open_for_one(&self) {
        self.change(1);
    }

    fn change(&self, wake: i32) {
        self.value.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            self.system_wake(wake);
        }
    }

    #[cfg(target_os = "linux")]
    fn system_sleep(&self, seen: u32) {
        crate::sys::futex_wait(&self.value, seen);
    }

    #[cfg(target_os = "linux")]
    fn system_wake(&self, count: i32) {
        crate::sys::futex_wake(&self.value, count);
    }

    #[cfg(not(target_os = "linux"))]
    fn system_sleep(&self, seen: u32) {
        let (lock, changed) = &self.fallback;
        let guard = lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.value() == seen {
            drop(changed.wait(guard));
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn system_wake(&self, count: i32) {
        let (lock, changed) = &self.fallback;
        // Nobody is between its look at the value and its sleep now.
        drop(lock.lock());
        if count == 1 { changed.notify_one() } else { changed.notify_all() }
    }
}
