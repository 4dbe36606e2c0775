//! The state of all watchers, and how events get to them.
//!
//! ```text
//! commit ──► window ──► deliver ──► live watchers' queues ──► streams ──► consumers
//!               log ──► scan    ──► late watchers' queues ──┘
//! ```
//!
//! A commit only appends to the window; whoever calls [`Hub::step`] hands events on. Live watchers have all been served
//! up to one revision, `delivered`. A watcher that starts in the past, or whose queue was full, is served by a scan
//! of the log that all such watchers share: it begins at the earliest revision wanted, each watcher joins when the scan
//! comes to its own, and those still with it when it reaches `delivered` become live. Nothing is ever dropped: a watcher
//! is a revision to go on from, and a short queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::event::Event;
use super::range_set::RangeSet;
use super::stream::{StreamState, Wake};
use super::watcher::{Place, WatchRequest, Watcher};
use crate::error::Fault;
use crate::log::record::Change;
use crate::planted::{Bug, planted};
use crate::revision::Revision;
use crate::shared::{Root, Shared, lock};
use crate::store::Progress;

/// See the file's comment.
pub(crate) struct Hub {
    pub(crate) inner: Mutex<Inner>,
    /// Published and not yet delivered, as long as there is room.
    window: Mutex<VecDeque<Change>>,
    window_max: usize,
    /// The newest published revision.
    published: AtomicI64,
    /// Held by whoever hands on events.
    turn: Mutex<()>,
    pub(crate) notify: Mutex<Option<Wake>>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) watchers: BTreeMap<u32, Watcher>,
    pub(crate) streams: BTreeMap<u32, StreamState>,
    next_watcher: u32,
    next_stream: u32,
    live: RangeSet,
    /// Every live watcher has been served up to here.
    pub(crate) delivered: i64,
    /// Late watchers by the revision they want next.
    behind: BTreeSet<(i64, u32)>,
    scan: Option<Scan>,
    /// Streams that have got something since they were last woken.
    fresh: Vec<u32>,
}

/// A walk over the log for late watchers.
#[derive(Debug)]
struct Scan {
    /// The next revision to read.
    at: i64,
    ranges: RangeSet,
    members: BTreeSet<u32>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("published", &self.published()).finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(revision: i64, window_max: usize) -> Hub {
        Hub {
            inner: Mutex::new(Inner { delivered: revision, ..Inner::default() }),
            window: Mutex::default(),
            window_max,
            published: AtomicI64::new(revision),
            turn: Mutex::default(),
            notify: Mutex::default(),
        }
    }

    /// Takes the changes of a commit, before its root is published: whoever sees the root finds them here or in the log.
    pub(crate) fn append(&self, changes: Vec<Change>) {
        let mut window = lock(&self.window);
        window.extend(changes);
        let excess = window.len().saturating_sub(self.window_max);
        window.drain(..excess); // the log still has them
    }

    /// Says that the root of `revision` is published.
    pub(crate) fn publish(&self, revision: i64) {
        self.published.store(revision, Ordering::Release);
        if let Some(notify) = &*lock(&self.notify) {
            notify();
        }
    }

    /// Hands on about `budget` events to live watchers, and as many to late ones.
    pub(crate) fn step(&self, shared: &Shared, budget: usize) -> Result<Progress, Fault> {
        let Ok(_turn) = self.turn.try_lock() else { return Ok(Progress::Idle) };
        // Holding the root keeps compaction from dropping what is read below.
        let root = shared.root.get();
        let live = self.deliver(shared, &root, budget)?;
        let late = self.scan(shared, &root, budget)?;
        Ok(if live || late { Progress::More } else { Progress::Idle })
    }

    /// Serves live watchers with what has been published since the last time.
    fn deliver(&self, shared: &Shared, root: &Root, budget: usize) -> Result<bool, Fault> {
        let delivered = lock(&self.inner).delivered;
        if delivered >= root.revision {
            return Ok(false);
        }
        if lock(&self.inner).live.is_empty() {
            // Nobody listens: nothing to read, and what waits in the window is forgotten.
            let mut inner = lock(&self.inner);
            if inner.live.is_empty() {
                inner.delivered = root.revision;
                self.forget(root.revision);
                return Ok(false);
            }
        }
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
        inner.delivered = upto;
        inner.wake();
        drop(inner);
        self.forget(upto);
        Ok(upto < root.revision)
    }

    /// Whole revisions from `from` on out of the window; `None` when it does not reach back that far.
    fn take_window(&self, from: i64, to: i64, budget: usize) -> Option<(Vec<Arc<Event>>, i64)> {
        let window = lock(&self.window);
        let first = window.front()?;
        if first.revision.main > from || (first.revision.main == from && first.revision.sub > 0) {
            return None;
        }
        let start = window.partition_point(|change| change.revision.main < from);
        Some(whole_revisions(window.iter().skip(start).cloned().map(Ok), to, budget).unwrap_or_default())
    }

