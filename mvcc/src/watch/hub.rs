//! The state of all watchers, and how events get to them.
//!
//! ```text
//! commit ──► window ──► deliver ──► live watchers' queues ──► streams ──► consumers
//!               log ──► scan    ──► late watchers' queues ──┘
//! ```
//!
//! A commit only appends to the window and calls `notify`; whoever calls [`Hub::step`] hands events on. While there is no stream at all, a
//! commit does neither: whoever opens the first one calls `notify`, and what it wants of the past is in the log. Live watchers have all been served
//! up to one revision, `delivered`. A watcher that starts in the past, or whose queue was full, is served by a scan
//! of the log that all such watchers share: it begins at the earliest revision wanted, each watcher joins when the scan
//! comes to its own, and those still with it when it reaches `delivered` become live. Nothing is ever dropped: a watcher
//! is a revision to go on from, and a short queue.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use super::event::Event;
use super::groups::{Group, Inner};
use super::stream::Wake;
use super::window::Window;
use crate::error::Fault;
use crate::front::Front;
use crate::log::record::Change;
use crate::options::Options;
use crate::revision::Revision;
use crate::shared::{Root, Shared, lock};
use crate::store::Progress;

/// See the file's comment.
pub(crate) struct Hub {
    pub(crate) inner: Mutex<Inner>,
    window: Mutex<Window>,
    /// The newest published revision.
    published: AtomicI64,
    /// Held by whoever hands on events.
    turn: Mutex<()>,
    /// Somebody else came while it was held: its holder looks again.
    missed: AtomicBool,
    pub(crate) notify: Mutex<Option<Wake>>,
    /// Streams that are open. Without any, nobody needs to be woken.
    pub(crate) streams: AtomicUsize,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("published", &self.published()).finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(revision: i64, options: &Options) -> Hub {
        let window = Window::new(options.watch_window_events, options.watch_window_bytes);
        Hub {
            inner: Mutex::new(Inner::new(revision)),
            window: Mutex::new(window),
            published: AtomicI64::new(revision),
            turn: Mutex::default(),
            missed: AtomicBool::new(false),
            notify: Mutex::default(),
            streams: AtomicUsize::new(0),
        }
    }

    /// Takes the changes of a commit, before its root is published: whoever sees the root finds them here or in the log.
    pub(crate) fn append(&self, changes: Vec<Change>) {
        if self.streams.load(Ordering::SeqCst) > 0 {
            lock(&self.window).append(changes);
        } else {
            // All of it: what the window holds must have no gaps.
            self.forget(i64::MAX);
        }
    }

    /// Says that the root of `revision` is published.
    pub(crate) fn publish(&self, revision: i64) {
        // Ordered with the count: who opens a stream that is not seen here sees this revision.
        self.published.store(revision, Ordering::SeqCst);
        if self.streams.load(Ordering::SeqCst) > 0 {
            self.notify();
        }
    }

    /// Asks for [`Hub::step`] to be called somewhere.
    pub(crate) fn notify(&self) {
        let notify = lock(&self.notify).clone();
        if let Some(notify) = notify {
            notify();
        }
    }

    /// Hands on about `budget` events to live watchers, and as many to late ones.
    ///
    /// One thread at a time does so. One that finds another inside leaves word in `missed` and tries once more; so either it
    /// gets in, or the other, which looks at `missed` after it has let go, says that there is more.
    pub(crate) fn step(&self, front: &Front, budget: usize) -> Result<Progress, Fault> {
        let mut turn = self.try_turn();
        if turn.is_none() {
            self.missed.store(true, Ordering::SeqCst);
            turn = self.try_turn();
        }
        let Some(turn) = turn else { return Ok(Progress::Idle) };
        self.missed.store(false, Ordering::SeqCst);
        // The content is not replaced during the turn.
        let shared = &front.content();
        // Holding the root keeps compaction from dropping what is read below.
        let root = shared.root.get();
        let live = self.deliver(shared, &root, budget)?;
        let late = self.scan(shared, &root, budget)?;
        drop(turn);
        let missed = self.missed.swap(false, Ordering::SeqCst) || self.published() > root.revision;
        Ok(if live || late || missed { Progress::More } else { Progress::Idle })
    }

