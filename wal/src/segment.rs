//! One segment: its file, its name, what is known of its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::disk::{Access, DiskFile};
use crate::format::{HEADER_BYTES, Seed};
use crate::header::SegmentHeader;
use crate::position::{Position, SegmentId};

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

/// A segment's file with what the log knows of it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) generation: u32,
    pub(crate) built: bool,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    /// Binds frames to this segment, in epoch 1: users of it set theirs.
    pub(crate) seed: Seed,
    end: AtomicU64,
    sealed: AtomicBool,
    footer: AtomicU64,
    written_back: AtomicU64,
}

impl Segment {
    pub(crate) fn new(header: &SegmentHeader, file: Arc<dyn DiskFile>, path: PathBuf) -> Segment {
        Segment {
            id: header.segment,
            generation: header.generation,
            built: header.built,
            file,
            path,
            seed: Seed::new(header.log_id, header.segment, 1),
            end: AtomicU64::new(HEADER_BYTES),
            sealed: AtomicBool::new(false),
            footer: AtomicU64::new(0),
            written_back: AtomicU64::new(HEADER_BYTES),
        }
    }

    /// The offset up to which frames are written.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Nothing is appended any more; `footer` is the offset of its footer's first record, or 0.
    pub(crate) fn seal(&self, footer: u64) {
        self.footer.store(footer, Ordering::Release);
        self.sealed.store(true, Ordering::Release);
    }

    pub(crate) fn position(&self, offset: u64) -> Position {
        Position::new(self.id, offset)
    }

    /// True when its writer, another process, let go of the file: then it gets shorter, or is used again and another segment by now, whose
    /// header is the first to be written.
    pub(crate) fn was_let_go(&self) -> bool {
        if self.file.len().is_ok_and(|len| len < self.end()) {
            return true;
        }
        // One that is just being written may be met by half.
        for _ in 0..100 {
            let Ok(block) = self.file.read(0, HEADER_BYTES as usize, Access::Copy) else { return false };
            if let Ok(header) = SegmentHeader::decode(&block) {
                return Seed::new(header.log_id, header.segment, 1) != self.seed;
            }
            std::thread::yield_now();
        }
        false
    }

    /// The next slice for write-back, of `at_least` to `at_most` bytes (whatever there is once sealed).
    pub(crate) fn take_write_back(&self, at_least: u64, at_most: u64) -> Option<(u64, u64)> {
        let (from, end) = (self.written_back.load(Ordering::Relaxed), self.end());
        let len = end.saturating_sub(from).min(at_most);
        if len == 0 || (len < at_least && !self.is_sealed()) {
            return None;
        }
        self.written_back.store(from + len, Ordering::Relaxed);
        Some((from, len))
    }

    pub(crate) fn info(&self) -> SegmentInfo {
        let footer = self.footer.load(Ordering::Acquire);
        let end = self.end();
        SegmentInfo {
            id: SegmentId(self.id),
            first: self.position(HEADER_BYTES),
            footer: if footer == 0 { Position::START } else { self.position(footer) },
            end: self.position(end),
            bytes: end,
            generation: self.generation,
            sealed: self.is_sealed(),
        }
    }
}

/// The file of a segment.
pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016x}.wal"))
}

/// A file that is not, or not yet, a segment; opening a log may remove or use it.
pub(crate) fn temporary_path(dir: &Path, name: &str, id: u64) -> PathBuf {
    dir.join(format!("{name}-{id:016x}.tmp"))
}

/// What a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(u64),
    /// Left over from a preparation.
    Temporary,
    /// Ends like a segment, but the log never gives such a name.
    Odd,
    Foreign,
}

pub(crate) fn parse_name(name: &str) -> Name {
    let stem = |prefix: &str, suffix: &str| {
        let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        let lower = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if digits.len() == 16 && lower { u64::from_str_radix(digits, 16).ok() } else { None }
    };
    if let Some(id) = stem("", ".wal") {
        return if (1..u64::from(u32::MAX)).contains(&id) { Name::Segment(id) } else { Name::Odd };
    }
    if stem("new-", ".tmp").is_some() || stem("old-", ".tmp").is_some() {
        return Name::Temporary;
    }
    if name.ends_with(".wal") { Name::Odd } else { Name::Foreign }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonical() {
        assert_eq!(parse_name("000000000000000a.wal"), Name::Segment(10));
        assert_eq!(parse_name("000000000000000A.wal"), Name::Odd);
        assert_eq!(parse_name("a.wal"), Name::Odd);
        assert_eq!(parse_name("0000000000000000.wal"), Name::Odd);
        assert_eq!(parse_name("00000000ffffffff.wal"), Name::Odd);
        assert_eq!(parse_name("new-000000000000000a.tmp"), Name::Temporary);
        assert_eq!(parse_name("mine.tmp"), Name::Foreign);
        assert_eq!(parse_name("LOCK"), Name::Foreign);
    }
}
