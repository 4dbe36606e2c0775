//! Reading: one record by its position, or records in order.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::Core;
use crate::disk::Access;
use crate::error::{Damage, Error};
use crate::format::{FRAME_BYTES, FrameHeader, HEADER_BYTES, KIND_USER_MAX, Seed, frame_valid};
use crate::position::Position;
use crate::record::Record;
use crate::scan::{Found, NO_FRAME, Scanner, ZEROES};
use crate::segment::Segment;
use crate::table::dead_until;

pub(crate) fn damaged(segment: &Segment, offset: u64, found: &str) -> Error {
    Error::Damage(Damage {
        segment: segment.info().id,
        offset,
        expected: "a frame of the log".to_owned(),
        found: found.to_owned(),
        proof: "it was written and lies before the log's end".to_owned(),
    })
}

/// The record at a position that was written.
pub(crate) fn read_at(segment: &Segment, at: Position, access: Access) -> Result<Record, Error> {
    let (offset, end) = (at.offset(), segment.end());
    let not_a_record = Error::NotARecord { position: at };
    if offset % 8 != 0 || offset + FRAME_BYTES as u64 > end {
        return Err(not_a_record);
    }
    let read =
        |offset, len| segment.file.read(offset, len, access).map_err(|e| Error::io("read a record", e));
    let head = read(offset, FRAME_BYTES)?;
    let Some(header) = FrameHeader::decode(&head) else { return Err(not_a_record) };
    if header.kind > KIND_USER_MAX || offset + header.bytes() > end {
        return Err(not_a_record);
    }
    let frame = read(offset, header.bytes() as usize)?;
    if !frame_valid(&frame, &header, segment.seed, offset) {
        return Err(damaged(segment, offset, "a frame whose checksum does not match its place"));
    }
    let data = frame.slice(FRAME_BYTES..FRAME_BYTES + header.len as usize);
    Ok(Record { position: at, kind: header.kind, data })
}

/// A log that is open for reading only may have a writer in another process, which has let go of the segment since: then `error` says so.
/// `order` holds the segments that are looked through for one that is left.
fn gone_or<'a>(
    error: Error,
    position: Position,
    segment: &Segment,
    order: impl IntoIterator<Item = &'a Arc<Segment>>,
) -> Error {
    if !segment.was_let_go() {
        return error;
    }
    let left = order.into_iter().find(|segment| !segment.was_let_go());
    let first = left.map_or(position, |segment| segment.position(HEADER_BYTES));
    Error::Purged { position, first }
}

impl Core {
    pub(crate) fn read(&self, at: Position, access: Access) -> Result<Record, Error> {
        let segment = match self.table().find(at) {
            Ok(segment) => Arc::clone(segment),
            Err(Error::Purged { .. }) if at >= self.written() => {
                return Err(Error::Ahead { position: at, end: self.written() });
            }
            Err(error) => return Err(error),
        };
        if at.offset() >= segment.end() {
            let end = self.stage().end();
            if at >= end {
                return Err(Error::Ahead { position: at, end });
            }
            self.flush()?;
        }
        read_at(&segment, at, access).map_err(|error| {
            let read_only = self.options().read_only;
            if read_only { gone_or(error, at, &segment, self.table().order()) } else { error }
        })
    }

    pub(crate) fn reader(&self, from: Position) -> Reader {
        let failed = self.flush().err();
        let table = self.table();
        let end = self.written();
        let mut reader = Reader {
            segments: Vec::new(),
            dead: table.dead().to_vec(),
            end,
            current: None,
            given: true,
            read_only: self.options().read_only,
            failed,
        };
        let first = table.first();
        // Segments that were built may have greater numbers than those that follow them: the order is the table's.
        let found = table.order().iter().position(|segment| segment.id == from.segment().0);
        match found {
            _ if from.segment() == Position::START.segment() => reader.begin(table.order(), first.offset()),
            Some(_) if from.segment() == end.segment() && from > end => {
                reader.fail(Error::Ahead { position: from, end });
            }
            Some(at) => reader.begin(&table.order()[at..], from.offset().max(HEADER_BYTES)),
            None if from >= end => reader.fail(Error::Ahead { position: from, end }),
            None => reader.fail(Error::Purged { position: from, first }),
        }
        reader
    }
}

/// Records in the log's order, up to the end as it was when the reader was made: an iterator that ends after its first error.
///
/// Records are read by read calls, not through a map: an I/O error is a value. A purge meanwhile does not disturb it.
#[derive(Debug)]
pub struct Reader {
    /// What is left to read, the next segment last.
    segments: Vec<Arc<Segment>>,
    dead: Vec<(u64, u64)>,
    end: Position,
    current: Option<Current>,
    /// The next frame is at the position that was asked for, which may be none.
    given: bool,
    read_only: bool,
    failed: Option<Error>,
}

#[derive(Debug)]
struct Current {
    segment: Arc<Segment>,
    scanner: Scanner,
    seed: Seed,
    offset: u64,
    end: u64,
}

impl Reader {
    /// An error that came up before counts.
    fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    fn begin(&mut self, segments: &[Arc<Segment>], offset: u64) {
        self.segments = segments.iter().rev().cloned().collect();
        self.open_next(offset);
    }

    fn open_next(&mut self, offset: u64) {
        self.current = self.segments.pop().map(|segment| {
            let whole = segment.end();
            let end = if segment.id == self.end.segment().0 { self.end.offset() } else { whole };
            let scanner = Scanner::new(Arc::clone(&segment.file), end, Access::Copy);
            Current { seed: segment.seed, segment, scanner, offset, end }
        });
    }

    fn advance(&mut self) -> Result<Option<Record>, Error> {
        loop {
            let Some(current) = self.current.as_mut() else { return Ok(None) };
            let at = current.segment.position(current.offset);
            let given = std::mem::take(&mut self.given);
            if given && (current.offset > current.end || !current.offset.is_multiple_of(8)) {
                return Err(Error::NotARecord { position: at });
            }
            if current.offset >= current.end {
                self.open_next(HEADER_BYTES);
                continue;
            }
            let found = current.scanner.frame(current.seed, current.offset);
            let error = match found.map_err(|error| Error::io("read a segment", error)) {
                Ok(Found::Frame(frame)) => {
                    current.offset = frame.next();
                    let dead = !current.segment.built && dead_until(&self.dead, at.as_u64()).is_some();
                    if frame.header.kind <= KIND_USER_MAX && !dead {
                        let data: Bytes = frame.payload();
                        return Ok(Some(Record { position: at, kind: frame.header.kind, data }));
                    }
                    continue;
                }
                // Whether a record that was there is damaged, only a checksum can tell.
                Ok(Found::Bad(ZEROES | NO_FRAME)) if given => Error::NotARecord { position: at },
                Ok(Found::Bad(found)) => damaged(&current.segment, current.offset, found),
                Err(error) => error,
            };
            let later = self.segments.iter().rev();
            return Err(if self.read_only { gone_or(error, at, &current.segment, later) } else { error });
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.current = None;
            self.segments.clear();
            return Some(Err(error));
        }
        let outcome = self.advance();
        if outcome.is_err() {
            self.current = None;
            self.segments.clear();
        }
        outcome.transpose()
    }
}
