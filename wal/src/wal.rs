//! The log's public face.

use std::path::Path;
use std::sync::Arc;

use crate::builder::{BuiltSegment, SegmentBuilder};
use crate::core::Core;
use crate::disk::{Access, Disk};
use crate::error::{Error, OpenError};
use crate::format::HEADER_BYTES;
use crate::handle::Durable;
use crate::options::{Opened, Options};
use crate::planted::{Bug, planted};
use crate::position::{Position, SegmentId};
use crate::reader::Reader;
use crate::record::{Batch, Record};
use crate::segment::SegmentInfo;
use crate::stats::Stats;
use crate::view::SegmentView;

/// Where a batch was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its first record; the end for an empty batch.
    pub first: Position,
    /// The log's end after it: durable once [`Wal::durable_upto`] reaches this.
    pub end: Position,
}

/// Whether a background duty has more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to do now.
    Idle,
    /// Call again.
    More,
}

/// A write-ahead log. Every method takes `&self` and may be called from several threads at once; there is no thread behind it.
///
/// Background duties are done by whoever calls [`step`](Wal::step): call it now and then, and more often while it says
/// [`Progress::More`]; or start a [`Worker`](crate::Worker). A log whose `step` is never called works, slower.
#[derive(Debug)]
pub struct Wal {
    core: Arc<Core>,
}

impl Wal {
    pub(crate) fn new(core: Core) -> Wal {
        Wal { core: Arc::new(core) }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Opens the log in a folder, or creates it (not when read-only).
    ///
    /// # Errors
    /// [`OpenError::Locked`], [`OpenError::NotALog`], [`OpenError::Foreign`], [`OpenError::Version`],
    /// [`OpenError::Damage`], [`OpenError::Torn`], [`OpenError::Short`], [`OpenError::Options`]: then nothing has been changed. [`OpenError::Io`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Opened, OpenError> {
        crate::open::open(disk, dir, options)
    }

    /// Appends a batch: all of its records or none. They can be read at once and are not durable before a sync.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`], [`Error::BatchTooLarge`], [`Error::BadKind`], [`Error::ReadOnly`], and [`Error::Io`] when a
    /// new segment cannot be begun: then nothing was appended. [`Error::Poisoned`].
    pub fn append(&self, batch: &mut Batch) -> Result<Appended, Error> {
        let appended = self.core.stage_batch(batch)?;
        self.core.flush()?;
        Ok(appended)
    }

    /// Makes all that was appended durable; gives the position up to which it is.
    ///
    /// # Errors
    /// [`Error::Poisoned`]: a write or a sync failed, now or earlier. What was not reported durable by then never
    /// will be, whatever a later sync of the file would say; only opening the log again shows what is left.
    /// [`Error::ReadOnly`].
    pub fn sync(&self) -> Result<Position, Error> {
        self.core.wait_durable(self.end())?;
        Ok(self.durable_upto())
    }

    /// Appends a batch and returns once it is durable. Threads that commit at once share writes and syncs.
    ///
    /// # Errors
    /// As those of [`append`](Wal::append) and [`sync`](Wal::sync).
    pub fn commit(&self, batch: &mut Batch) -> Result<Appended, Error> {
        let appended = self.core.stage_batch(batch)?;
        self.core.wait_durable(appended.end)?;
        Ok(appended)
    }

    /// Takes a batch in, to be written and synced with whatever comes along; the handle says when it is durable.
    ///
    /// # Errors
    /// As those of [`append`](Wal::append).
    pub fn submit(&self, batch: &mut Batch) -> Result<(Appended, Durable), Error> {
        let appended = self.core.stage_batch(batch)?;
        Ok((appended, self.durable(appended.end)))
    }

    /// A handle that says when everything below a position is durable.
    pub fn durable(&self, upto: Position) -> Durable {
        Durable::new(Arc::clone(&self.core), upto.min(self.end()))
    }

    /// The end of the log: every record lies before it.
    pub fn end(&self) -> Position {
        self.core.stage().end()
    }