    fn forget(&self, upto: i64) {
        let mut window = lock(&self.window);
        while window.front().is_some_and(|change| change.revision.main <= upto) {
            window.pop_front();
        }
    }

    /// Serves late watchers with a slice of the log.
    fn scan(&self, shared: &Shared, root: &Root, budget: usize) -> Result<bool, Fault> {
        let (from, to) = {
            let mut inner = lock(&self.inner);
            inner.lose_compacted(root.compacted);
            inner.begin_scan();
            inner.wake();
            let delivered = inner.delivered;
            match &inner.scan {
                None => return Ok(false),
                Some(scan) => (scan.at, delivered),
            }
        };
        // Read without the lock, so that commits and consumers go on meanwhile.
        let (events, upto) =
            if from <= to { from_log(shared, from, to, budget)? } else { (Vec::new(), from - 1) };
        let mut inner = lock(&self.inner);
        inner.join_scan(upto);
        inner.hand_on(shared, root, &events, Group::Scanned)?;
        inner.end_scan_slice(upto);
        inner.wake();
        Ok(true)
    }

    /// The newest published revision.
    pub(crate) fn published(&self) -> i64 {
        self.published.load(Ordering::Acquire)
    }
}

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
    for change in changes {
        let change = change?;
        if change.revision.main > to {
            break;
        }
        if let Some(last) = events.last().filter(|last| last.revision() < change.revision.main)
            && events.len() >= budget
        {
            let upto = last.revision();
            return Ok((events, upto));
        }
        events.push(Arc::new(Event::new(change)));
    }
    Ok((events, to))
}

/// Who is served.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Live,
    Scanned,
}

impl Inner {
    pub(crate) fn add_stream(&mut self, wake: Wake) -> u32 {
        self.next_stream += 1;
        self.streams.insert(self.next_stream, StreamState::new(wake));
        self.next_stream
    }

    /// Adds a watcher; `published` is the newest revision. A start below the compaction point is the end of it.
    pub(crate) fn add(
        &mut self,
        stream: u32,
        id: i64,
        request: WatchRequest,
        published: i64,
        compacted: i64,
    ) -> u32 {
        let next = if request.start_revision > 0 { request.start_revision } else { published + 1 };
        self.next_watcher += 1;
        let number = self.next_watcher;
        self.watchers.insert(number, Watcher::new(request, stream, id, next));
        if next < compacted && !planted(Bug::WatcherNeverLost) {
            self.lose(number);
        } else {
            self.settle(number);
        }
        number
    }

    /// Takes a watcher out, wherever it is.
    pub(crate) fn remove(&mut self, number: u32) {
        self.leave(number);
        self.watchers.remove(&number);
    }

    /// Takes a watcher out of its group.
    fn leave(&mut self, number: u32) {
        let Some(watcher) = self.watchers.get(&number) else { return };
        match watcher.place {
            Place::Live => self.live.remove(&watcher.range, number),
            Place::Behind => drop(self.behind.remove(&(watcher.next, number))),
            Place::Scanned => {
                if let Some(scan) = &mut self.scan {
                    scan.ranges.remove(&watcher.range, number);
                    scan.members.remove(&number);
                }
            }
            Place::Stalled | Place::Lost => {}
        }
    }

    /// Puts a watcher that is in no group into the one its next revision belongs to.
    fn settle(&mut self, number: u32) {
        let delivered = self.delivered;
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        if watcher.next > delivered {
            watcher.place = Place::Live;
            self.live.insert(&watcher.range, number);
        } else {
            watcher.place = Place::Behind;
            self.behind.insert((watcher.next, number));
        }
    }

    /// A stalled watcher's owner has taken events: it goes on when half of its queue is free.
    pub(crate) fn resume(&mut self, number: u32) {
        let Some(watcher) = self.watchers.get(&number) else { return };
        if watcher.place == Place::Stalled && watcher.queue.len() <= Watcher::QUEUE_MAX / 2 {
            self.settle(number);
        }
    }

    /// Goes on at the compaction point, without the live watchers that wanted something below it.
    fn skip_to(&mut self, compacted: i64) {
        let next = self.delivered + 1;
        let live = self.watchers.iter().filter(|(_, watcher)| watcher.place == Place::Live);
        let lost = live.filter(|(_, watcher)| watcher.next.max(next) < compacted);
        let lost: Vec<u32> = lost.map(|(&number, _)| number).collect();
        for number in lost {
            self.leave(number);
            self.lose(number);
        }
        self.delivered = compacted - 1;
    }

