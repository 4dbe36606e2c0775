//! All watchers, in groups by how they are served; and the streams that own them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::event::Event;
use super::range_set::RangeSet;
use super::slab::Slab;
use super::stream::{StreamState, Wake};
use super::watcher::{Place, WatchRequest, Watcher};
use crate::error::Fault;
use crate::planted::{Bug, planted};
use crate::shared::{Root, Shared};

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) watchers: Slab<Watcher>,
    pub(crate) streams: Slab<StreamState>,
    live: RangeSet,
    /// Every live watcher has been served up to here.
    pub(crate) delivered: i64,
    /// Late watchers by the revision they want next.
    behind: BTreeSet<(i64, u32)>,
    scan: Option<Scan>,
    /// Streams that have got something since they were last woken.
    fresh: Vec<u32>,
    /// Events read from the log for late watchers, ever.
    pub(crate) scanned: u64,
}

/// A walk over the log for late watchers.
#[derive(Debug)]
struct Scan {
    /// The next revision to read.
    at: i64,
    ranges: RangeSet,
    /// Who has joined; some may have left since, and others come under their numbers.
    joined: Vec<u32>,
}

impl Scan {
    /// Those who are with it now.
    fn members(&mut self, watchers: &Slab<Watcher>) -> Vec<u32> {
        let mut members = std::mem::take(&mut self.joined);
        members.sort_unstable();
        members.dedup();
        let scanned = |number| watchers.get(number).is_some_and(|watcher| watcher.place == Place::Scanned);
        members.retain(|&number| scanned(number));
        members
    }
}

/// Who is served.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Live,
    Scanned,
}

impl Inner {
    /// Nobody watches; everything up to `revision` is history.
    pub(crate) fn new(revision: i64) -> Inner {
        Inner { delivered: revision, ..Inner::default() }
    }

    /// Whether nobody is to be served with what is published next.
    pub(crate) fn nobody_listens(&self) -> bool {
        self.live.is_empty()
    }

    /// How many watchers there are, and how many of them are not live.
    pub(crate) fn census(&self) -> (usize, usize) {
        (self.watchers.len(), self.watchers.len() - self.live.len())
    }

    /// How many events wait to be taken.
    pub(crate) fn pending_events(&self) -> usize {
        self.watchers.iter().map(|(_, watcher)| watcher.pending_events()).sum()
    }

    /// Whether somebody waits for a scan of the log.
    pub(crate) fn has_late(&self) -> bool {
        !self.behind.is_empty()
    }

    /// The next revision of the scan under way, if there is one.
    pub(crate) fn scan_at(&self) -> Option<i64> {
        self.scan.as_ref().map(|scan| scan.at)
    }

    pub(crate) fn add_stream(&mut self, wake: Wake) -> u32 {
        self.streams.insert(StreamState::new(wake))
    }

    /// Adds a watcher; `published` is the newest revision. A start below the compaction point is the end of it.
    pub(crate) fn add(
        &mut self,
        stream: u32,
        id: i64,
        request: &WatchRequest,
        published: i64,
        compacted: i64,
    ) -> u32 {
        if self.live.is_empty() {
            // Nobody has been waiting for what was published: a start before it is a matter of a scan.
            self.delivered = self.delivered.max(published);
        }
        let next = if request.start_revision > 0 { request.start_revision } else { published + 1 };
        let number = self.watchers.insert(Watcher::new(request, stream, id, next));
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
        self.watchers.remove(number);
    }

    /// Takes a watcher out of its group.
    fn leave(&mut self, number: u32) {
        let Some(watcher) = self.watchers.get(number) else { return };
        match watcher.place {
            Place::Live => self.live.remove(&watcher.want, number),
            Place::Behind => drop(self.behind.remove(&(watcher.next, number))),
            Place::Scanned => {
                if let Some(scan) = &mut self.scan {
                    scan.ranges.remove(&watcher.want, number);
                }
            }
            Place::Stalled | Place::Lost => {}
        }
    }