    /// Where the first record of the next batch will lie, unless the log is appended to by somebody else meanwhile, changes its own
    /// layout, or has to go on to another segment: [`Batch::positions`] says after the append what has become of it.
    pub fn next_record(&self) -> Position {
        let end = self.end();
        Position::new(end.segment().0, end.offset() + crate::format::PART_BYTES as u64)
    }

    /// Every record before this survives a crash. In a log that is open for reading only: what the log itself proves, which may be less
    /// than its writer knows.
    pub fn durable_upto(&self) -> Position {
        Position::from_u64(self.core.group.durable())
    }

    /// No record lies before this.
    pub fn first(&self) -> Position {
        self.core.table().first()
    }

    /// The record at a position, through a map: for data that is likely in memory. A log that is open for reading only copies
    /// instead, as [`read_cold`](Wal::read_cold): another process may be writing to it.
    ///
    /// # Errors
    /// [`Error::Purged`], [`Error::Truncated`], [`Error::Ahead`], [`Error::NotARecord`], [`Error::Damage`], [`Error::Io`].
    pub fn read(&self, at: Position) -> Result<Record, Error> {
        let access = if self.core.options().read_only { Access::Copy } else { Access::Map };
        self.core.read(at, access)
    }

    /// The record at a position, by read calls: for data that is likely on the disk. An I/O error is a value.
    ///
    /// # Errors
    /// As those of [`read`](Wal::read).
    pub fn read_cold(&self, at: Position) -> Result<Record, Error> {
        self.core.read(at, Access::Copy)
    }

    /// The segment of a record, for reading many of its records; `None` when this log's records must be read one by one: one that is
    /// open for reading only, or that has truncated ranges.
    ///
    /// # Errors
    /// [`Error::Purged`], [`Error::Ahead`], [`Error::Io`].
    pub fn view(&self, at: Position) -> Result<Option<SegmentView>, Error> {
        self.core.view(at)
    }

    /// The records from a position on, which must be a record's or an end, in order, up to the end as it is now.
    /// [`Position::START`] is the log's beginning. A position that is neither gives one error: [`Error::Purged`], [`Error::Ahead`] when it
    /// lies past the end, [`Error::NotARecord`], [`Error::Damage`] where only the checksum can tell.
    pub fn iter(&self, from: Position) -> Reader {
        self.core.reader(from)
    }

    /// Takes back every record at or after a position. Nothing is rewritten: a record of the truncation is appended, durable by the
    /// next sync; bytes that readers hold do not change.
    ///
    /// # Errors
    /// [`Error::Ahead`], [`Error::Purged`], and [`Error::NotTruncatable`] when a segment that came in by
    /// [`replace`](Wal::replace) lies behind the position: then nothing has changed. [`Error::Poisoned`].
    pub fn truncate_after(&self, position: Position) -> Result<(), Error> {
        let core = &self.core;
        let change = |end: Position| {
            if position > end
                && core.table().get(position.segment().0).is_none_or(|s| s.id == end.segment().0)
            {
                return Err(Error::Ahead { position, end });
            }
            let mut table = core.table_mut();
            let first = table.first();
            let from = if position == Position::START { first } else { position };
            if table.get(from.segment().0).is_none() {
                return Err(Error::Purged { position, first });
            }
            if table.built_after(from) {
                return Err(Error::NotTruncatable { position });
            }
            table.truncate(from, end);
            Ok(())
        };
        if planted(Bug::TruncationForgotten) {
            return change(self.end());
        }
        core.reshape(|stage| change(stage.end())).map(|_| ())
    }

    /// Drops whole segments that lie before a position: the one it lies in stays. Their files go once the record of it is
    /// durable, by [`step`](Wal::step) or when a segment is begun. A position that was purged already changes nothing.
    ///
    /// # Errors
    /// [`Error::Ahead`]; [`Error::Poisoned`].
    pub fn purge_before(&self, position: Position) -> Result<(), Error> {
        let core = &self.core;
        let end = self.end();
        let known = core.table().get(position.segment().0).is_some();
        if position > end && (!known || position.segment() == end.segment()) {
            return Err(Error::Ahead { position, end });
        }
        let first = core.table().order().first().map_or(0, |segment| segment.id);
        if !known || position.segment().0 == first {
            return core.group.check();
        }
        let (gone, after) = core.reshape(|_| Ok(core.table_mut().purge(position)))?;
        core.retire(gone, after);
        core.drop_retired();
        Ok(())
    }

