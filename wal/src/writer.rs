//! The log's end: batches are staged in memory, then written with one call; a full segment gives way to the next.
//!
//! Two locks, taken in this order: `io` is held while bytes go to the file, so they go in order; `stage` while a batch is
//! copied and bound to its place, which takes microseconds. While one group is being written, the next one gathers.

use std::io;
use std::mem;
use std::sync::Arc;

use crate::core::Core;
use crate::error::Error;
use crate::format::{
    BATCH_BYTES_MAX, FLAG_CLOSED, FRAME_BYTES, HEADER_BYTES, KIND_COMMIT, KIND_CONTINUE, KIND_LAYOUT,
    KIND_USER_MAX, NEXT_NONE, PART_BYTES, RECORD_BYTES_MAX, SEGMENT_BYTES_MAX,
};
use crate::planted::{Bug, planted};
use crate::position::Position;
use crate::record::Batch;
use crate::segment::Segment;
use crate::stage::{COMMIT, Close, Stage, split};
use crate::stats::count;
use crate::wal::Appended;

/// A part without records fits behind every batch: so a segment can always be closed.
const END_ROOM: u64 = 2 * PART_BYTES as u64;
/// More than this is not gathered in memory before it is written.
const STAGE_BYTES_MAX: usize = 1 << 20;

/// What is written and not synced.
#[derive(Debug, Default)]
pub(crate) struct Io {
    out: Vec<u8>,
    unsynced: Vec<Arc<Segment>>,
    /// What is written now is about to be read: it goes through the system's memory in any case.
    is_wanted: bool,
}

/// The frame of a layout record.
fn layout_frame(core: &Core, previous_end: Position) -> Batch {
    let mut batch = Batch::new();
    let layout = core.table().layout(previous_end);
    batch.push_frame(KIND_LAYOUT, |bytes| layout.encode(bytes));
    batch
}

impl Core {
    fn limit(&self) -> u64 {
        if self.options().manual_rotation { SEGMENT_BYTES_MAX } else { self.options().segment_bytes }
    }

    fn fits(&self, stage: &Stage, bytes: u64) -> bool {
        let room = if planted(Bug::FullSegmentOffByOne) { 0 } else { END_ROOM };
        stage.next + bytes + room <= self.limit()
    }

    fn admit(&self, batch: &Batch) -> Result<(), Error> {
        if self.options().read_only {
            return Err(Error::ReadOnly);
        }
        if let Some(kind) = batch.bad_kind() {
            return Err(Error::BadKind { kind, limit: KIND_USER_MAX });
        }
        if batch.largest() > RECORD_BYTES_MAX {
            return Err(Error::RecordTooLarge { bytes: batch.largest(), limit: RECORD_BYTES_MAX });
        }
        if batch.part_bytes() > BATCH_BYTES_MAX {
            return Err(Error::BatchTooLarge { bytes: batch.part_bytes(), limit: BATCH_BYTES_MAX });
        }
        Ok(())
    }

    /// Gives the batch its place. Nothing is written yet, unless memory or the segment is full.
    pub(crate) fn stage_batch(&self, batch: &mut Batch) -> Result<Appended, Error> {
        self.admit(batch)?;
        self.group.check()?;
        batch.positions_mut().clear();
        let mut stage = self.stage();
        if batch.is_empty() {
            return Ok(Appended { first: stage.end(), end: stage.end() });
        }
        let full = stage.out.len() + batch.bytes() > STAGE_BYTES_MAX && !stage.out.is_empty();
        if full || !self.fits(&stage, batch.part_bytes()) {
            drop(stage);
            let mut io = self.io();
            let mut stage = self.stage();
            return self.stage_slowly(&mut io, &mut stage, batch);
        }
        Ok(self.stage_whole(&mut stage, batch, COMMIT))
    }

    fn stage_whole(&self, stage: &mut Stage, batch: &mut Batch, close: Close) -> Appended {
        let mut positions = mem::take(batch.positions_mut());
        stage.put(self.group.durable(), (0, 0), [&[], batch.frames()], close, &mut positions);
        *batch.positions_mut() = positions;
        self.count_batch(batch);
        let end = stage.end();
        Appended { first: batch.positions().first().copied().unwrap_or(end), end }
    }

    fn count_batch(&self, batch: &Batch) {
        count(&self.counters.batches, 1);
        count(&self.counters.records, batch.len() as u64);
        count(&self.counters.bytes, batch.part_bytes());
    }