    /// Puts a watcher that is in no group into the one its next revision belongs to.
    fn settle(&mut self, number: u32) {
        let delivered = self.delivered;
        let Some(watcher) = self.watchers.get_mut(number) else { return };
        if watcher.next > delivered {
            watcher.place = Place::Live;
            self.live.insert(&watcher.want, number);
        } else {
            watcher.place = Place::Behind;
            self.behind.insert((watcher.next, number));
        }
    }

    /// A stalled watcher's owner has taken events: it goes on when half of its queue is free.
    pub(crate) fn resume(&mut self, number: u32) {
        let Some(watcher) = self.watchers.get(number) else { return };
        if watcher.place == Place::Stalled && watcher.has_room() {
            self.settle(number);
        }
    }

    /// Goes on at the compaction point, without the live watchers that wanted something below it.
    pub(crate) fn skip_to(&mut self, compacted: i64) {
        let next = self.delivered + 1;
        let live = self.watchers.iter().filter(|(_, watcher)| watcher.place == Place::Live);
        let lost = live.filter(|(_, watcher)| watcher.next.max(next) < compacted);
        let lost: Vec<u32> = lost.map(|(number, _)| number).collect();
        for number in lost {
            self.leave(number);
            self.lose(number);
        }
        self.delivered = compacted - 1;
    }

    /// Makes every watcher go on by a scan of the log, which ends at `revision` now.
    pub(crate) fn start_over(&mut self, revision: i64) {
        let next = self.delivered + 1;
        let scanned = self.scan.take().map_or(next, |scan| scan.at);
        self.delivered = revision;
        if planted(Bug::AdoptionSkipsWatchers) {
            return;
        }
        let served = |place| match place {
            Place::Live => Some(next),
            Place::Scanned => Some(scanned),
            Place::Behind | Place::Stalled | Place::Lost => None,
        };
        let moving =
            self.watchers.iter().filter_map(|(number, watcher)| Some((number, served(watcher.place)?)));
        for (number, at) in moving.collect::<Vec<_>>() {
            self.leave(number);
            if let Some(watcher) = self.watchers.get_mut(number) {
                watcher.next = watcher.next.max(at);
            }
            self.settle(number);
        }
    }

    /// Queues events for every watcher of a group that wants them.
    pub(crate) fn hand_on(
        &mut self,
        shared: &Shared,
        root: &Root,
        events: &[Arc<Event>],
        group: Group,
    ) -> Result<(), Fault> {
        let mut full = Vec::new();
        for event in events {
            let ranges = match (group, &self.scan) {
                (Group::Live, _) => &self.live,
                (Group::Scanned, Some(scan)) => &scan.ranges,
                (Group::Scanned, None) => return Ok(()),
            };
            let (watchers, streams, fresh) = (&mut self.watchers, &mut self.streams, &mut self.fresh);
            let mut loaded = Ok(());
            ranges.find(event.change().fields().key, |number| {
                let Some(watcher) = watchers.get_mut(number).filter(|watcher| watcher.wants(event)) else {
                    return;
                };
                if watcher.is_full_for(event.revision()) {
                    // Serves nothing of this revision, nor of any later one: `next` is where it goes on.
                    watcher.next = event.revision();
                    watcher.place = Place::Stalled;
                    full.push(number);
                    return;
                }
                if watcher.previous && loaded.is_ok() {
                    loaded = event.load_previous(&shared.log, root.compacted);
                }
                watcher.push(event);
                let owner = watcher.stream;
                if streams.get_mut(owner).is_some_and(|stream| stream.ready(number, watcher)) {
                    fresh.push(owner);
                }
            });
            loaded?;
            for number in full.drain(..) {
                self.stall(number, group);
            }
        }
        Ok(())
    }

    /// Takes a watcher that has become full out of the group that served it.
    fn stall(&mut self, number: u32, group: Group) {
        let Some(watcher) = self.watchers.get(number) else { return };
        match (group, &mut self.scan) {
            (Group::Live, _) => self.live.remove(&watcher.want, number),
            (Group::Scanned, Some(scan)) => scan.ranges.remove(&watcher.want, number),
            (Group::Scanned, None) => {}
        }
    }

