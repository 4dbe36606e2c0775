//! A stream: the watchers of one consumer, and the door through which it takes their events.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::event::Event;
use super::groups::Inner;
use super::watcher::{Place, WatchRequest, Watcher};
use crate::error::Fault;
use crate::front::Front;
use crate::planted::{Bug, planted};
use crate::shared::lock;
use crate::store::Progress;

/// Called when there is something to take. It must not block, nor call the hub.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// The hub's state of a stream.
pub(crate) struct StreamState {
    wake: Wake,
    /// Whether something came since the last wake-up.
    fresh: bool,
    ready: VecDeque<u32>,
    /// By the consumer's name for it.
    pub(crate) watchers: BTreeMap<i64, u32>,
}

impl fmt::Debug for StreamState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamState").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl StreamState {
    pub(crate) fn new(wake: Wake) -> StreamState {
        StreamState { wake, fresh: false, ready: VecDeque::new(), watchers: BTreeMap::new() }
    }

    /// Notes that a watcher has something to take; true when the stream is to be woken for it.
    #[must_use]
    pub(crate) fn ready(&mut self, number: u32, watcher: &mut Watcher) -> bool {
        if watcher.ready {
            return false;
        }
        watcher.ready = true;
        self.ready.push_back(number);
        !std::mem::replace(&mut self.fresh, true)
    }

    pub(crate) fn wake(&mut self) {
        if std::mem::take(&mut self.fresh) {
            (self.wake)();
        }
    }
}

/// What a stream takes of one watcher.
#[derive(Debug)]
pub struct WatchBatch {
    /// The watcher, by the name it was given.
    pub watcher: i64,
    /// Events in order; all events of a revision are in one batch.
    pub events: Vec<Arc<Event>>,
    /// Whether the watcher asked for previous key-values.
    pub previous: bool,
    /// The newest revision that live watchers have been served up to; for the response header.
    pub revision: i64,
    /// Set when the watcher is over, because what it wanted next is compacted away: the compaction point.
    pub compacted: Option<i64>,
}

/// The watch hub's handle: opens streams, hands on events.
#[derive(Clone, Debug)]
pub struct WatchHub {
    pub(crate) front: Arc<Front>,
}

impl WatchHub {
    /// Opens a stream. `wake` is called from within [`WatchHub::step`] whenever there is something new to take.
    pub fn stream(&self, wake: Wake) -> WatchStream {
        let hub = &self.front.hub;
        hub.streams.fetch_add(1, Ordering::SeqCst);
        let number = lock(&hub.inner).add_stream(wake);
        // What was published while nobody was here is history, once somebody has looked.
        hub.notify();
        WatchStream { front: Arc::clone(&self.front), number }
    }

    /// `notify` is called after each commit while there are streams, when one is opened, and when a watcher is to be served from the log; it should see to it that
    /// [`WatchHub::step`] is called somewhere until it says [`Progress::Idle`]. It must not block, nor call the hub.
    pub fn set_notify(&self, notify: Wake) {
        *lock(&self.front.hub.notify) = Some(notify);
    }

    /// Hands on about `budget` events to live watchers and as many to late ones. May be called from any number of threads:
    /// one works at a time, the others find nothing to do, and whatever they came for is done by the one inside, which is
    /// told [`Progress::More`]. Commits never wait for it longer than it takes to copy one slice's handles.
    ///
    /// # Errors
    /// A [`Fault`] when the log cannot be read.
    pub fn step(&self, budget: usize) -> Result<Progress, Fault> {
        self.front.content().check()?;
        self.front.hub.step(&self.front, budget.max(1)).map_err(|fault| self.front.content().fail(fault))
    }

    /// How many watchers there are, and how many of them are late.
    pub fn watchers(&self) -> (usize, usize) {
        lock(&self.front.hub.inner).census()
    }

    /// Whether there are watchers for whom [`WatchHub::step`] reads the log.
    pub fn is_scanning(&self) -> bool {
        let inner = lock(&self.front.hub.inner);
        inner.has_late() || inner.scan_at().is_some()
    }

    /// How many events wait in watchers' queues to be taken. Looks at every watcher.
    pub fn pending_events(&self) -> usize {
        lock(&self.front.hub.inner).pending_events()
    }
}

/// The watchers of one consumer. Dropping it ends them all.
pub struct WatchStream {
    front: Arc<Front>,
    number: u32,
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WatchStream({})", self.number)
    }
}

