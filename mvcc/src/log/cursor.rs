//! Many records, one after the other: what one lookup has found out is kept for the next.
//!
//! A page of a list, a scan for watchers and a walk along a key's history all read records that lie near each other, mostly
//! in the order they were written. A cursor keeps the segments it has mapped, and where it was in each of them.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use ketch_wal::{Borrowed, Position, SegmentId, SegmentView};

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
    position: Position,
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

    /// Where it lies.
    pub(crate) fn position(&self) -> Position {
        self.position
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

/// A key-value, borrowed from the map of its segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lent<'a> {
    view: &'a SegmentView,
    wire: &'a [u8],
}

impl Lent<'_> {
    #[inline]
    pub(crate) fn wire(&self) -> &[u8] {
        self.wire
    }

    /// Keeps the segment's file open.
    pub(crate) fn share(&self) -> Bytes {
        self.view.share(self.wire)
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

/// The change of `revision` at an offset of a segment, which the view reaches. Its checksum has been verified since the store was
/// opened, or is now.
#[inline]
pub(super) fn record_at<'a>(
    segment: &Segment,
    view: &'a SegmentView,
    offset: u32,
    revision: impl FnOnce() -> Revision,
) -> Result<Borrowed<'a>, Fault> {
    let verified = segment.verified().contains(offset);
    let record = view.record(u64::from(offset), !verified).map_err(Fault::log("read a revision"))?;
    if verified && record.data.len() >= CHANGE_HEADER {
        debug_assert!(
            is_change_of(revision(), record.kind, record.data),
            "another's record lies at {offset}"
        );
        return Ok(record);
    }
    if !is_change_of(revision(), record.kind, record.data) {
        let position = segment.position(offset);
        return Err(Fault::new(FaultKind::Malformed { what: "change", position }));
    }
    segment.verified().insert(offset);
    Ok(record)
}

impl Cursor {
    pub(crate) fn new(log: &Log) -> Cursor {
        Cursor::of(log.set())
    }

    fn of(set: Arc<SegmentSet>) -> Cursor {
        Cursor { set, at: usize::MAX, places: Vec::new() }
    }

    /// The record at a place is going to be asked for: it is brought near beside others, since each of them alone would be waited for.
    #[inline]
    pub(crate) fn expect(&mut self, log: &Log, place: Position) {
        let offset = place.offset() as u32;
        if self.go_to(place.segment())
            && self.map(log, offset).unwrap_or(false)
            && let Some(view) = &self.places[self.at].view
        {
            view.touch(u64::from(offset));
        }
    }

    /// The change of `revision`; `None` when the log does not have it. `place` is where it lies, or lay before it was rewritten, if the
    /// caller knows.
    #[inline]
    pub(crate) fn find(
        &mut self,
        log: &Log,
        revision: Revision,
        place: Option<Position>,
    ) -> Result<Option<Found<'_>>, Fault> {
        let Some(offset) = self.reach(log, revision, place)? else { return Ok(None) };
        let segment = &self.set.segments()[self.at];
        let position = segment.position(offset);
        let Some(view) = &self.places[self.at].view else {
            let record = log.wal.read(position).map_err(Fault::log("read a revision"))?;
            if !is_change_of(revision, record.kind, &record.data) {
                return Err(Fault::new(FaultKind::Malformed { what: "change", position }));
            }
            let data = Data::Own(record.data);
            return Ok(Some(Found { revision, position, kind: record.kind, data }));
        };
        let record = record_at(segment, view, offset, || revision)?;
        Ok(Some(Found { revision, position, kind: record.kind, data: Data::View(view, record.data) }))
    }

    /// The key-value of the record at `place`, which is that of `revision`; `None` when its segment is no longer part of the set, or cannot
    /// be read through a map.
    #[inline]
    pub(crate) fn wire_at(
        &mut self,
        log: &Log,
        place: Position,
        revision: impl FnOnce() -> Revision,
    ) -> Result<Option<Lent<'_>>, Fault> {
        let offset = place.offset() as u32;
        if !self.go_to(place.segment()) || !self.map(log, offset).unwrap_or(false) {
            return Ok(None);
        }
        let Some(view) = &self.places[self.at].view else { return Ok(None) };
        let record = record_at(&self.set.segments()[self.at], view, offset, revision)?;
        Ok(Some(Lent { view, wire: &record.data[CHANGE_HEADER..] }))
    }

    /// The change of `revision`, which the caller knows to be there.
    #[inline]
    pub(crate) fn read(
        &mut self,
        log: &Log,
        revision: Revision,
        place: Option<Position>,
    ) -> Result<Found<'_>, Fault> {
        self.find(log, revision, place)?.ok_or_else(|| Fault::new(FaultKind::Missing { revision }))
    }

    /// Goes to a revision; its offset in the segment it is in, which is mapped if it can be.
    #[inline]
    fn reach(
        &mut self,
        log: &Log,
        revision: Revision,
        place: Option<Position>,
    ) -> Result<Option<u32>, Fault> {
        loop {
            let known = place.filter(|place| self.go_to(place.segment())).map(|place| place.offset() as u32);
            let Some(offset) = known.or_else(|| self.search(revision)) else {
                if self.renew(log) {
                    continue;
                }
                return Ok(None);
            };
            match self.map(log, offset) {
                Ok(_) => return Ok(Some(offset)),
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

    /// Maps the present segment as far as `offset`, if it is not; whether it can be mapped.
    #[inline]
    fn map(&mut self, log: &Log, offset: u32) -> Result<bool, ketch_wal::Error> {
        let place = &mut self.places[self.at];
        if place.view.as_ref().is_some_and(|view| view.reaches(u64::from(offset))) {
            return Ok(true);
        }
        let segment = &self.set.segments()[self.at];
        place.view = segment.with_view(offset, Clone::clone);
        if place.view.is_none() {
            place.view = log.wal.view(segment.position(offset))?;
            place.view.iter().for_each(|view| segment.keep_view(view));
        }
        Ok(place.view.is_some())
    }

    /// Makes a segment the present one; false when it is not part of the set.
    #[inline]
    fn go_to(&mut self, id: SegmentId) -> bool {
        if self.set.segments().get(self.at).is_some_and(|segment| segment.id() == id) {
            return true;
        }
        let Some(number) = self.set.number_of(id) else { return false };
        self.enter(number);
        true
    }

    fn enter(&mut self, number: usize) {
        self.at = number;
        if self.places.len() <= number {
            self.places.resize(number + 1, Place::default());
        }
    }

    /// The offset of a revision, found by the tables of contents; its segment is the present one then.
    fn search(&mut self, revision: Revision) -> Option<u32> {
        let segments = self.set.segments();
        if let Some(segment) = segments.get(self.at) {
            let place = &mut self.places[self.at];
            if let Some(found) = segment.rows().get(place.row).filter(|row| row.revision == revision) {
                place.row += 1;
                return Some(found.offset);
            }
        }
        let number = self.set.holder(revision)?;
        let (row, found) = segments[number].rows().find(revision)?;
        self.enter(number);
        self.places[number].row = row + 1;
        Some(found.offset)
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
