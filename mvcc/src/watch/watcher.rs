//! One watcher: what it wants, where it is, and the events it has not taken yet.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::Event;
use super::range_set::Want;
use crate::planted::{Bug, planted};
use crate::types::KeyRange;

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// The keys.
    pub range: KeyRange,
    /// The first revision wanted; 0 for whatever comes after now. It may lie in the past and in the future.
    pub start_revision: i64,
    /// Whether events carry what the key was before.
    pub previous: bool,
    /// Leaves out puts.
    pub no_put: bool,
    /// Leaves out deletions.
    pub no_delete: bool,
}

impl WatchRequest {
    /// Every event of `range` from now on.
    pub fn new(range: KeyRange) -> WatchRequest {
        WatchRequest { range, start_revision: 0, previous: false, no_put: false, no_delete: false }
    }
}

/// Which group a watcher is served with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It gets events as they are published.
    Live,
    /// It waits for a scan of the log to come by.
    Behind,
    /// A scan is serving it.
    Scanned,
    /// Its queue is full: it goes on when its owner has taken some.
    Stalled,
    /// What it would need next is compacted away: nothing comes any more.
    Lost,
}

/// A watcher. There may be hundreds of thousands of them, nearly all idle: it holds no more than it needs.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) want: Want,
    /// The consumer's name for it.
    pub(crate) id: i64,
    /// The first revision not yet queued.
    pub(crate) next: i64,
    /// The stream it belongs to.
    pub(crate) stream: u32,
    pub(crate) place: Place,
    pub(crate) previous: bool,
    no_put: bool,
    no_delete: bool,
    /// Whether it is in its stream's list of those with something to take.
    pub(crate) ready: bool,
    queue: Option<Box<Queue>>,
}

/// Events that wait for their consumer; only there when some do.
#[derive(Debug, Default)]
struct Queue {
    /// With what each was charged.
    events: VecDeque<(Arc<Event>, usize)>,
    bytes: usize,
}

impl Watcher {
    /// A queue with this many events takes no further revision.
    pub(crate) const QUEUE_MAX: usize = 1024;
    /// Nor does one whose events have this many bytes. What a consumer that never takes anything can hold in memory is
    /// this and one revision, times the encodings an event may have (its own, plain, with the previous key-value).
    pub(crate) const QUEUE_BYTES_MAX: usize = 4 << 20;

    pub(crate) fn new(request: &WatchRequest, stream: u32, id: i64, next: i64) -> Watcher {
        Watcher {
            want: Want::new(&request.range),
            id,
            next,
            stream,
            place: Place::Behind,
            previous: request.previous,
            no_put: request.no_put,
            no_delete: request.no_delete,
            ready: false,
            queue: None,
        }
    }

    pub(crate) fn wants(&self, event: &Event) -> bool {
        event.revision() >= self.next
            && !(if event.is_delete() != planted(Bug::FiltersSwapped) { self.no_delete } else { self.no_put })
    }

    /// Whether nothing waits to be taken.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_none()
    }

    /// How many events wait to be taken.
    pub(crate) fn pending_events(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.events.len())
    }

    /// Whether the queue has room for more than what it holds at half of its greatest size.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.as_ref().is_none_or(|queue| {
            queue.events.len() <= Self::QUEUE_MAX / 2 && queue.bytes <= Self::QUEUE_BYTES_MAX / 2
        })
    }

    /// Whether the queue has no room for the events of `revision`; a revision once begun is always finished, so that all
    /// its events come together.
    pub(crate) fn is_full_for(&self, revision: i64) -> bool {
        self.queue.as_ref().is_some_and(|queue| {
            let full = queue.events.len() >= Self::QUEUE_MAX || queue.bytes >= Self::QUEUE_BYTES_MAX;
            full && queue.events.back().is_none_or(|(last, _)| last.revision() < revision)
        })
    }

    /// Queues an event.
    pub(crate) fn push(&mut self, event: &Arc<Event>) {
        let queue = self.queue.get_or_insert_default();
        let bytes = event.bytes();
        queue.bytes += bytes;
        queue.events.push_back((Arc::clone(event), bytes));
    }

    /// Takes whole revisions of events, about `max` of them.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Arc<Event>> {
        let Some(queue) = &mut self.queue else { return Vec::new() };
        let events = &mut queue.events;
        let mut until = max.max(1).min(events.len());
        while until > 0 && until < events.len() {
            let whole = events[until].0.revision() != events[until - 1].0.revision();
            if whole || planted(Bug::BatchEndsInsideARevision) {
                break;
            }
            until += 1;
        }
        let mut taken = Vec::with_capacity(until);
        for (event, bytes) in events.drain(..until) {
            queue.bytes -= bytes;
            taken.push(event);
        }
        if queue.events.is_empty() {
            self.queue = None;
        }
        taken
    }
}

const _: () = assert!(size_of::<Watcher>() <= 56);
