//! Where a record lies: segment and offset in one ordered word.

use std::fmt;

/// The number of a segment. Numbers grow and are never used twice within one life of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The place of a record: the segment's number in the upper 32 bits, the byte offset in its file in the lower 32.
///
/// Positions of appended records grow in the order of the appends. Records in segments that came in by
/// [`replace`](crate::Wal::replace) have the number of their new segment, so a position taken before the
/// replacement never names another record: it is answered with [`Error::Purged`](crate::Error::Purged).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

impl Position {
    /// Before every record of every log.
    pub const START: Position = Position(0);

    pub(crate) const fn new(segment: u64, offset: u64) -> Position {
        Position((segment << 32) | (offset & 0xffff_ffff))
    }

    /// The position as one number, for storing it elsewhere.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The position that [`as_u64`](Position::as_u64) gave.
    pub const fn from_u64(value: u64) -> Position {
        Position(value)
    }

    /// The segment the record lies in.
    pub const fn segment(self) -> SegmentId {
        SegmentId(self.0 >> 32)
    }

    /// The offset in that segment's file, in bytes.
    pub const fn offset(self) -> u64 {
        self.0 & 0xffff_ffff
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 32, self.offset())
    }
}
