//! What is known of a segment: where its revisions lie, and which of them are dead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ketch_wal::{Position, SegmentId, SegmentView};

use super::rows::Rows;
use super::verified::Verified;
use crate::revision::Revision;

/// Which records of a segment no read can ask for any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dead {
    /// One bit a row.
    pub(crate) bits: Vec<u64>,
    /// How many are set.
    pub(crate) count: u64,
}

impl Dead {
    /// Marks row `i`; false when it was marked before.
    pub(crate) fn mark(&mut self, i: usize) -> bool {
        if self.bits.len() <= i / 64 {
            self.bits.resize(i / 64 + 1, 0);
        }
        let bit = 1 << (i % 64);
        let fresh = self.bits[i / 64] & bit == 0;
        self.bits[i / 64] |= bit;
        self.count += u64::from(fresh);
        fresh
    }

    pub(crate) fn is_marked(&self, i: usize) -> bool {
        self.bits.get(i / 64).is_some_and(|word| word >> (i % 64) & 1 == 1)
    }
}

/// One segment. The marks are shared by its successive forms: active, then sealed.
#[derive(Debug)]
pub(crate) struct Segment {
    id: SegmentId,
    rows: Rows,
    dead: Arc<Mutex<Dead>>,
    verified: Arc<Verified>,
    /// How it was mapped last.
    view: RwLock<Option<SegmentView>>,
}

impl Segment {
    pub(crate) fn new(id: SegmentId, rows: Rows) -> Segment {
        Segment { id, rows, dead: Arc::default(), verified: Arc::default(), view: RwLock::default() }
    }

    /// A segment that is being appended to, still empty.
    pub(crate) fn active(id: SegmentId) -> Arc<Segment> {
        Arc::new(Segment::new(id, Rows::Active(Box::default())))
    }

    /// The same segment with another form of its rows.
    pub(crate) fn with_rows(&self, rows: Rows) -> Segment {
        let (dead, verified) = (Arc::clone(&self.dead), Arc::clone(&self.verified));
        Segment { id: self.id, rows, dead, verified, view: RwLock::default() }
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.id
    }

    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.rows, Rows::Sealed { .. })
    }

    pub(crate) fn dead(&self) -> MutexGuard<'_, Dead> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which records need not be verified again.
    pub(crate) fn verified(&self) -> &Verified {
        &self.verified
    }

    /// Lends the map of the segment as far as it has been needed so far; `None` when that is not as far as `offset`.
    #[inline]
    pub(super) fn with_view<R>(&self, offset: u32, f: impl FnOnce(&SegmentView) -> R) -> Option<R> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.as_ref().filter(|view| view.reaches(u64::from(offset))).map(f)
    }

    /// Keeps a map for others who read.
    pub(super) fn keep_view(&self, view: &SegmentView) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Some(view.clone());
    }

    fn first(&self) -> Option<Revision> {
        self.rows.get(0).map(|row| row.revision)
    }

    /// Where an offset of this segment lies in the log.
    pub(crate) fn position(&self, offset: u32) -> Position {
        Position::from_u64(self.id.0 << 32 | u64::from(offset))
    }
}

/// All segments in the order of their revisions, the active one last.
#[derive(Debug, Default)]
pub(crate) struct SegmentSet {
    segments: Vec<Arc<Segment>>,
    /// Their ids and their numbers in the list, in the order of the ids.
    by_id: Vec<(SegmentId, usize)>,
}

impl SegmentSet {
    pub(crate) fn new(segments: Vec<Arc<Segment>>) -> SegmentSet {
        let mut by_id: Vec<_> = segments.iter().enumerate().map(|(at, segment)| (segment.id(), at)).collect();
        by_id.sort_unstable();
        SegmentSet { segments, by_id }
    }

    pub(crate) fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    pub(crate) fn last(&self) -> Option<&Arc<Segment>> {
        self.segments.last()
    }

    /// The number of the segment `id`; `None` when it is no longer part of the log.
    #[inline]
    pub(super) fn number_of(&self, id: SegmentId) -> Option<usize> {
        let at = self.by_id.partition_point(|(other, _)| *other < id);
        self.by_id.get(at).filter(|(other, _)| *other == id).map(|(_, number)| *number)
    }

    /// The number of the segment that has `revision` if anyone does; an empty segment has none and comes last.
    pub(super) fn holder(&self, revision: Revision) -> Option<usize> {
        let (mut low, mut high) = (0, self.segments.len());
        while low < high {
            let middle = (low + high) / 2;
            // One without revisions lies where the next one with some does.
            let first = self.segments[middle..].iter().find_map(|segment| segment.first());
            if first.is_some_and(|first| first <= revision) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // The last one at or below it: not an empty one, unless nothing follows.
        self.segments[..low].iter().rposition(|segment| segment.first().is_some())
    }

    /// The segment and row of `revision`.
    pub(crate) fn find(&self, revision: Revision) -> Option<(&Arc<Segment>, usize)> {
        let segment = &self.segments[self.holder(revision)?];
        segment.rows.find(revision).map(|(row, _)| (segment, row))
    }

    /// The place of the first row at or above `revision`, as (segment, row) numbers.
    pub(crate) fn seek(&self, revision: Revision) -> (usize, usize) {
        let segment = self.holder(revision).unwrap_or(0);
        let row = self.segments.get(segment).map_or(0, |segment| segment.rows.below(revision));
        (segment, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_count_once() {
        let mut dead = Dead::default();
        assert!(dead.mark(70) && !dead.mark(70) && dead.mark(0));
        assert!(dead.is_marked(70) && dead.is_marked(0) && !dead.is_marked(1) && !dead.is_marked(1000));
        assert_eq!(dead.count, 2);
    }
}