impl WatchStream {
    /// Adds a watcher under a name of the consumer's choice. False when the stream has one of that name.
    ///
    /// A start below the compaction point is not refused here: the watcher's first batch then says `compacted`. A start at
    /// it is served.
    pub fn watch(&self, id: i64, request: WatchRequest) -> bool {
        let hub = &self.front.hub;
        let mut inner = lock(&hub.inner);
        if inner.streams.get(self.number).is_none_or(|stream| stream.watchers.contains_key(&id)) {
            return false;
        }
        // Read under the lock: a commit that anybody can have seen before this line is before "now".
        let root = self.front.content().root.get();
        let published = hub.published().max(root.revision);
        let compacted = root.compacted;
        drop(root);
        let number = inner.add(self.number, id, &request, published, compacted);
        if let Some(stream) = inner.streams.get_mut(self.number) {
            stream.watchers.insert(id, number);
        }
        inner.wake();
        let late = inner.has_late();
        drop(inner);
        if late {
            hub.notify();
        }
        true
    }

    /// Ends a watcher; false when there is none of that name. Nothing of it comes any more.
    pub fn cancel(&self, id: i64) -> bool {
        let mut inner = lock(&self.front.hub.inner);
        let number = inner.streams.get_mut(self.number).and_then(|stream| stream.watchers.remove(&id));
        number.map(|number| inner.remove(number)).is_some()
    }

    /// Takes about `max` events of the next watcher that has some; `None` when there is nothing now.
    pub fn take(&self, max: usize) -> Option<WatchBatch> {
        let mut inner = lock(&self.front.hub.inner);
        let compacted = self.front.content().root.get().compacted;
        let had_late = inner.has_late();
        let taken = loop {
            let Some(stream) = inner.streams.get_mut(self.number) else { break None };
            let Some(number) = stream.ready.pop_front() else { break None };
            if let Some(batch) = inner.take(self.number, number, max, compacted) {
                break Some(batch);
            }
        };
        let stalled_went_on = !had_late && inner.has_late();
        drop(inner);
        if stalled_went_on {
            self.front.hub.notify();
        }
        taken
    }

    /// The revision up to which this watcher has certainly been given everything; `None` while something is queued or on
    /// its way. A progress notice with it never overtakes an event.
    pub fn progress(&self, id: i64) -> Option<i64> {
        let inner = lock(&self.front.hub.inner);
        let number = inner.streams.get(self.number)?.watchers.get(&id)?;
        inner.progress(*number)
    }

    /// As [`WatchStream::progress`], for all watchers of the stream together; a stream without watchers has none.
    pub fn progress_all(&self) -> Option<i64> {
        let inner = lock(&self.front.hub.inner);
        let watchers = &inner.streams.get(self.number)?.watchers;
        let mut least = None;
        for &number in watchers.values() {
            let progress = inner.progress(number)?;
            least = Some(least.map_or(progress, |least: i64| least.min(progress)));
        }
        least
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        /// How many watchers go before others get at the hub again.
        const SLICE: usize = 1000;
        let stream = lock(&self.front.hub.inner).streams.take(self.number);
        let numbers: Vec<u32> =
            stream.map(|stream| stream.watchers.into_values().collect()).unwrap_or_default();
        for slice in numbers.rchunks(SLICE) {
            let mut inner = lock(&self.front.hub.inner);
            slice.iter().rev().for_each(|&number| inner.remove(number));
        }
        // Now no watcher names the stream any more.
        lock(&self.front.hub.inner).streams.release(self.number);
        self.front.hub.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Inner {
    fn take(&mut self, stream: u32, number: u32, max: usize, compacted: i64) -> Option<WatchBatch> {
        let revision = self.delivered;
        // The number may have been left by a watcher that is gone, and belong to another one by now.
        let watcher = self.watchers.get_mut(number).filter(|watcher| watcher.stream == stream)?;
        if !std::mem::take(&mut watcher.ready) {
            return None;
        }
        let events = watcher.take(max);
        let over = watcher.place == Place::Lost && watcher.is_drained();
        let (id, previous) = (watcher.id, watcher.previous);
        if over {
            self.remove(number);
            if let Some(stream) = self.streams.get_mut(stream) {
                stream.watchers.remove(&id);
            }
        } else if !watcher.is_drained() {
            // The consumer is taking right now; it need not be woken.
            watcher.ready = true;
            if let Some(stream) = self.streams.get_mut(stream) {
                stream.ready.push_back(number);
            }
        }
        self.resume(number);
        let last = events.last().map_or(0, |event| event.revision());
        let compacted = over.then_some(compacted);
        (over || !events.is_empty()).then(|| WatchBatch {
            watcher: id,
            events,
            previous,
            revision: revision.max(last),
            compacted,
        })
    }

    fn progress(&self, number: u32) -> Option<i64> {
        let watcher = self.watchers.get(number)?;
        let taken = watcher.is_drained() || planted(Bug::ProgressOvertakesEvents);
        (watcher.place == Place::Live && taken).then_some(self.delivered)
    }
}