    /// Ends every late watcher whose next revision is below the compaction point.
    pub(crate) fn lose_compacted(&mut self, compacted: i64) {
        if planted(Bug::WatcherNeverLost) {
            return;
        }
        let mut lost = Vec::new();
        if let Some(mut scan) = self.scan.take_if(|scan| scan.at < compacted) {
            for number in scan.members(&self.watchers) {
                if let Some(watcher) = self.watchers.get_mut(number) {
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
        let Some(watcher) = self.watchers.get_mut(number) else { return };
        watcher.place = Place::Lost;
        let owner = watcher.stream;
        if self.streams.get_mut(owner).is_some_and(|stream| stream.ready(number, watcher)) {
            self.fresh.push(owner);
        }
    }

    /// Begins a scan for the late watchers when none is under way.
    pub(crate) fn begin_scan(&mut self) {
        if let Some(scan) = &self.scan
            && scan.ranges.is_empty()
            && self.behind.first().is_some_and(|&(next, _)| next < scan.at)
        {
            self.scan = None; // all its watchers have left; those that wait begin earlier
        }
        if self.scan.is_none()
            && let Some(&(at, _)) = self.behind.first()
        {
            self.scan = Some(Scan { at, ranges: RangeSet::default(), joined: Vec::new() });
        }
    }

    /// Lets every late watcher join whose revision the slice up to `upto` contains.
    pub(crate) fn join_scan(&mut self, upto: i64) {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.at <= upto) else { return };
        // Those that want something earlier than the scan's place wait for the next one.
        let mut joining = self.behind.split_off(&(scan.at, 0));
        self.behind.append(&mut joining.split_off(&(upto, u32::MAX)));
        for (_, number) in joining {
            if let Some(watcher) = self.watchers.get_mut(number) {
                watcher.place = Place::Scanned;
                scan.ranges.insert(&watcher.want, number);
                scan.joined.push(number);
            }
        }
    }

    /// Moves the scan on behind `upto`; at the end its watchers become live.
    pub(crate) fn end_scan_slice(&mut self, upto: i64) {
        let delivered = self.delivered;
        let Some(scan) = &mut self.scan else { return };
        scan.at = upto + 1;
        if scan.at <= delivered && !(scan.ranges.is_empty() && self.behind.is_empty()) {
            return;
        }
        let Some(mut scan) = self.scan.take() else { return };
        let members = scan.members(&self.watchers);
        for &number in &members {
            if let Some(watcher) = self.watchers.get_mut(number) {
                let skip = i64::from(planted(Bug::WatcherSkipsARevisionAtTheHandOver));
                watcher.next = watcher.next.max(scan.at + skip);
            }
        }
        self.become_live(&members, scan.ranges);
    }

    /// Makes the members of a scan that has come to its end live; `ranges` is what they want. The fewer move to the more.
    fn become_live(&mut self, members: &[u32], mut ranges: RangeSet) {
        let more = ranges.len() > self.live.len();
        let moving: Vec<u32> = if !more {
            members.to_vec()
        } else if self.live.is_empty() {
            Vec::new()
        } else {
            let live = self.watchers.iter().filter(|(_, watcher)| watcher.place == Place::Live);
            live.map(|(number, _)| number).collect()
        };
        if more {
            std::mem::swap(&mut self.live, &mut ranges);
        }
        for number in moving {
            if let Some(watcher) = self.watchers.get(number) {
                self.live.insert(&watcher.want, number);
            }
        }
        for &number in members {
            if let Some(watcher) = self.watchers.get_mut(number) {
                watcher.place = Place::Live;
            }
        }
    }

    /// Wakes every stream that has got something since it was last woken.
    pub(crate) fn wake(&mut self) {
        for number in std::mem::take(&mut self.fresh) {
            if let Some(stream) = self.streams.get_mut(number) {
                stream.wake();
            }
        }
    }
}
