//! Many records, one after the other: what one lookup has found out is kept for the next.
//!
//! A page of a list, a scan for watchers and a walk along a key's history all read records that lie near each other, mostly
//! in the order they were written. A cursor keeps the segments it has mapped, and where it was in each of them.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use ketch_wal::SegmentView;

use super::Log;
use super::record::{CHANGE_HEADER, CREATE, Change, DELETE, u32_at, u64_at};
use super::segment::{Segment, SegmentSet};
use crate::encoding;
use crate::error::{Fault, FaultKind};
use crate::revision::Revision;

/// See the file's comment.
#[derive(Debug)]
pub(crate) struct Cursor {
    set: Arc<SegmentSet>,
    /// The segment read last, and by number in the set those before.
    at: usize,
    places: Vec<Place>,
    /// Where revisions lie that are asked for next, last first.
    ahead: Vec<Ahead>,
}

#[derive(Clone, Copy, Debug)]
struct Ahead {
    revision: Revision,
    segment: usize,
    row: usize,
    offset: u32,
}

#[derive(Clone, Debug, Default)]
struct Place {
    view: Option<SegmentView>,
    /// The row to look at first: the one behind the last that was asked for.
    row: usize,
}

/// A change, borrowed from the log where it can be.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    revision: Revision,
    kind: u8,
    data: Data<'a>,
}

#[derive(Debug)]
enum Data<'a> {
    View(&'a SegmentView, &'a [u8]),
    Own(Bytes),
}

impl Found<'_> {
    #[inline]
    fn data(&self) -> &[u8] {
        match &self.data {
            Data::View(_, data) => data,
            Data::Own(data) => data,
        }
    }

    /// The `KeyValue`, as it is stored.
    #[inline]
    pub(crate) fn wire(&self) -> &[u8] {
        &self.data()[CHANGE_HEADER..]
    }

    /// The `KeyValue`; keeps its segment's file open.
    pub(crate) fn share(&self) -> Bytes {
        match &self.data {
            Data::View(view, data) => view.share(&data[CHANGE_HEADER..]),
            Data::Own(data) => data.slice(CHANGE_HEADER..),
        }
    }

    pub(crate) fn change(&self) -> Change {
        let data = self.data();
        let sub = u32_at(data, 4).unwrap_or_default();
        let previous = Revision::new(u64_at(data, 8).unwrap_or_default() as i64, sub);
        Change { revision: self.revision, kind: self.kind, previous, wire: self.share() }
    }
}

/// Whether a record is the change of `revision`.
fn is_change_of(revision: Revision, kind: u8, data: &[u8]) -> bool {
    (CREATE..=DELETE).contains(&kind)
        && u32_at(data, 0) == Some(revision.sub)
        && data
            .get(CHANGE_HEADER..)
            .and_then(encoding::decode)
            .is_some_and(|f| f.mod_revision == revision.main)
}

impl Cursor {
    pub(crate) fn new(log: &Log) -> Cursor {
        Cursor::of(log.set())
    }

    fn of(set: Arc<SegmentSet>) -> Cursor {
        Cursor { set, at: usize::MAX, places: Vec::new(), ahead: Vec::new() }
    }

    /// These revisions are going to be asked for, in this order: they are brought near together, since each of them alone would be
    /// waited for.
    pub(crate) fn expect(&mut self, revisions: impl Iterator<Item = Revision>) {
        self.ahead.clear();
        for revision in revisions {
            let Some((row, offset)) = self.search(revision) else { break };
            let place = &mut self.places[self.at];
            place.row = row + 1;
            if let Some(view) = &place.view {
                view.touch(u64::from(offset));
            }
            self.ahead.push(Ahead { revision, segment: self.at, row, offset });
        }
        self.ahead.reverse();
    }

