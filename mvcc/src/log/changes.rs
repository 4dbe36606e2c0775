//! Changes in the order of revisions, read through the tables of contents: what is dead and dropped is not met.

use std::sync::Arc;

use ketch_wal::Position;

use super::Log;
use super::cursor::Cursor;
use super::record::{Change, Row};
use super::segment::SegmentSet;
use crate::error::Fault;
use crate::revision::Revision;

/// An iterator over changes. Segments may be rewritten under it: it then finds its place again by revision.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    log: &'a Log,
    set: Arc<SegmentSet>,
    segment: usize,
    row: usize,
    /// Nothing below this is wanted any more.
    from: Revision,
    to: i64,
    cursor: Cursor,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(log: &'a Log, from: Revision, to: i64) -> Changes<'a> {
        let set = log.set();
        let (segment, row) = set.seek(from);
        Changes { log, set, segment, row, from, to, cursor: Cursor::new(log) }
    }

    /// The next row at or above `from`, and its place.
    fn next_row(&mut self) -> Option<(Row, Option<Position>)> {
        loop {
            let segment = self.set.segments().get(self.segment)?;
            match segment.rows().get(self.row) {
                Some(row) => {
                    self.row += 1;
                    if row.revision >= self.from {
                        return Some((row, Some(segment.position(row.offset))));
                    }
                }
                // The end of the active segment is the end, unless it has been sealed since the set was taken.
                None if self.segment + 1 == self.set.segments().len() => {
                    let set = self.log.set();
                    if Arc::ptr_eq(&set, &self.set) {
                        return None;
                    }
                    (self.segment, self.row) = set.seek(self.from);
                    self.set = set;
                }
                None => {
                    self.segment += 1;
                    self.row = 0;
                }
            }
        }
    }
}

impl Iterator for Changes<'_> {
    type Item = Result<Change, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (row, place) = self.next_row().filter(|(row, _)| row.revision.main <= self.to)?;
            self.from = Revision::new(row.revision.main, row.revision.sub.saturating_add(1));
            match self.cursor.find(self.log, row.revision, place) {
                Ok(Some(found)) => return Some(Ok(found.change())),
                Ok(None) => {} // dropped by a rewrite since the set was taken
                Err(fault) => return Some(Err(fault)),
            }
        }
    }
}
