//! The bytes: frame, part header and part end, and the limits. Pure; drawn in `docs/format/wal.md`. The first block of a segment is in
//! `header.rs`, the record of the log's shape in `layout.rs`.
//!
//! ```text
//! segment   header (one 4 KiB block) | part | part | …
//! part      PART frame | record frames | COMMIT frame, or CONTINUE when the batch goes on in the next segment
//! frame     0 check u32 | 4 epoch u32 | 8 len u32 | 12 kind u8 | 13 "KW1" | 16 payload, padded to 8 with zeroes
//! check     crc32(bytes 8..) xor seed(log, segment, epoch, offset)
//! ```
//!
//! The seed binds a frame to its place and time: one that was valid in a recycled file's past, before a cut, in another
//! log or at another offset is not valid here.

use crate::planted::{Bug, planted};

/// The length of a segment's header block: what follows never shares a 4 KiB sector with it.
pub(crate) const HEADER_BYTES: u64 = 4096;
/// The length of a frame's own header.
pub(crate) const FRAME_BYTES: usize = 16;
/// The length of a PART, COMMIT or CONTINUE frame.
pub(crate) const PART_BYTES: usize = FRAME_BYTES + 24;
/// The longest record, in bytes.
pub const RECORD_BYTES_MAX: u64 = 64 << 20;
/// The longest batch, in bytes of the log.
pub const BATCH_BYTES_MAX: u64 = 1 << 30;
/// The greatest segment, in bytes: an offset fits 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;
/// The smallest segment, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 8 << 10;
/// The longest metadata of a segment, in bytes.
pub const METADATA_BYTES_MAX: usize = 3968;
/// The version of the format that this code writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The greatest record kind of a user.
pub(crate) const KIND_USER_MAX: u8 = 239;
/// The log's own record: which segments there are, and which ranges were truncated.
pub(crate) const KIND_LAYOUT: u8 = 240;
/// Ends a part whose batch goes on in the next segment.
pub(crate) const KIND_CONTINUE: u8 = 253;
/// Ends a batch.
pub(crate) const KIND_COMMIT: u8 = 254;
/// Begins a part.
pub(crate) const KIND_PART: u8 = 255;

/// `next` of a part end: the segment goes on.
pub(crate) const NEXT_NONE: u64 = 0;
/// `next` of a part end: the segment is complete and was built apart from the log's end.
pub(crate) const NEXT_BUILT: u64 = u64::MAX;
/// Flag of a part: the log was closed here, and everything before was durable.
pub(crate) const FLAG_CLOSED: u32 = 1;

const TAG: [u8; 3] = *b"KW1";

/// `len` rounded up to the alignment of frames.
pub(crate) const fn padded(len: usize) -> usize {
    (len + 7) & !7
}

/// The whole length of a frame with `len` bytes of payload.
pub(crate) const fn frame_bytes(len: usize) -> u64 {
    (FRAME_BYTES + padded(len)) as u64
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What binds a frame to its log, segment and epoch; the offset comes with each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed {
    place: u64,
    epoch: u32,
    base: u64,
}

impl Seed {
    pub(crate) fn new(log_id: u64, segment: u64, epoch: u32) -> Seed {
        let place = mix(log_id ^ mix(segment.wrapping_add(0x9e37_79b9_7f4a_7c15)));
        Seed { place, epoch, base: 0 }.with_epoch(epoch)
    }

    pub(crate) fn with_epoch(self, epoch: u32) -> Seed {
        Seed { epoch, base: self.place ^ (u64::from(epoch) << 32), ..self }
    }

    pub(crate) fn epoch(self) -> u32 {
        self.epoch
    }

    fn at(self, offset: u64) -> u32 {
        if planted(Bug::StaleRecordAccepted) {
            return 0;
        }
        (mix(self.base.wrapping_add(offset.wrapping_mul(0x9e37_79b9_7f4a_7c15))) >> 32) as u32
    }
}

/// A frame's own header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) check: u32,
    pub(crate) epoch: u32,
    pub(crate) len: u32,
    pub(crate) kind: u8,
}

impl FrameHeader {
    /// Reads the first 16 bytes; `None` when they cannot begin a frame.
    #[inline]
    pub(crate) fn decode(bytes: &[u8]) -> Option<FrameHeader> {
        FrameHeader::decode_unbound(bytes).filter(|header| header.epoch != 0)
    }