    /// The change of `revision`; `None` when the log does not have it. Its checksum has been verified since the store was
    /// opened, or is now.
    #[inline]
    pub(crate) fn find(&mut self, log: &Log, revision: Revision) -> Result<Option<Found<'_>>, Fault> {
        let Some((row, offset)) = self.reach(log, revision)? else { return Ok(None) };
        let segment = &self.set.segments()[self.at];
        let position = segment.position(offset);
        let Some(view) = &self.places[self.at].view else {
            let record = log.wal.read(position).map_err(Fault::log("read a revision"))?;
            if !is_change_of(revision, record.kind, &record.data) {
                return Err(Fault::new(FaultKind::Malformed { what: "change", position }));
            }
            return Ok(Some(Found { revision, kind: record.kind, data: Data::Own(record.data) }));
        };
        let verified = segment.verified().contains(row);
        let record = view.record(u64::from(offset), !verified).map_err(Fault::log("read a revision"))?;
        let known = verified && record.data.len() >= CHANGE_HEADER;
        if !known {
            if !is_change_of(revision, record.kind, record.data) {
                return Err(Fault::new(FaultKind::Malformed { what: "change", position }));
            }
            segment.verified().insert(row);
        }
        Ok(Some(Found { revision, kind: record.kind, data: Data::View(view, record.data) }))
    }

    /// The change of `revision`, which the caller knows to be there.
    #[inline]
    pub(crate) fn read(&mut self, log: &Log, revision: Revision) -> Result<Found<'_>, Fault> {
        self.find(log, revision)?.ok_or_else(|| Fault::new(FaultKind::Missing { revision }))
    }

    /// Goes to a revision; its row and offset in the segment it is in, which is mapped if it can be.
    #[inline]
    fn reach(&mut self, log: &Log, revision: Revision) -> Result<Option<(usize, u32)>, Fault> {
        loop {
            let Some((row, offset)) = self.locate(revision) else {
                if self.renew(log) {
                    continue;
                }
                return Ok(None);
            };
            let place = &mut self.places[self.at];
            place.row = row + 1;
            if place.view.as_ref().is_some_and(|view| view.reaches(u64::from(offset))) {
                return Ok(Some((row, offset)));
            }
            match log.wal.view(self.set.segments()[self.at].position(offset)) {
                Ok(view) => {
                    place.view = view;
                    return Ok(Some((row, offset)));
                }
                Err(error) => {
                    // Rewritten since the set was taken? Then the new place is in the new set, once the rewrite is done.
                    drop(log.replacing.lock().unwrap_or_else(PoisonError::into_inner));
                    if !self.renew(log) {
                        return Err(Fault::log("read a revision")(error));
                    }
                }
            }
        }
    }

    #[inline]
    fn locate(&mut self, revision: Revision) -> Option<(usize, u32)> {
        if let Some(known) = self.ahead.pop() {
            if known.revision == revision {
                self.at = known.segment;
                return Some((known.row, known.offset));
            }
            self.ahead.clear();
        }
        self.search(revision)
    }

    fn search(&mut self, revision: Revision) -> Option<(usize, u32)> {
        let segments = self.set.segments();
        let next = |segment: &Arc<Segment>, row: usize| {
            segment
                .rows()
                .get(row)
                .filter(|found| found.revision == revision)
                .map(|found| (row, found.offset))
        };
        if let Some(segment) = segments.get(self.at)
            && let Some(found) = next(segment, self.places[self.at].row)
        {
            return Some(found);
        }
        let at = self.set.holder(revision)?;
        let found = segments[at].rows().find(revision).map(|(row, found)| (row, found.offset))?;
        self.at = at;
        if self.places.len() <= at {
            self.places.resize(at + 1, Place::default());
        }
        Some(found)
    }

    /// Takes the set of segments again; false when it is the same.
    fn renew(&mut self, log: &Log) -> bool {
        let set = log.set();
        if Arc::ptr_eq(&set, &self.set) {
            return false;
        }
        *self = Cursor::of(set);
        true
    }
}
