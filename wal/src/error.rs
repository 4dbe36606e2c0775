//! What can go wrong, by operation: each value names the thing and the limit.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::position::{Position, SegmentId};

/// Bytes that were once durable and are not what was written. Nothing was skipped, changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentId,
    /// The offset in its file, in bytes.
    pub offset: u64,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What proves that the place was durable before.
    pub proof: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "segment {} is damaged at offset {}: expected {}, found {} ({})",
            self.segment, self.offset, self.expected, self.found, self.proof
        )
    }
}

/// Why a log cannot be opened. The folder is as it was.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another `Wal` of this one, holds the log.
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// Read-only, and there is no log.
    NotALog {
        /// The folder.
        dir: PathBuf,
    },
    /// A file with a segment's name is not a segment of this log.
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A segment of a format this version does not know.
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version known.
        supported: u32,
    },
    /// Bytes that were durable are not what was written.
    Damage(Damage),
    /// Something follows the last whole batch, nothing in the log proves that it was durable, and
    /// [`Options::cut_torn_tail`](crate::Options::cut_torn_tail) forbids to cut it.
    Torn {
        /// The segment of the cut.
        segment: SegmentId,
        /// The offset of the cut in its file, in bytes.
        offset: u64,
        /// How many bytes behind it look written, in all segments.
        cut_bytes: u64,
    },
    /// The log ends before a place that it is known to have reached ([`Options::must_reach`](crate::Options::must_reach)).
    Short {
        /// Its end; [`Position::START`] when there is no log.
        end: Position,
        /// The place.
        must_reach: Position,
    },
    /// An option out of its range.
    Options {
        /// Which, and its limits.
        reason: String,
    },
    /// The system refused.
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { dir } => write!(f, "the log in {} is in use", dir.display()),
            OpenError::NotALog { dir } => write!(f, "there is no log in {}", dir.display()),
            OpenError::Foreign { path, reason } => {
                write!(f, "{} is not a segment of this log: {reason}", path.display())
            }
            OpenError::Version { path, found, supported } => write!(
                f,
                "{} has format version {found}, this version knows up to {supported}",
                path.display()
            ),
            OpenError::Damage(damage) => damage.fmt(f),
            OpenError::Torn { segment, offset, cut_bytes } => write!(
                f,
                "the log's tail is torn in segment {segment} at offset {offset}: {cut_bytes} bytes from there on would be cut"
            ),
            OpenError::Short { end, must_reach } => {
                write!(f, "the log ends at {end}, before {must_reach}, which it is known to have reached")
            }
            OpenError::Options { reason } => write!(f, "bad option: {reason}"),
            OpenError::Io { operation, path, source } => {
                write!(f, "cannot {operation} {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why an operation on an open log failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// An earlier write or sync failed; nothing is acknowledged any more until the log is opened anew.
    Poisoned {
        /// What failed.
        operation: &'static str,
        /// The system's answer then.
        source: Arc<io::Error>,
    },
    /// The system refused; the log is unchanged and usable.
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// Bytes that were written are not there any more as they were.
    Damage(Damage),
    /// A record over the limit; nothing was appended.
    RecordTooLarge {
        /// Its length.
        bytes: u64,
        /// The greatest length.
        limit: u64,
    },
    /// A batch over the limit; nothing was appended.
    BatchTooLarge {
        /// Its length in the log.
        bytes: u64,
        /// The greatest length.
        limit: u64,
    },
    /// A record kind that belongs to the log itself; nothing was appended.
    BadKind {
        /// The kind.
        kind: u8,
        /// The greatest kind of a user.
        limit: u8,
    },
    /// The position lies before the log's beginning, or its segment was replaced; or, in a log that is open for reading only, its writer has
    /// let go of it since.
    Purged {
        /// The position asked for.
        position: Position,
        /// The first position the log still has.
        first: Position,
    },
    /// The position lies in a range that was truncated.
    Truncated {
        /// The position asked for.
        position: Position,
    },
    /// The position lies at or past the end.
    Ahead {
        /// The position asked for.
        position: Position,
        /// The end of the log.
        end: Position,
    },
    /// No record begins at the position; or one did, and the first bytes of its frame are damaged, which only reading the segment in order
    /// can tell.
    NotARecord {
        /// The position asked for.
        position: Position,
    },
    /// A segment that was built lies at or behind the position; only appended records can be taken back.
    NotTruncatable {
        /// The position asked for.
        position: Position,
    },
    /// The log was opened read-only.
    ReadOnly,
    /// A segment that is not sealed, not durable yet, or not part of the log; or one that was built for another log.
    NotReplaceable {
        /// The segment.
        segment: SegmentId,
        /// Why.
        reason: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Poisoned { operation, source } => {
                write!(f, "the log is poisoned: an earlier {operation} failed: {source}")
            }
            Error::Io { operation, source } => write!(f, "cannot {operation}: {source}"),
            Error::Damage(damage) => damage.fmt(f),
            Error::RecordTooLarge { bytes, limit } => {
                write!(f, "a record of {bytes} bytes is over the limit of {limit}")
            }
            Error::BatchTooLarge { bytes, limit } => {
                write!(f, "a batch of {bytes} bytes is over the limit of {limit}")
            }
            Error::BadKind { kind, limit } => write!(f, "record kind {kind} is over the limit of {limit}"),
            Error::Purged { position, first } => {
                write!(f, "position {position} is gone, the log begins at {first}")
            }
            Error::Truncated { position } => write!(f, "position {position} was truncated"),
            Error::Ahead { position, end } => {
                write!(f, "position {position} lies ahead of the log's end {end}")
            }
            Error::NotARecord { position } => write!(f, "no record begins at position {position}"),
            Error::NotTruncatable { position } => {
                write!(f, "a rewritten segment lies behind position {position}: it cannot be truncated")
            }
            Error::ReadOnly => f.write_str("the log is open for reading only"),
            Error::NotReplaceable { segment, reason } => {
                write!(f, "segment {segment} cannot be replaced: {reason}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Poisoned { source, .. } | Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Error {
    pub(crate) fn io(operation: &'static str, source: io::Error) -> Error {
        Error::Io { operation, source: Arc::new(source) }
    }

    /// True when the disk was full and nothing else was wrong: the log is usable once there is room.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Error::Io { source, .. } if is_no_space(source))
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl OpenError {
    /// True when the disk was full and nothing else was wrong: the log can be opened once there is room, and for reading at any time.
    pub fn is_no_space(&self) -> bool {
        matches!(self, OpenError::Io { source, .. } if is_no_space(source))
    }

    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> OpenError {
        OpenError::Io { operation, path: path.into(), source: Arc::new(source) }
    }
}