    fn try_turn(&self) -> Option<MutexGuard<'_, ()>> {
        match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            // A wake-up that panicked has left everything whole.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Serves live watchers with what has been published since the last time.
    fn deliver(&self, shared: &Shared, root: &Root, budget: usize) -> Result<bool, Fault> {
        let mut inner = lock(&self.inner);
        let delivered = inner.delivered;
        if delivered >= root.revision {
            return Ok(false);
        }
        if inner.nobody_listens() {
            // Nothing to read, and what waits in the window is forgotten.
            inner.delivered = root.revision;
            drop(inner);
            self.forget(root.revision);
            return Ok(false);
        }
        drop(inner);
        let from = delivered + 1;
        let (events, upto) = match self.take_window(from, root.revision, budget) {
            Some(found) => found,
            None if from >= root.compacted => from_log(shared, from, root.revision, budget)?,
            None => {
                // So far behind that compaction has overtaken those that wanted what is gone.
                lock(&self.inner).skip_to(root.compacted);
                return Ok(true);
            }
        };
        let mut inner = lock(&self.inner);
        inner.hand_on(shared, root, &events, Group::Live)?;
        inner.delivered = inner.delivered.max(upto);
        inner.wake();
        drop(inner);
        self.forget(upto);
        Ok(upto < root.revision)
    }

    /// Whole revisions from `from` on out of the window; `None` when it does not reach back that far.
    fn take_window(&self, from: i64, to: i64, budget: usize) -> Option<(Vec<Arc<Event>>, i64)> {
        let window = lock(&self.window);
        let changes = window.since(from)?.cloned().map(Ok);
        whole_revisions(changes, to, budget).ok()
    }

    fn forget(&self, upto: i64) {
        lock(&self.window).forget(upto);
    }

    /// Serves late watchers with a slice of the log.
    fn scan(&self, shared: &Shared, root: &Root, budget: usize) -> Result<bool, Fault> {
        let (from, to) = {
            let mut inner = lock(&self.inner);
            inner.lose_compacted(root.compacted);
            inner.begin_scan();
            inner.wake();
            let Some(at) = inner.scan_at() else { return Ok(false) };
            (at, inner.delivered)
        };
        // Read without the lock, so that commits and consumers go on meanwhile.
        let (events, upto) =
            if from <= to { from_log(shared, from, to, budget)? } else { (Vec::new(), from - 1) };
        let mut inner = lock(&self.inner);
        inner.scanned += events.len() as u64;
        inner.join_scan(upto);
        inner.hand_on(shared, root, &events, Group::Scanned)?;
        inner.end_scan_slice(upto);
        inner.wake();
        Ok(true)
    }

    /// Another content, whose newest revision is `revision`, takes the place of the one served so far; `put_in_place` does so.
    /// All watchers become late: what they have not been given comes from the new log, or is compacted away there.
    pub(crate) fn replace(&self, revision: i64, put_in_place: impl FnOnce()) {
        let turn = lock(&self.turn);
        let mut inner = lock(&self.inner);
        put_in_place();
        self.published.store(revision, Ordering::Release);
        inner.start_over(revision);
        drop(inner);
        self.forget(i64::MAX);
        drop(turn);
        self.notify();
    }

    #[cfg(test)]
    pub(crate) fn window_bytes(&self) -> usize {
        lock(&self.window).bytes()
    }

    /// The newest published revision.
    pub(crate) fn published(&self) -> i64 {
        self.published.load(Ordering::SeqCst)
    }
}

/// A slice that has this many bytes has enough, whatever its number of events.
const SLICE_BYTES: usize = 4 << 20;

/// Events of whole revisions out of the log, from revision `from` to `to`, about `budget` of them; and the revision they
/// go up to.
fn from_log(shared: &Shared, from: i64, to: i64, budget: usize) -> Result<(Vec<Arc<Event>>, i64), Fault> {
    whole_revisions(shared.log.changes(Revision::new(from, 0), to), to, budget)
}

fn whole_revisions(
    changes: impl Iterator<Item = Result<Change, Fault>>,
    to: i64,
    budget: usize,
) -> Result<(Vec<Arc<Event>>, i64), Fault> {
    let mut events: Vec<Arc<Event>> = Vec::new();
    let mut bytes = 0;
    for change in changes {
        let change = change?;
        if change.revision.main > to {
            break;
        }
        if let Some(last) = events.last().filter(|last| last.revision() < change.revision.main)
            && (events.len() >= budget || bytes >= SLICE_BYTES)
        {
            let upto = last.revision();
            return Ok((events, upto));
        }
        bytes += change.wire.len();
        events.push(Arc::new(Event::new(change)));
    }
    Ok((events, to))
}