    fn stage_slowly(&self, io: &mut Io, stage: &mut Stage, batch: &mut Batch) -> Result<Appended, Error> {
        self.write_stage(io, stage)?;
        if self.fits(stage, batch.part_bytes()) {
            return Ok(self.stage_whole(stage, batch, COMMIT));
        }
        let mut positions = mem::take(batch.positions_mut());
        let result = self.rotate(io, stage, batch.frames(), &mut positions);
        *batch.positions_mut() = positions;
        result?;
        self.count_batch(batch);
        let end = stage.end();
        Ok(Appended { first: batch.positions().first().copied().unwrap_or(end), end })
    }

    /// Closes the active segment and goes on in new ones, as many as the frames need. If there is no room for them on the disk,
    /// nothing has changed.
    fn rotate(
        &self,
        io: &mut Io,
        stage: &mut Stage,
        frames: &[u8],
        positions: &mut Vec<Position>,
    ) -> Result<(), Error> {
        let layout = layout_frame(self, stage.end());
        // A few runs more than now at the most matter little: a file may grow a bit beyond its size.
        let used = HEADER_BYTES + layout.bytes() as u64 + 2 * PART_BYTES as u64 + END_ROOM;
        let runs = split(frames, self.limit().saturating_sub(used));
        let mut segments = Vec::with_capacity(runs.len());
        while segments.len() < runs.len() {
            match self.maker.take(&self.counters) {
                Ok(segment) => segments.push(segment),
                Err(error) => {
                    self.maker.untake(segments);
                    return Err(Error::io("begin a segment", error));
                }
            }
        }
        let ids: Vec<u64> = segments.iter().map(|segment| segment.id).collect();
        stage.put_empty(self.group.durable(), 0, ids[0]);
        for (i, (segment, run)) in segments.into_iter().zip(runs).enumerate() {
            let close = match ids.get(i + 1) {
                Some(&next) => Close { kind: KIND_CONTINUE, next, footer: false },
                None => COMMIT,
            };
            self.begin_segment(io, stage, segment, (i as u32, run), close, positions)?;
        }
        Ok(())
    }

    /// Writes what is staged, leaves the active segment, and stages the first part of the next: its layout and `run`.
    fn begin_segment(
        &self,
        io: &mut Io,
        stage: &mut Stage,
        segment: Arc<Segment>,
        (index, run): (u32, &[u8]),
        close: Close,
        positions: &mut Vec<Position>,
    ) -> Result<(), Error> {
        self.write_stage(io, stage)?;
        let previous_end = stage.end();
        if !stage.segment.is_sealed() {
            stage.segment.seal(0);
        }
        self.table_mut().push(Arc::clone(&segment));
        stage.begin_segment(segment);
        count(&self.counters.segments_begun, 1);
        self.call_worker();
        let layout = layout_frame(self, previous_end);
        stage.put(self.group.durable(), (index, 0), [layout.frames(), run], close, positions);
        Ok(())
    }

    /// Appends the batch as the last of the active segment and goes on in a new one.
    pub(crate) fn seal_with(&self, footer: &mut Batch) -> Result<Arc<Segment>, Error> {
        self.admit(footer)?;
        self.group.check()?;
        let mut io = self.io();
        let mut stage = self.stage();
        let next = self.maker.take(&self.counters).map_err(|e| Error::io("begin a segment", e))?;
        footer.positions_mut().clear();
        if self.options().uncached {
            self.write_stage(&mut io, &mut stage)?;
            io.is_wanted = true;
        }
        let close = Close { kind: KIND_COMMIT, next: next.id, footer: true };
        self.stage_whole(&mut stage, footer, close);
        let sealed = Arc::clone(&stage.segment);
        sealed.seal(footer.positions().first().map_or(0, |position| position.offset()));
        self.begin_segment(&mut io, &mut stage, next, (0, &[]), COMMIT, &mut Vec::new())?;
        self.write_stage(&mut io, &mut stage)?;
        io.is_wanted = false;
        Ok(sealed)
    }

    /// Changes the log's shape under both locks and appends the record of it.
    pub(crate) fn reshape<T>(
        &self,
        change: impl FnOnce(&Stage) -> Result<T, Error>,
    ) -> Result<(T, Position), Error> {
        if self.options().read_only {
            return Err(Error::ReadOnly);
        }
        self.group.check()?;
        let mut io = self.io();
        let mut stage = self.stage();
        self.write_stage(&mut io, &mut stage)?;
        let outcome = change(&stage)?;
        let layout = layout_frame(self, stage.end());
        if self.fits(&stage, layout.part_bytes()) {
            self.put_layout(&mut stage, &layout);
        } else if self.rotate(&mut io, &mut stage, &[], &mut Vec::new()).is_err() {
            // No room for a new segment: the record makes this one a bit longer than its size.
            self.group.check()?;
            self.put_layout(&mut stage, &layout);
        }
        self.write_stage(&mut io, &mut stage)?;
        Ok((outcome, stage.end()))
    }