    /// One slice of the background duties: filling and recycling spares, write-back, letting purged files go. `budget` bounds
    /// the bytes written by it. A spare that cannot be made is counted and tried again by a later step.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn step(&self, budget: usize) -> Result<Progress, Error> {
        self.core.step(budget)
    }

    /// Appends `footer` as the last batch of the active segment, closes it and begins the next one. Not durable before a sync.
    ///
    /// # Errors
    /// As those of [`append`](Wal::append).
    pub fn seal(&self, footer: &mut Batch) -> Result<SegmentInfo, Error> {
        self.core.seal_with(footer).map(|segment| segment.info())
    }

    /// Begins a segment that may take the place of sealed ones.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; [`Error::Io`].
    pub fn build_segment(&self) -> Result<SegmentBuilder, Error> {
        SegmentBuilder::new(Arc::clone(&self.core))
    }

    /// Puts `new` in the place of the segments `old`: sealed, durable, neighbours in the log's order. After a crash it is all of the
    /// old or all of the new. Durable when it returns; the old files go when their last reader lets go.
    ///
    /// # Errors
    /// [`Error::NotReplaceable`], also for a segment that was built for another log or another opening of this one: nothing has changed, and the new segments are dropped. [`Error::Poisoned`].
    pub fn replace(&self, old: &[SegmentId], new: Vec<BuiltSegment>) -> Result<(), Error> {
        let core = &self.core;
        let mut new = new;
        let mut change = || {
            if let Some(foreign) = new.iter().find(|built| !built.belongs_to(core)) {
                let (segment, reason) = (foreign.info().id, "it was built for another log");
                return Err(Error::NotReplaceable { segment, reason });
            }
            let mut table = core.table_mut();
            let at = replaceable(table.order(), old, core.group.durable())?;
            let segments = new.iter_mut().filter_map(BuiltSegment::take).collect();
            Ok(table.replace(at, old.len(), segments))
        };
        let (gone, after) = core.reshape(|_| change())?;
        core.wait_durable(after)?;
        core.retire(gone, after);
        core.drop_retired();
        Ok(())
    }

    /// The live segments in the log's order, the active one last.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.core.table().order().iter().map(|segment| segment.info()).collect()
    }

    /// The bytes in the active segment.
    pub fn active_bytes(&self) -> u64 {
        self.core.stage().next - HEADER_BYTES
    }

    /// Syncs everything and leaves a mark that says so: the next opening can tell the loss of any record.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn close(self) -> Result<(), Error> {
        if self.core.options().read_only {
            return Ok(());
        }
        self.sync()?;
        self.core.close_record()?;
        self.sync()?;
        self.core.drop_retired();
        Ok(())
    }

    /// What the log has done so far.
    pub fn stats(&self) -> Stats {
        let mut stats = self.core.counters.snapshot();
        stats.spares = self.core.maker.ready() as u64;
        let table = self.core.table();
        stats.segments = table.order().len() as u64;
        stats.live_bytes = table.order().iter().map(|segment| segment.end()).sum();
        stats
    }
}

/// Where in the order the segments to be replaced begin.
fn replaceable(
    order: &[Arc<crate::segment::Segment>],
    old: &[SegmentId],
    durable: u64,
) -> Result<usize, Error> {
    let refuse = |segment: SegmentId, reason| Err(Error::NotReplaceable { segment, reason });
    let Some(first) = old.first() else { return refuse(SegmentId(0), "there is nothing to replace") };
    let Some(at) = order.iter().position(|segment| segment.id == first.0) else {
        return refuse(*first, "it is not part of the log");
    };
    for (i, id) in old.iter().enumerate() {
        let Some(segment) = order.get(at + i).filter(|segment| segment.id == id.0) else {
            return refuse(*id, "it does not follow the one before it in the log");
        };
        if !segment.is_sealed() {
            return refuse(*id, "it is not sealed");
        }
        if !segment.built && segment.position(segment.end()).as_u64() > durable {
            return refuse(*id, "it is not durable yet");
        }
    }
    Ok(at)
}
