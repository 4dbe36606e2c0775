//! One watcher: what it wants, where it is, and the events it has not taken yet.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::Event;
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

#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) range: KeyRange,
    /// The stream it belongs to, and its name there.
    pub(crate) stream: u32,
    pub(crate) id: i64,
    /// The first revision not yet queued.
    pub(crate) next: i64,
    pub(crate) queue: VecDeque<Arc<Event>>,
    pub(crate) place: Place,
    pub(crate) previous: bool,
    pub(crate) no_put: bool,
    pub(crate) no_delete: bool,
    /// Whether it is in its stream's list of those with something to take.
    pub(crate) ready: bool,
}

impl Watcher {
    /// A queue with this many events takes no further revision.
    pub(crate) const QUEUE_MAX: usize = 1024;

    pub(crate) fn new(request: WatchRequest, stream: u32, id: i64, next: i64) -> Watcher {
        Watcher {
            range: request.range,
            stream,
            id,
            next,
            queue: VecDeque::new(),
            place: Place::Behind,
            previous: request.previous,
            no_put: request.no_put,
            no_delete: request.no_delete,
            ready: false,
        }
    }

    pub(crate) fn wants(&self, event: &Event) -> bool {
        event.revision() >= self.next
            && !(if event.is_delete() != planted(Bug::FiltersSwapped) { self.no_delete } else { self.no_put })
    }

    /// Whether the queue has no room for the events of `revision`; a revision once begun is always finished, so that all
    /// its events come together.
    pub(crate) fn is_full_for(&self, revision: i64) -> bool {
        self.queue.len() >= Self::QUEUE_MAX && self.queue.back().is_none_or(|last| last.revision() < revision)
    }

    /// Takes whole revisions of events, about `max` of them.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Arc<Event>> {
        let mut until = max.max(1).min(self.queue.len());
        while until > 0 && until < self.queue.len() {
            let whole = self.queue[until].revision() != self.queue[until - 1].revision();
            if whole || planted(Bug::BatchEndsInsideARevision) {
                break;
            }
            until += 1;
        }
        let taken = self.queue.drain(..until).collect();
        if self.queue.is_empty() {
            self.queue = VecDeque::new(); // an idle watcher holds no memory for events
        }
        taken
    }
}
