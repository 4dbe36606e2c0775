//! The log's public face.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::{Error, OpenError};
use crate::options::{Opened, Options};
use crate::position::{Position, SegmentId};
use crate::record::{Batch, Record};
use crate::stats::Stats;

/// Where a batch was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its first record.
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

/// A live segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub id: SegmentId,
    /// No record of it lies before this.
    pub first: Position,
    /// The first record of its footer; [`Position::START`] when it has none.
    pub footer: Position,
    /// Every record of it lies before this.
    pub end: Position,
    /// The bytes up to its end.
    pub bytes: u64,
    /// How often its content was rewritten.
    pub generation: u32,
    /// True once nothing is appended to it any more.
    pub sealed: bool,
}

/// A segment under construction.
#[derive(Debug)]
pub struct SegmentBuilder;

/// A finished segment, durable, waiting for [`Wal::replace`].
#[derive(Debug)]
pub struct BuiltSegment {
    /// Its shape.
    pub info: SegmentInfo,
}

/// Records in order.
#[derive(Debug)]
pub struct Reader;

impl Iterator for Reader {
    type Item = Result<Record, Error>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

/// A write-ahead log.
#[derive(Debug)]
pub struct Wal;

fn unfinished<T>() -> Result<T, Error> {
    Err(Error::io("use an unfinished log", io::ErrorKind::Unsupported.into()))
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "the signatures ahead of the code")]
impl SegmentBuilder {
    pub fn append(&mut self, _batch: &mut Batch) -> Result<(), Error> {
        unfinished()
    }
    pub fn position(&self) -> Position {
        Position::START
    }
    pub fn id(&self) -> SegmentId {
        SegmentId(0)
    }
    pub fn finish(self, _footer: &mut Batch) -> Result<BuiltSegment, Error> {
        unfinished()
    }
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "the signatures ahead of the code")]
impl Wal {
    pub fn open(_disk: Arc<dyn Disk>, dir: &Path, _options: Options) -> Result<Opened, OpenError> {
        Err(OpenError::io("open the unfinished log in", dir, io::ErrorKind::Unsupported.into()))
    }
    pub fn append(&self, _batch: &mut Batch) -> Result<Appended, Error> {
        unfinished()
    }
    pub fn sync(&self) -> Result<Position, Error> {
        unfinished()
    }
    pub fn commit(&self, _batch: &mut Batch) -> Result<Appended, Error> {
        unfinished()
    }
    pub fn end(&self) -> Position {
        Position::START
    }
    pub fn durable_upto(&self) -> Position {
        Position::START
    }
    pub fn read(&self, _at: Position) -> Result<Record, Error> {
        unfinished()
    }
    pub fn iter(&self, _from: Position) -> Reader {
        Reader
    }
    pub fn truncate_after(&self, _position: Position) -> Result<(), Error> {
        unfinished()
    }
    pub fn purge_before(&self, _position: Position) -> Result<(), Error> {
        unfinished()
    }
    pub fn step(&self, _budget: usize) -> Result<Progress, Error> {
        unfinished()
    }
    pub fn seal(&self, _footer: &mut Batch) -> Result<SegmentInfo, Error> {
        unfinished()
    }
    pub fn replace(&self, _old: &[SegmentId], _new: Vec<BuiltSegment>) -> Result<(), Error> {
        unfinished()
    }
    pub fn build_segment(&self) -> Result<SegmentBuilder, Error> {
        unfinished()
    }
    pub fn segments(&self) -> Vec<SegmentInfo> {
        Vec::new()
    }
    pub fn active_bytes(&self) -> u64 {
        0
    }
    pub fn close(self) -> Result<(), Error> {
        unfinished()
    }
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}
