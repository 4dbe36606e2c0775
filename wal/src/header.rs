//! The first block of a segment: encode and decode. Pure.

use crate::format::{FORMAT_VERSION, HEADER_BYTES, METADATA_BYTES_MAX, u32_at, u64_at};
use crate::planted::{Bug, planted};

const MAGIC: [u8; 8] = *b"KETCHWAL";

/// The first block of a segment's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: u64,
    pub(crate) segment: u64,
    /// 0 for a segment of appends; one more than the greatest it replaced for a built one.
    pub(crate) generation: u32,
    /// Built apart from the log's end.
    pub(crate) built: bool,
    /// The file had another life: what lies beyond the end is not zero.
    pub(crate) recycled: bool,
    /// The file was filled ahead: its length says nothing about its end.
    pub(crate) filled: bool,
    pub(crate) metadata: bytes::Bytes,
}

/// Why a first block is not a segment header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Short,
    Magic,
    Check,
    Version(u32),
}

/// ```text
/// 0 "KETCHWAL" | 8 version u32 | 12 check u32 over the block without it | 16 log u64 | 24 segment u64
/// 32 generation u32 | 36 flags u32 | 40 metadata length u32 | 44 zero | 48 metadata | zeroes to 4096
/// ```
impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; HEADER_BYTES as usize];
        block[0..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.log_id.to_le_bytes());
        block[24..32].copy_from_slice(&self.segment.to_le_bytes());
        block[32..36].copy_from_slice(&self.generation.to_le_bytes());
        let flags = u32::from(self.built) | (u32::from(self.recycled) << 1) | (u32::from(self.filled) << 2);
        block[36..40].copy_from_slice(&flags.to_le_bytes());
        block[40..44].copy_from_slice(&(self.metadata.len() as u32).to_le_bytes());
        block[48..48 + self.metadata.len()].copy_from_slice(&self.metadata);
        let check = header_check(&block);
        block[12..16].copy_from_slice(&check.to_le_bytes());
        block
    }

    pub(crate) fn decode(block: &[u8]) -> Result<SegmentHeader, HeaderError> {
        if block.len() < HEADER_BYTES as usize {
            return Err(HeaderError::Short);
        }
        let block = &block[..HEADER_BYTES as usize];
        if block[0..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if u32_at(block, 12) != header_check(block) && !planted(Bug::ChecksumIgnored) {
            return Err(HeaderError::Check);
        }
        let version = u32_at(block, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        let len = u32_at(block, 40) as usize;
        if len > METADATA_BYTES_MAX {
            return Err(HeaderError::Check);
        }
        let flags = u32_at(block, 36);
        Ok(SegmentHeader {
            log_id: u64_at(block, 16),
            segment: u64_at(block, 24),
            generation: u32_at(block, 32),
            built: flags & 1 != 0,
            recycled: flags & 2 != 0,
            filled: flags & 4 != 0,
            metadata: bytes::Bytes::copy_from_slice(&block[48..48 + len]),
        })
    }
}

fn header_check(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..]);
    hasher.finalize()
}
