//! Frames of one file, one after another, by read calls: for recovery, iteration and tools.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Access, DiskFile};
use crate::format::{
    FRAME_BYTES, FrameHeader, KIND_CONTINUE, KIND_PART, PART_BYTES, Part, Seed, frame_valid,
};

/// Files are read in pieces of this size: they fit the processor's cache.
const CHUNK_BYTES: u64 = 128 << 10;

/// One valid frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) offset: u64,
    pub(crate) header: FrameHeader,
    whole: Bytes,
}

impl Frame {
    pub(crate) fn payload(&self) -> Bytes {
        self.whole.slice(FRAME_BYTES..FRAME_BYTES + self.header.len as usize)
    }

    pub(crate) fn next(&self) -> u64 {
        self.offset + self.header.bytes()
    }
}

/// What is at an offset.
#[derive(Debug)]
pub(crate) enum Found {
    Frame(Frame),
    /// No valid frame; in words, for the report.
    Bad(&'static str),
}

/// What is found where nothing was written.
pub(crate) const ZEROES: &str = "zeroes";
/// What is found where bytes cannot begin a frame.
pub(crate) const NO_FRAME: &str = "no frame";

/// Reads one file forward.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn DiskFile>,
    len: u64,
    access: Access,
    chunk: Bytes,
    chunk_at: u64,
    pub(crate) bytes_read: u64,
}

impl Scanner {
    /// Reads no further than `len`, which the file has.
    pub(crate) fn new(file: Arc<dyn DiskFile>, len: u64, access: Access) -> Scanner {
        Scanner { file, len, access, chunk: Bytes::new(), chunk_at: 0, bytes_read: 0 }
    }

    /// `len` bytes at `offset`; `None` when the file ends before them.
    pub(crate) fn bytes(&mut self, offset: u64, len: u64) -> io::Result<Option<Bytes>> {
        let Some(end) = offset.checked_add(len).filter(|end| *end <= self.len) else { return Ok(None) };
        if offset < self.chunk_at || end > self.chunk_at + self.chunk.len() as u64 {
            let want = len.max(CHUNK_BYTES.min(self.len - offset));
            let want = usize::try_from(want).map_err(|_| io::ErrorKind::InvalidInput)?;
            self.chunk = self.file.read(offset, want, self.access)?;
            self.chunk_at = offset;
            self.bytes_read += want as u64;
        }
        let at = (offset - self.chunk_at) as usize;
        Ok(Some(self.chunk.slice(at..at + len as usize)))
    }

    /// The frame at `offset`, in whatever epoch it names.
    pub(crate) fn frame(&mut self, seed: Seed, offset: u64) -> io::Result<Found> {
        let Some(bytes) = self.bytes(offset, FRAME_BYTES as u64)? else {
            return Ok(Found::Bad("the end of the file"));
        };
        let Some(header) = FrameHeader::decode(&bytes) else {
            let zero = bytes.iter().all(|byte| *byte == 0);
            return Ok(Found::Bad(if zero { ZEROES } else { NO_FRAME }));
        };
        let Some(whole) = self.bytes(offset, header.bytes())? else {
            return Ok(Found::Bad("a frame that reaches beyond the file"));
        };
        if !frame_valid(&whole, &header, seed, offset) {
            return Ok(Found::Bad("a frame whose checksum does not match its place"));
        }
        Ok(Found::Frame(Frame { offset, header, whole }))
    }

    /// What lies at and behind `from`: proofs and remains that a walk along the frames cannot reach. Only frames of fixed
    /// length are looked for, so this takes time linear in the file whatever its content.
    pub(crate) fn remains(&mut self, seed: Seed, from: u64, epoch: u32) -> io::Result<Remains> {
        let mut remains = Remains::default();
        let mut at = from.next_multiple_of(8);
        while at < self.len {
            let piece = CHUNK_BYTES.min(self.len - at);
            let Some(bytes) = self.bytes(at, piece)? else { break };
            for (i, word) in bytes.chunks_exact(8).enumerate() {
                let mut raw = [0; 8];
                raw.copy_from_slice(word);
                let value = u64::from_le_bytes(raw);
                if value != 0 {
                    remains.last_written = at + 8 * i as u64 + 8;
                }
                // The second word of a frame holds its length, kind and tag.
                let offset = (at + 8 * i as u64).saturating_sub(8);
                if looks_fixed(value) && offset >= from {
                    self.consider(seed, offset, epoch, &mut remains)?;
                }
            }
            if bytes.len() % 8 != 0 {
                remains.last_written = self.len;
            }
            at += piece;
        }
        Ok(remains)
    }

    fn consider(&mut self, seed: Seed, offset: u64, epoch: u32, remains: &mut Remains) -> io::Result<()> {
        // Read past the chunk, so that the caller's loop keeps it.
        if offset + PART_BYTES as u64 > self.len {
            return Ok(());
        }
        let bytes = self.file.read(offset, PART_BYTES, self.access)?;
        let Some(header) = FrameHeader::decode(&bytes).filter(|header| header.kind >= KIND_CONTINUE) else {
            return Ok(());
        };
        if header.epoch < epoch || !frame_valid(&bytes, &header, seed, offset) {
            return Ok(());
        }
        remains.last_frame = offset + PART_BYTES as u64;
        if header.kind == KIND_PART {
            let durable = Part::decode(&bytes[FRAME_BYTES..]).durable;
            if remains.durable.is_none_or(|(known, _)| durable > known) {
                remains.durable = Some((durable, offset));
            }
        }
        Ok(())
    }
}

/// True for a word that may be the second of a PART, COMMIT or CONTINUE frame.
fn looks_fixed(word: u64) -> bool {
    const LEN: u64 = (PART_BYTES - FRAME_BYTES) as u64;
    let tag = (u64::from(b'K') << 40) | (u64::from(b'W') << 48) | (u64::from(b'1') << 56);
    word & 0xffff_ff00_ffff_ffff == tag | LEN && (word >> 32) as u8 >= KIND_CONTINUE
}

/// What [`Scanner::remains`] found.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Remains {
    /// The end of the last valid frame, or 0.
    pub(crate) last_frame: u64,
    /// The end of the last word that is not zero, or 0.
    pub(crate) last_written: u64,
    /// The greatest durable position a valid part names, and the offset of that part.
    pub(crate) durable: Option<(u64, u64)>,
}
