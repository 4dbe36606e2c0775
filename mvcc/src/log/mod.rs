//! The revision log: every version of every key, in the order of revisions, in segments of the write-ahead log.
//!
//! | file | lives there |
//! | --- | --- |
//! | `changes` | changes in the order of revisions |
//! | `cursor` | reading records that lie near each other |
//! | `record` | the records' bytes |
//! | `rows` | a segment's table of contents |
//! | `segment` | what is known of a segment: its rows and which of its records are dead |
//! | `verified` | which records have had their checksum verified |
//! | `rewrite` | copying what is still alive out of mostly dead segments |

mod changes;
pub(crate) mod cursor;
pub(crate) mod record;
pub(crate) mod rewrite;
pub(crate) mod rows;
pub(crate) mod segment;
mod verified;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ketch_wal::{Appended, Batch, BuiltSegment, Position, SegmentId, SegmentView, Wal};

use crate::error::{Fault, FaultKind};
use crate::index::publish::Cell;
use crate::revision::Revision;
use changes::Changes;
use cursor::Cursor;
use record::{CHANGE_HEADER, Change, Row};
use rows::Rows;
use segment::{Segment, SegmentSet};

/// The log and the way from a revision to its record.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) wal: Wal,
    set: Cell<SegmentSet>,
    /// Held while the set is changed: by the writer when a segment begins, by a rewrite when segments are replaced.
    layout: Mutex<()>,
    /// Held by a rewrite from before the log replaces segments until the set says so.
    replacing: Mutex<()>,
}

impl Log {
    pub(crate) fn new(wal: Wal, set: SegmentSet) -> Log {
        Log { wal, set: Cell::new(Arc::new(set)), layout: Mutex::default(), replacing: Mutex::default() }
    }

    /// The segments there are now.
    pub(crate) fn set(&self) -> Arc<SegmentSet> {
        self.set.get()
    }

