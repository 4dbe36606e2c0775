//! What is staged: batches in memory, each bound to its place at the log's end, until they are written with one call.

use std::mem;
use std::sync::Arc;

use crate::format::{
    self, FrameHeader, HEADER_BYTES, KIND_COMMIT, KIND_USER_MAX, NEXT_NONE, PART_BYTES, Part, PartEnd,
    PartMix, Seed,
};
use crate::planted::{Bug, planted};
use crate::position::Position;
use crate::segment::Segment;

/// Where the next batch goes, and the batches that are not written yet.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) out: Vec<u8>,
    pub(crate) out_at: u64,
    pub(crate) segment: Arc<Segment>,
    seed: Seed,
    pub(crate) next: u64,
    sequence: u64,
    scratch: Vec<Position>,
}

/// The end of a part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Close {
    pub(crate) kind: u8,
    pub(crate) next: u64,
    /// The first user record is a footer's.
    pub(crate) footer: bool,
}

pub(crate) const COMMIT: Close = Close { kind: KIND_COMMIT, next: NEXT_NONE, footer: false };

impl Stage {
    pub(crate) fn new(segment: Arc<Segment>, next: u64, epoch: u32, sequence: u64) -> Stage {
        let seed = segment.seed.with_epoch(epoch);
        Stage { out: Vec::new(), out_at: next, segment, seed, next, sequence, scratch: Vec::new() }
    }

    pub(crate) fn end(&self) -> Position {
        self.segment.position(self.next)
    }

    pub(crate) fn begin_segment(&mut self, segment: Arc<Segment>) {
        self.seed = segment.seed.with_epoch(self.seed.epoch());
        self.segment = segment;
        self.next = HEADER_BYTES;
        self.out_at = HEADER_BYTES;
    }

    /// Stages one part of the batch with the current number.
    pub(crate) fn put(
        &mut self,
        durable: u64,
        (index, flags): (u32, u32),
        frames: [&[u8]; 2],
        close: Close,
        positions: &mut Vec<Position>,
    ) {
        let durable = if planted(Bug::DurableOverclaimed) { self.end().as_u64() } else { durable };
        let part = Part { sequence: self.sequence, durable, index, flags };
        part.encode(&mut self.out, self.seed, self.next);
        self.next += PART_BYTES as u64;
        let mut mix = PartMix::new(&part);
        let (mut records, mut footer) = (0, 0);
        for frames in frames {
            let mut at = self.out.len();
            self.out.extend_from_slice(frames);
            // Frames come from a batch, which makes them whole: decoding one never fails here.
            while let Some(header) = FrameHeader::decode_unbound(&self.out[at..]) {
                mix.add(format::frame_bind(&mut self.out[at..], self.seed, self.next));
                if header.kind <= KIND_USER_MAX {
                    positions.push(self.segment.position(self.next));
                    footer = if close.footer && footer == 0 { self.next } else { footer };
                }
                records += 1;
                at += header.bytes() as usize;
                self.next += header.bytes();
            }
        }
        let end = PartEnd { mix, next: close.next, records, footer: footer as u32 };
        end.encode(&mut self.out, close.kind, self.seed, self.next);
        self.next += PART_BYTES as u64;
        if close.kind == KIND_COMMIT {
            self.sequence += 1;
        }
    }

    pub(crate) fn put_empty(&mut self, durable: u64, flags: u32, next: u64) {
        let mut none = mem::take(&mut self.scratch);
        self.put(durable, (0, flags), [&[], &[]], Close { next, ..COMMIT }, &mut none);
        self.scratch = none;
    }
}

/// Cuts frames into runs of at most `room` bytes; a frame that is longer makes a run of its own.
pub(crate) fn split(frames: &[u8], room: u64) -> Vec<&[u8]> {
    let (mut runs, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(header) = FrameHeader::decode_unbound(&frames[at..]) {
        let end = at + header.bytes() as usize;
        if at > start && (end - start) as u64 > room {
            runs.push(&frames[start..at]);
            start = at;
        }
        at = end;
    }
    runs.push(&frames[start..]);
    runs
}
