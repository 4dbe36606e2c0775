//! Who waits for what: requests for the answer of their command, reads for the applied index.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::sync::lock;

const SHARDS: usize = 16;

/// Waiters by a number that is never used twice in one life.
///
/// A waiter is removed by its completion or by dropping its [`Waiting`], whichever comes first, so a client
/// that went away leaves nothing behind.
#[derive(Debug)]
pub struct Waiters<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    pending: AtomicUsize,
    closed: AtomicBool,
}

type Shard<T> = HashMap<u64, Waiter<T>, BuildHasherDefault<Counting>>;

/// Takes values on behalf of many who wait, each under a name of its own.
pub trait Sink<T>: std::fmt::Debug + Send + Sync {
    /// The value for `name` is there; `None` if the room was closed. Must not wait.
    fn take(&self, name: u32, value: Option<T>);

    /// The same where nobody else waits for anything: what is to be done with it may be done at once. Must not wait.
    fn take_alone(&self, name: u32, value: Option<T>) {
        self.take(name, value);
    }
}

#[derive(Debug)]
enum Waiter<T> {
    Task(oneshot::Sender<T>),
    Sink(Arc<dyn Sink<T>>, u32),
}

impl<T> Waiter<T> {
    fn give(self, value: Option<T>) {
        match (self, value) {
            // The waiter may have given up a moment ago.
            (Waiter::Task(sender), Some(value)) => drop(sender.send(value)),
            (Waiter::Task(sender), None) => drop(sender),
            (Waiter::Sink(sink, name), value) => sink.take(name, value),
        }
    }
}

/// Serial numbers are spread as they are: there is nothing to mix and nobody to defend against.
#[derive(Debug, Default)]
struct Counting(u64);

impl Hasher for Counting {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.wrapping_mul(31).wrapping_add(u64::from(byte)));
    }
    fn write_u64(&mut self, number: u64) {
        // The table takes its tag from the upper bits.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Waiters {
            shards: std::array::from_fn(|_| Mutex::default()),
            pending: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }
}

impl<T> Waiters<T> {
    /// Registers a waiter under `number`.
    pub fn register(&self, number: u64) -> Waiting<'_, T> {
        let (sender, receiver) = oneshot::channel();
        self.insert(number, Waiter::Task(sender));
        Waiting { waiters: self, number, receiver }
    }

    /// Registers a waiter under `number` whose value `sink` takes for `name`. Who gives up says so with [`leave`](Self::leave).
    pub fn register_sink(&self, number: u64, sink: Arc<dyn Sink<T>>, name: u32) {
        self.insert(number, Waiter::Sink(sink, name));
    }

    /// The waiter `number` gives up.
    pub fn leave(&self, number: u64) {
        self.remove(number);
    }

    fn insert(&self, number: u64, waiter: Waiter<T>) {
        if self.closed.load(Ordering::SeqCst) {
            return waiter.give(None);
        }
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.shard(number).insert(number, waiter);
        if self.closed.load(Ordering::SeqCst)
            && let Some(waiter) = self.remove(number)
        {
            waiter.give(None);
        }
    }

    /// Hands `value` to the waiter `number`, if there still is one.
    pub fn complete(&self, number: u64, value: T) {
        if let Some(waiter) = self.remove(number) {
            waiter.give(Some(value));
        }
    }

    /// The same where nobody else waits; see [`Sink::take_alone`].
    pub fn complete_alone(&self, number: u64, value: T) {
        match self.remove(number) {
            Some(Waiter::Sink(sink, name)) => sink.take_alone(name, Some(value)),
            Some(waiter) => waiter.give(Some(value)),
            None => {}
        }
    }

    /// How many wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Lets everybody go empty-handed, now and from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for shard in &self.shards {
            let left = std::mem::take(&mut *lock(shard));
            self.pending.fetch_sub(left.len(), Ordering::Relaxed);
            left.into_values().for_each(|waiter| waiter.give(None));
        }
    }

    fn remove(&self, number: u64) -> Option<Waiter<T>> {
        let removed = self.shard(number).remove(&number);
        if removed.is_some() {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, Shard<T>> {
        lock(&self.shards[number as usize % SHARDS])
    }
}

/// A place in the waiting room; dropping it leaves the room.
#[derive(Debug)]
pub struct Waiting<'w, T> {
    waiters: &'w Waiters<T>,
    number: u64,
    receiver: oneshot::Receiver<T>,
}