    fn put_layout(&self, stage: &mut Stage, layout: &Batch) {
        let mut none = Vec::new();
        stage.put(self.group.durable(), (0, 0), [layout.frames(), &[]], COMMIT, &mut none);
    }

    /// The first record of a life: binds the log to a new epoch, right behind the end that was found.
    pub(crate) fn open_record(&self, previous_end: Position) -> Result<(), Error> {
        let mut io = self.io();
        let mut stage = self.stage();
        let layout = layout_frame(self, previous_end);
        self.put_layout(&mut stage, &layout);
        self.write_stage(&mut io, &mut stage)
    }

    /// The last record of a life: everything before it is durable.
    pub(crate) fn close_record(&self) -> Result<(), Error> {
        let mut io = self.io();
        let mut stage = self.stage();
        stage.put_empty(self.group.durable(), FLAG_CLOSED, NEXT_NONE);
        self.write_stage(&mut io, &mut stage)
    }

    /// Writes all that is staged.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let mut io = self.io();
        let mut stage = self.stage();
        if stage.out.is_empty() {
            return self.all_written(&stage);
        }
        let (segment, at, end) = self.take_stage(&mut io, &mut stage);
        // Others stage the next group meanwhile; they cannot write it before this one.
        drop(stage);
        self.write_out(&mut io, segment, at, end)
    }

    fn write_stage(&self, io: &mut Io, stage: &mut Stage) -> Result<(), Error> {
        if stage.out.is_empty() {
            return self.all_written(stage);
        }
        let (segment, at, end) = self.take_stage(io, stage);
        self.write_out(io, segment, at, end)
    }

    /// Nothing is staged; unless another thread took it away and failed to write it.
    fn all_written(&self, stage: &Stage) -> Result<(), Error> {
        if self.written() < stage.end() { self.group.check() } else { Ok(()) }
    }

    fn take_stage(&self, io: &mut Io, stage: &mut Stage) -> (Arc<Segment>, u64, u64) {
        mem::swap(&mut io.out, &mut stage.out);
        let at = mem::replace(&mut stage.out_at, stage.next);
        (Arc::clone(&stage.segment), at, stage.next)
    }

    fn write_out(&self, io: &mut Io, segment: Arc<Segment>, at: u64, end: u64) -> Result<(), Error> {
        // Bytes of a batch that others hold places behind cannot be taken back: a failure here is for good.
        let written = self.group.check().and_then(|()| {
            let uncached = self.options().uncached && !io.is_wanted;
            let write = || match uncached {
                true => segment.file.write_uncached(at, &io.out),
                false => segment.file.write_at(at, &io.out),
            };
            let written = self.group.guarded("write of a batch", write);
            written.map_err(|e| self.group.poison("write of a batch", e))
        });
        io.out.clear();
        io.out.shrink_to(2 * STAGE_BYTES_MAX);
        written?;
        count(&self.counters.writes, 1);
        segment.set_end(end);
        self.set_written(segment.position(end));
        if io.unsynced.last().is_none_or(|last| last.id != segment.id) {
            io.unsynced.push(segment);
        }
        Ok(())
    }

    /// One round of sync, for everything staged by now; gives the position up to which all is durable.
    pub(crate) fn sync_round(&self) -> Result<u64, Error> {
        let mut io = self.io();
        let mut stage = self.stage();
        self.group.promise(stage.end().as_u64());
        if stage.out.is_empty() {
            self.all_written(&stage)?;
            drop(stage);
        } else {
            let (segment, at, end) = self.take_stage(&mut io, &mut stage);
            drop(stage);
            self.write_out(&mut io, segment, at, end)?;
        }
        let upto = self.written();
        let last = io.unsynced.pop();
        // Most often there is none, and the vector keeps its memory.
        let mut earlier = if io.unsynced.is_empty() { Vec::new() } else { mem::take(&mut io.unsynced) };
        if planted(Bug::RotatedSegmentNotSynced) {
            earlier.clear();
        }
        drop(io);
        for segment in earlier.iter().chain(last.as_ref()) {
            self.sync_file(segment).map_err(|error| self.group.poison("sync of a segment", error))?;
        }
        if last.is_some() {
            count(&self.counters.syncs, 1);
        }
        Ok(upto.as_u64())
    }

    fn sync_file(&self, segment: &Segment) -> io::Result<()> {
        if self.options().unsafe_no_sync || planted(Bug::AcknowledgedBeforeSync) {
            Ok(())
        } else {
            segment.file.sync()
        }
    }
}

const _: () = assert!(FRAME_BYTES.is_multiple_of(8) && PART_BYTES.is_multiple_of(8));