    /// Queues events for every watcher of a group that wants them.
    fn hand_on(
        &mut self,
        shared: &Shared,
        root: &Root,
        events: &[Arc<Event>],
        group: Group,
    ) -> Result<(), Fault> {
        let mut full = Vec::new();
        for event in events {
            let change = event.change();
            let fields = change.fields();
            let ranges = match (group, &self.scan) {
                (Group::Live, _) => &self.live,
                (Group::Scanned, Some(scan)) => &scan.ranges,
                (Group::Scanned, None) => return Ok(()),
            };
            let (watchers, streams, fresh) = (&mut self.watchers, &mut self.streams, &mut self.fresh);
            let mut wants_previous = false;
            ranges.find(fields.key, |number| {
                let Some(watcher) = watchers.get_mut(&number).filter(|watcher| watcher.wants(event)) else {
                    return;
                };
                if watcher.is_full_for(event.revision()) {
                    // Serves nothing of this revision, nor of any later one: `next` is where it goes on.
                    watcher.next = event.revision();
                    watcher.place = Place::Stalled;
                    full.push((number, group));
                    return;
                }
                wants_previous |= watcher.previous;
                watcher.queue.push_back(Arc::clone(event));
                let owner = watcher.stream;
                if streams.get_mut(&owner).is_some_and(|stream| stream.ready(number, watcher)) {
                    fresh.push(owner);
                }
            });
            if wants_previous {
                event.load_previous(&shared.log, root.compacted)?;
            }
            for (number, group) in full.drain(..) {
                self.stall(number, group);
            }
        }
        Ok(())
    }

    /// Takes a watcher that has become full out of the group that served it.
    fn stall(&mut self, number: u32, group: Group) {
        let Some(watcher) = self.watchers.get(&number) else { return };
        match (group, &mut self.scan) {
            (Group::Live, _) => self.live.remove(&watcher.range, number),
            (Group::Scanned, Some(scan)) => {
                scan.ranges.remove(&watcher.range, number);
                scan.members.remove(&number);
            }
            (Group::Scanned, None) => {}
        }
    }

    /// Ends every late watcher whose next revision is below the compaction point.
    fn lose_compacted(&mut self, compacted: i64) {
        let mut lost = Vec::new();
        if let Some(scan) = self.scan.take_if(|scan| scan.at < compacted) {
            for number in scan.members {
                if let Some(watcher) = self.watchers.get_mut(&number) {
                    watcher.next = scan.at;
                    lost.push(number);
                }
            }
        }
        while let Some(&(next, number)) = self.behind.first() {
            if next >= compacted {
                break;
            }
            self.behind.pop_first();
            lost.push(number);
        }
        for number in lost {
            self.lose(number);
        }
    }

    /// Ends a watcher that is in no group: what it wants next is compacted away.
    fn lose(&mut self, number: u32) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        watcher.place = Place::Lost;
        let owner = watcher.stream;
        if self.streams.get_mut(&owner).is_some_and(|stream| stream.ready(number, watcher)) {
            self.fresh.push(owner);
        }
    }

    /// Begins a scan for the late watchers when none is under way.
    fn begin_scan(&mut self) {
        if let Some(scan) = &self.scan
            && scan.members.is_empty()
            && self.behind.first().is_some_and(|&(next, _)| next < scan.at)
        {
            self.scan = None; // all its watchers have left; those that wait begin earlier
        }
        if self.scan.is_none()
            && let Some(&(at, _)) = self.behind.first()
        {
            self.scan = Some(Scan { at, ranges: RangeSet::default(), members: BTreeSet::new() });
        }
    }

    /// Lets every late watcher join whose revision the slice up to `upto` contains.
    fn join_scan(&mut self, upto: i64) {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.at <= upto) else { return };
        let joining: Vec<(i64, u32)> = self.behind.range((scan.at, 0)..=(upto, u32::MAX)).copied().collect();
        for (next, number) in joining {
            self.behind.remove(&(next, number));
            if let Some(watcher) = self.watchers.get_mut(&number) {
                watcher.place = Place::Scanned;
                scan.ranges.insert(&watcher.range, number);
                scan.members.insert(number);
            }
        }
    }

    /// Moves the scan on behind `upto`; at the end its watchers become live.
    fn end_scan_slice(&mut self, upto: i64) {
        let delivered = self.delivered;
        let Some(scan) = &mut self.scan else { return };
        scan.at = upto + 1;
        if scan.at <= delivered && !(scan.members.is_empty() && self.behind.is_empty()) {
            return;
        }
        let Some(scan) = self.scan.take() else { return };
        for number in scan.members {
            if let Some(watcher) = self.watchers.get_mut(&number) {
                let skip = i64::from(planted(Bug::WatcherSkipsARevisionAtTheHandOver));
                watcher.next = watcher.next.max(scan.at + skip);
            }
            self.settle(number);
        }
    }

    /// Wakes every stream that has got something since it was last woken.
    pub(crate) fn wake(&mut self) {
        for number in std::mem::take(&mut self.fresh) {
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.wake();
            }
        }
    }
}