impl<T> Waiting<'_, T> {
    /// Waits for the value; `None` if the room was closed.
    ///
    /// # Cancel safety
    /// Safe: a value that came is kept for the next call.
    pub async fn value(&mut self) -> Option<T> {
        (&mut self.receiver).await.ok()
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        self.waiters.remove(self.number);
    }
}

/// Reads that wait until an index is applied.
#[derive(Debug, Default)]
pub struct AppliedWaiters {
    by_index: Mutex<BTreeMap<u64, Vec<u64>>>,
}

impl AppliedWaiters {
    /// Lets `tickets` wait for `index`. The caller must look at the applied index once more afterwards and,
    /// if it was reached meanwhile, call [`reached`](Self::reached).
    pub fn add(&self, index: u64, tickets: Vec<u64>) {
        lock(&self.by_index).entry(index).or_default().extend(tickets);
    }

    /// The tickets whose index is reached.
    pub fn reached(&self, applied: u64) -> Vec<u64> {
        let mut waiting = lock(&self.by_index);
        if waiting.first_key_value().is_none_or(|(&index, _)| index > applied) {
            return Vec::new();
        }
        let later = waiting.split_off(&(applied + 1));
        std::mem::replace(&mut *waiting, later).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_gets_its_value_and_only_once() {
        let waiters = Waiters::default();
        let mut one = waiters.register(1);
        let mut two = waiters.register(2);
        waiters.complete(2, "two");
        waiters.complete(2, "again");
        waiters.complete(3, "nobody");
        waiters.complete(1, "one");
        assert_eq!((one.value().await, two.value().await), (Some("one"), Some("two")));
        assert_eq!(waiters.pending(), 0);
    }

    #[tokio::test]
    async fn leaving_and_closing_leave_nothing_behind() {
        let waiters: Waiters<u8> = Waiters::default();
        drop(waiters.register(1));
        assert_eq!(waiters.pending(), 0);
        let mut stays = waiters.register(2);
        waiters.close();
        assert_eq!(stays.value().await, None);
        assert_eq!(waiters.register(3).value().await, None);
        drop(stays);
        assert_eq!(waiters.pending(), 0);
    }

    #[derive(Debug, Default)]
    struct Taken(Mutex<Vec<(u32, Option<u8>)>>, AtomicUsize);

    impl Sink<u8> for Taken {
        fn take(&self, name: u32, value: Option<u8>) {
            lock(&self.0).push((name, value));
        }

        fn take_alone(&self, name: u32, value: Option<u8>) {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.take(name, value);
        }
    }

    #[tokio::test]
    async fn a_sink_is_told_when_nobody_else_waits() {
        let (waiters, sink) = (Waiters::default(), Arc::new(Taken::default()));
        waiters.register_sink(1, Arc::<Taken>::clone(&sink), 11);
        waiters.complete_alone(1, 10);
        waiters.complete_alone(1, 20);
        let mut task = waiters.register(2);
        waiters.complete_alone(2, 30);
        assert_eq!(task.value().await, Some(30));
        assert_eq!(
            (lock(&sink.0).as_slice(), sink.1.load(Ordering::Relaxed)),
            ([(11, Some(10))].as_slice(), 1)
        );
        assert_eq!(waiters.pending(), 0);
    }

    #[test]
    fn a_sink_takes_the_values_of_many() {
        let (waiters, sink) = (Waiters::default(), Arc::new(Taken::default()));
        let register = |number, name| waiters.register_sink(number, Arc::<Taken>::clone(&sink), name);
        for (number, name) in [(1, 11), (2, 12), (3, 13), (4, 14)] {
            register(number, name);
        }
        waiters.complete(2, 20);
        waiters.complete(2, 21);
        waiters.leave(3);
        waiters.complete(3, 30);
        waiters.complete(1, 10);
        assert_eq!(waiters.pending(), 1);
        waiters.close();
        register(5, 15);
        assert_eq!(*lock(&sink.0), [(12, Some(20)), (11, Some(10)), (14, None), (15, None)]);
        assert_eq!(waiters.pending(), 0);
    }

    #[test]
    fn reads_are_woken_at_their_index() {
        let waiters = AppliedWaiters::default();
        waiters.add(5, vec![1, 2]);
        waiters.add(7, vec![3]);
        assert!(waiters.reached(4).is_empty());
        assert_eq!(waiters.reached(6), [1, 2]);
        assert_eq!(waiters.reached(9), [3]);
        assert!(waiters.reached(9).is_empty());
    }
}
