//! Following the frames: parts in order, batches whole or not. What a walk accepts is the log; what it stops at is for
//! `recovery` to judge.

use std::io;

use crate::format::{
    FLAG_CLOSED, KIND_COMMIT, KIND_CONTINUE, KIND_LAYOUT, KIND_PART, KIND_USER_MAX, NEXT_NONE, Part, PartEnd,
    PartMix, Seed,
};
use crate::layout::Layout;
use crate::planted::{Bug, planted};
use crate::position::Position;
use crate::scan::{Found, Frame, Scanner};

/// Why a walk through one segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// No valid part follows.
    Bad { offset: u64, found: &'static str },
    /// The segment has no file.
    Missing,
    /// The segment is complete.
    Next { next: u64, end: u64, footer: u64 },
}

/// The state of a walk, carried from segment to segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Walk {
    /// The epoch in effect.
    pub(crate) epoch: u32,
    /// The number the next batch must have, once one was seen.
    pub(crate) sequence: Option<u64>,
    /// The number of the first batch.
    pub(crate) first_sequence: Option<u64>,
    /// Which part of a batch must come next.
    index: u32,
    /// Where the batch began that is not committed yet.
    open: Option<Position>,
    /// The end of the last committed batch.
    pub(crate) committed: Option<Position>,
    /// The greatest position that a valid part says was durable.
    pub(crate) durable: u64,
    /// The last committed layout.
    pub(crate) layout: Option<Layout>,
    pending: Option<Layout>,
    /// The last committed batch is a close marker.
    pub(crate) closed: bool,
    pub(crate) batches: u64,
    pub(crate) records: u64,
}

/// What comes next in a part.
enum Step {
    Bad(&'static str),
    End { kind: u8, end: PartEnd, offset: u64 },
}

impl Walk {
    /// Where a cut would be: the start of the batch that is not whole, or `here`.
    pub(crate) fn cut(&self, here: Position) -> Position {
        self.open.unwrap_or(here)
    }

    /// Walks a segment from `offset` to its end or to the first thing that does not belong.
    pub(crate) fn segment(
        &mut self,
        scanner: &mut Scanner,
        id: u64,
        seed: Seed,
        mut offset: u64,
    ) -> io::Result<Stop> {
        loop {
            let start = offset;
            let head = match scanner.frame(seed, offset)? {
                Found::Bad(found) => return Ok(Stop::Bad { offset, found }),
                Found::Frame(frame) => frame,
            };
            let part = match self.begin(&head) {
                Ok(part) => part,
                Err(found) => return Ok(Stop::Bad { offset, found }),
            };
            let opened = self.open.is_none();
            if opened {
                self.open = Some(Position::new(id, start));
            }
            let (kind, end, at) = match self.records(scanner, seed, &head, &part)? {
                (Step::Bad(found), at) => return Ok(Stop::Bad { offset: at, found }),
                (Step::End { kind, end, offset }, _) => (kind, end, offset),
            };
            self.durable = self.durable.max(part.durable);
            offset = at;
            if kind == KIND_COMMIT {
                self.commit(&part, Position::new(id, at), part.flags & FLAG_CLOSED != 0);
            } else {
                self.index += 1;
            }
            if end.next != NEXT_NONE {
                if let Some(layout) =
                    self.layout.as_mut().filter(|layout| !layout.segments.contains(&end.next))
                {
                    layout.segments.push(end.next);
                }
                return Ok(Stop::Next { next: end.next, end: at, footer: u64::from(end.footer) });
            }
        }
    }

    /// True between the parts of a batch.
    pub(crate) fn in_batch(&self) -> bool {
        self.open.is_some()
    }

    /// Is this the head of the part that must come next?
    fn begin(&mut self, head: &Frame) -> Result<Part, &'static str> {
        if head.header.kind != KIND_PART {
            return Err("a frame outside of any batch");
        }
        let part = Part::decode(&head.payload());
        if planted(Bug::StaleRecordAccepted) {
            (self.sequence, self.index) = (Some(part.sequence), part.index);
            return Ok(part);
        }
        if head.header.epoch < self.epoch {
            return Err("a batch of an earlier opening");
        }
        match self.sequence {
            Some(expected) if part.sequence != expected => return Err("a batch out of its order"),
            Some(_) if part.index != self.index => return Err("a part out of its order"),
            Some(_) => {}
            // The first part that is looked at may be in the middle of its batch.
            None => {
                self.first_sequence = Some(part.sequence);
                self.sequence = Some(part.sequence);
                self.index = part.index;
            }
        }
        Ok(part)
    }

    fn records(
        &mut self,
        scanner: &mut Scanner,
        seed: Seed,
        head: &Frame,
        part: &Part,
    ) -> io::Result<(Step, u64)> {
        let mut mix = PartMix::new(part);
        let (mut offset, mut records) = (head.next(), 0u32);
        self.pending = None;
        loop {
            let bad = |found| Ok((Step::Bad(found), offset));
            let frame = match scanner.frame(seed, offset)? {
                Found::Bad(_) if planted(Bug::HalfBatchAccepted) && records > 0 => {
                    self.epoch = head.header.epoch;
                    let end = PartEnd { mix, next: NEXT_NONE, records, footer: 0 };
                    return Ok((Step::End { kind: KIND_COMMIT, end, offset }, offset));
                }
                Found::Bad(found) => return bad(found),
                Found::Frame(frame) => frame,
            };
            if frame.header.epoch != head.header.epoch {
                return bad("a frame of another opening");
            }
            if head.header.epoch != self.epoch
                && self.epoch != 0
                && records == 0
                && frame.header.kind != KIND_LAYOUT
            {
                return bad("a batch of another opening");
            }
            match frame.header.kind {
                0..=KIND_USER_MAX => self.records += 1,
                KIND_LAYOUT => match Layout::decode(&frame.payload()) {
                    Some(layout) => self.pending = Some(layout),
                    None => return bad("a layout that makes no sense"),
                },
                kind @ (KIND_COMMIT | KIND_CONTINUE) => {
                    let end = PartEnd::decode(&frame.payload());
                    if (end.mix != mix || end.records != records) && !planted(Bug::ChecksumIgnored) {
                        return bad("a batch with frames of another");
                    }
                    if kind == KIND_CONTINUE && end.next == NEXT_NONE {
                        return bad("a batch that goes on nowhere");
                    }
                    self.epoch = head.header.epoch;
                    return Ok((Step::End { kind, end, offset: frame.next() }, offset));
                }
                _ => return bad("a frame that does not belong in a batch"),
            }
            mix.add(frame.header.bare(seed, offset));
            records += 1;
            offset = frame.next();
        }
    }

    fn commit(&mut self, part: &Part, end: Position, closed: bool) {
        self.open = None;
        self.committed = Some(end);
        self.sequence = Some(part.sequence.wrapping_add(1));
        self.index = 0;
        self.closed = closed;
        self.batches += 1;
        if let Some(layout) = self.pending.take() {
            self.layout = Some(layout);
        }
    }
}