    /// The same for a frame that has no epoch yet.
    #[inline]
    pub(crate) fn decode_unbound(bytes: &[u8]) -> Option<FrameHeader> {
        if bytes.len() < FRAME_BYTES || bytes[13..16] != TAG {
            return None;
        }
        let header = FrameHeader {
            check: u32_at(bytes, 0),
            epoch: u32_at(bytes, 4),
            len: u32_at(bytes, 8),
            kind: bytes[12],
        };
        let fixed = header.kind >= KIND_CONTINUE;
        let sane = if fixed {
            header.len as usize == PART_BYTES - FRAME_BYTES
        } else {
            u64::from(header.len) <= RECORD_BYTES_MAX
        };
        sane.then_some(header)
    }

    /// The whole length of the frame.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        frame_bytes(self.len as usize)
    }

    /// The checksum bound to no place, as the mix of a part wants it.
    pub(crate) fn bare(&self, seed: Seed, offset: u64) -> u32 {
        self.check ^ seed.with_epoch(self.epoch).at(offset)
    }
}

/// Fills in the header of the frame that `frame` begins with, its payload and padding in place: the checksum is not yet
/// bound to a place.
pub(crate) fn frame_finish(frame: &mut [u8], kind: u8, len: u32) {
    frame[8..12].copy_from_slice(&len.to_le_bytes());
    frame[12] = kind;
    frame[13..16].copy_from_slice(&TAG);
    let check = crc32fast::hash(covered(frame));
    frame[0..4].copy_from_slice(&check.to_le_bytes());
}

/// Binds a finished frame to its place; gives the bare checksum.
pub(crate) fn frame_bind(frame: &mut [u8], seed: Seed, offset: u64) -> u32 {
    let bare = u32_at(frame, 0);
    frame[0..4].copy_from_slice(&(bare ^ seed.at(offset)).to_le_bytes());
    frame[4..8].copy_from_slice(&seed.epoch.to_le_bytes());
    bare
}

/// True when `frame`, exactly one whole frame, is valid at its place in the epoch it names.
pub(crate) fn frame_valid(frame: &[u8], header: &FrameHeader, seed: Seed, offset: u64) -> bool {
    planted(Bug::ChecksumIgnored) || crc32fast::hash(covered(frame)) == header.bare(seed, offset)
}

/// What a frame's checksum covers: all but itself and the epoch, which goes into the seed.
fn covered(frame: &[u8]) -> &[u8] {
    if planted(Bug::LengthNotCovered) { &frame[12..] } else { &frame[8..] }
}

/// The running check over a part's record frames, kept in its end: a part with a frame of another writing is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartMix(u64);

impl PartMix {
    pub(crate) fn new(part: &Part) -> PartMix {
        PartMix(mix(part.sequence ^ (u64::from(part.index) << 48)))
    }

    pub(crate) fn add(&mut self, bare: u32) {
        self.0 = (self.0.rotate_left(23) ^ u64::from(bare)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The payload of a PART frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// The batch's number, growing by one.
    pub(crate) sequence: u64,
    /// Up to where the log was durable when this was written: the proof recovery goes by.
    pub(crate) durable: u64,
    /// Which part of the batch, from 0.
    pub(crate) index: u32,
    pub(crate) flags: u32,
}

/// The payload of a COMMIT or CONTINUE frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartEnd {
    pub(crate) mix: PartMix,
    /// [`NEXT_NONE`], or the segment that follows this one, which ends here.
    pub(crate) next: u64,
    /// The number of record frames of the part.
    pub(crate) records: u32,
    /// In a sealed segment, the offset of the footer's first record.
    pub(crate) footer: u32,
}

impl Part {
    /// Appends the frame, bound to its place.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, seed: Seed, offset: u64) {
        let start = out.len();
        out.resize(start + FRAME_BYTES, 0);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.durable.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        close_fixed(&mut out[start..], KIND_PART, seed, offset);
    }

    pub(crate) fn decode(payload: &[u8]) -> Part {
        Part {
            sequence: u64_at(payload, 0),
            durable: u64_at(payload, 8),
            index: u32_at(payload, 16),
            flags: u32_at(payload, 20),
        }
    }
}

impl PartEnd {
    /// Appends the frame, bound to its place.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, kind: u8, seed: Seed, offset: u64) {
        let start = out.len();
        out.resize(start + FRAME_BYTES, 0);
        out.extend_from_slice(&self.mix.0.to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.footer.to_le_bytes());
        close_fixed(&mut out[start..], kind, seed, offset);
    }

    pub(crate) fn decode(payload: &[u8]) -> PartEnd {
        PartEnd {
            mix: PartMix(u64_at(payload, 0)),
            next: u64_at(payload, 8),
            records: u32_at(payload, 16),
            footer: u32_at(payload, 20),
        }
    }
}

fn close_fixed(frame: &mut [u8], kind: u8, seed: Seed, offset: u64) {
    frame_finish(frame, kind, (PART_BYTES - FRAME_BYTES) as u32);
    frame_bind(frame, seed, offset);
}