    /// Puts another list of segments in place of the present one.
    pub(crate) fn change_set(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>)) {
        let _alone = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        // A list that nobody could empty because somebody was copying it would keep maps of files that are gone.
        self.set.tidy();
        let mut segments = self.set().segments().to_vec();
        change(&mut segments);
        drop(self.set.set(Arc::new(SegmentSet::new(segments))));
    }

    /// Puts `built` in place of the segments `old`, atomically over a crash; `new` is how it is read from then on.
    pub(crate) fn replace(
        &self,
        old: &[SegmentId],
        built: Vec<BuiltSegment>,
        new: Option<Arc<Segment>>,
    ) -> Result<(), Fault> {
        let _alone = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        self.wal.replace(old, built).map_err(Fault::log("replace segments"))?;
        self.change_set(|segments| {
            let at = segments.iter().position(|segment| old.contains(&segment.id())).unwrap_or(0);
            segments.retain(|segment| !old.contains(&segment.id()));
            if let Some(new) = new {
                segments.insert(at, new);
            }
        });
        Ok(())
    }

    /// Appends `batch`, whose first `revisions.len()` records are the changes of these revisions.
    pub(crate) fn append(
        &self,
        batch: &mut Batch,
        revisions: impl Iterator<Item = Revision>,
    ) -> Result<Appended, Fault> {
        let appended = self.wal.append(batch).map_err(Fault::log("append to the revision log"))?;
        let mut set = self.set();
        let ends = batch.positions().iter().skip(1).chain([&appended.end]);
        for (revision, (&position, &end)) in revisions.zip(batch.positions().iter().zip(ends)) {
            if set.last().is_none_or(|last| last.id() != position.segment()) {
                // The log went on to a segment of its own accord: a batch greater than what was left.
                self.change_set(|segments| segments.push(Segment::active(position.segment())));
                set = self.set();
            }
            let row = Row { revision, offset: position.offset() as u32 };
            let room = match set.last().map(|last| last.rows()) {
                Some(Rows::Active(rows)) => rows.push(row, record_bytes(position, end)),
                _ => false,
            };
            if !room {
                return Err(Fault::new(FaultKind::Misuse { rule: "a segment holds at most 2^32 revisions" }));
            }
        }
        Ok(appended)
    }

    /// Closes the active segment with its table of contents and begins a new one.
    pub(crate) fn seal(&self) -> Result<(), Fault> {
        let set = self.set();
        let Some(active) = set.last() else { return Ok(()) };
        let (mut footer, _) = rows::footer(active.rows());
        let sealed = self.wal.seal(&mut footer).map_err(Fault::log("seal a segment"))?;
        let rows = self.footer(sealed.footer)?;
        let sealed = Arc::new(active.with_rows(rows));
        self.change_set(|segments| {
            segments.pop();
            segments.push(sealed);
            segments.extend(self.wal.segments().last().map(|info| Segment::active(info.id)));
        });
        Ok(())
    }

    /// Reads the footer that begins at `position`.
    pub(crate) fn footer(&self, position: Position) -> Result<Rows, Fault> {
        read_footer(&self.wal, position)
    }

    /// The change of `revision`; `None` when the log does not have it.
    pub(crate) fn find(&self, revision: Revision) -> Result<Option<Change>, Fault> {
        Ok(Cursor::new(self).find(self, revision, None)?.map(|found| found.change()))
    }

    /// The key-value of the change at `position`, which is that of `revision`; `None` when its segment is no longer part of the log, or
    /// cannot be read through a map.
    #[inline]
    pub(crate) fn share_at(&self, position: Position, revision: Revision) -> Result<Option<Bytes>, Fault> {
        let set = self.set();
        let Some(number) = set.number_of(position.segment()) else { return Ok(None) };
        let segment = &set.segments()[number];
        let offset = position.offset() as u32;
        let share = |view: &SegmentView| {
            let data = cursor::record_at(segment, view, offset, || revision)?;
            Ok(view.share(&data.data[CHANGE_HEADER..]))
        };
        if let Some(wire) = segment.with_view(offset, share) {
            return wire.map(Some);
        }
        let Ok(Some(view)) = self.wal.view(position) else { return Ok(None) };
        segment.keep_view(&view);
        share(&view).map(Some)
    }

    /// The key-value of `revision`, which the caller knows to be there, and where it lies.
    pub(crate) fn share(&self, revision: Revision) -> Result<(Position, Bytes), Fault> {
        let mut cursor = Cursor::new(self);
        let found = cursor.read(self, revision, None)?;
        Ok((found.position(), found.share()))
    }

    /// All changes from revision `from` up to and including main revision `to`, in order.
    pub(crate) fn changes(&self, from: Revision, to: i64) -> Changes<'_> {
        Changes::new(self, from, to)
    }

    /// The change of `revision`, which the caller knows to be there.
    pub(crate) fn read(&self, revision: Revision) -> Result<Change, Fault> {
        self.find(revision)?.ok_or_else(|| Fault::new(FaultKind::Missing { revision }))
    }
}

/// What the record at `position` takes up, given where the next one begins.
fn record_bytes(position: Position, next: Position) -> u64 {
    let same = position.segment() == next.segment();
    if same { next.offset().saturating_sub(position.offset()) } else { 0 }
}

/// Reads a footer: its head, then its rows.
pub(crate) fn read_footer(wal: &Wal, position: Position) -> Result<Rows, Fault> {
    let malformed = || Fault::new(FaultKind::Malformed { what: "footer", position });
    let head = wal.read(position).map_err(Fault::log("read a footer"))?;
    let len = record::u64_at(&head.data, 0).filter(|_| head.kind == record::FOOTER).ok_or_else(malformed)?;
    let len = usize::try_from(len).map_err(|_| malformed())?;
    let bytes = record::u64_at(&head.data, 8);
    // Through the map: a version's row is looked at rarely, and need not stay in memory.
    let (mut chunks, mut found, mut next) = (Vec::new(), 0, head.end());
    while found < len {
        let rows = wal.read(next).map_err(Fault::log("read a footer"))?;
        if rows.kind != record::ROWS || rows.data.len() < record::ROW_BYTES {
            return Err(malformed());
        }
        next = rows.end();
        found += rows.data.len() / record::ROW_BYTES;
        chunks.push(rows.data);
    }
    if found == len { Ok(Rows::Sealed { chunks, len, bytes }) } else { Err(malformed()) }
}
