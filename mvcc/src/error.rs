//! What can go wrong, by operation.
//!
//! A [`Fault`] stops the store's owner: the log or the disk is not what it was. Everything else is an answer, the same
//! on every store with the same history.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::revision::Revision;

/// Why a store must not be used any further. Cheap to clone; once a store has one it answers nothing else.
#[derive(Clone, Debug)]
pub struct Fault(Arc<FaultKind>);

/// What a [`Fault`] is about.
#[derive(Debug)]
#[non_exhaustive]
pub enum FaultKind {
    /// The log refused: a failed write or sync, damage, or no space.
    Log {
        /// What the store was doing.
        doing: &'static str,
        /// The log's own error.
        source: ketch_wal::Error,
    },
    /// A file of the store could not be written or read.
    Io {
        /// What the store was doing.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A version that the index knows is not in the log.
    Missing {
        /// The version.
        revision: Revision,
    },
    /// A record's checksum is right but its content is none of ours.
    Malformed {
        /// What it should have been.
        what: &'static str,
        /// Where it lies.
        position: ketch_wal::Position,
    },
    /// The caller broke a rule of the interface.
    Misuse {
        /// The rule.
        rule: &'static str,
    },
}

impl Fault {
    pub(crate) fn new(kind: FaultKind) -> Fault {
        Fault(Arc::new(kind))
    }

    pub(crate) fn log(doing: &'static str) -> impl FnOnce(ketch_wal::Error) -> Fault {
        move |source| Fault::new(FaultKind::Log { doing, source })
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Fault {
        move |source| Fault::new(FaultKind::Io { doing, path: path.to_owned(), source })
    }

    /// Whether it is the disk's refusal of one file, and this is the file.
    pub(crate) fn is_of_file(&self, file: &Path) -> bool {
        matches!(&*self.0, FaultKind::Io { path, .. } if path == file)
    }

    /// Whether the log refused something and is as it was before.
    pub(crate) fn left_the_log_alone(&self) -> bool {
        use ketch_wal::Error;
        let FaultKind::Log { source, .. } = &*self.0 else { return false };
        matches!(source, Error::Io { .. } | Error::NotReplaceable { .. })
    }

    /// What it is about.
    pub fn kind(&self) -> &FaultKind {
        &self.0
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            FaultKind::Log { doing, source } => write!(f, "{doing}: {source}"),
            FaultKind::Io { doing, path, source } => write!(f, "{doing} {}: {source}", path.display()),
            FaultKind::Missing { revision } => write!(f, "revision {revision} is not in the revision log"),
            FaultKind::Malformed { what, position } => write!(f, "the record at {position} is no {what}"),
            FaultKind::Misuse { rule } => write!(f, "the store was used against its rules: {rule}"),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            FaultKind::Log { source, .. } => Some(source),
            FaultKind::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a read has no answer.
#[derive(Clone, Debug)]
pub enum ReadError {
    /// The revision is compacted away.
    Compacted {
        /// The revision asked for.
        requested: i64,
        /// The compaction point: the oldest revision that can be read.
        compacted: i64,
    },
    /// The revision does not exist yet.
    Future {
        /// The revision asked for.
        requested: i64,
        /// The newest revision.
        current: i64,
    },
    /// The store is broken.
    Fault(Fault),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Compacted { requested, compacted } => {
                write!(f, "revision {requested} has been compacted, the oldest is {compacted}")
            }
            ReadError::Future { requested, current } => {
                write!(f, "revision {requested} is in the future, the newest is {current}")
            }
            ReadError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> ReadError {
        ReadError::Fault(fault)
    }
}

/// Why a change was refused. Except for a fault nothing has changed, and the answer is a function of the store's state and the
/// change alone: the same on every store with the same history.
#[derive(Clone, Debug)]
pub enum WriteError {
    /// A key has at least one byte.
    EmptyKey,
    /// Key and value do not fit into one record of the log.
    RecordTooLarge {
        /// What they would take there, in bytes.
        bytes: u64,
        /// The most a record has.
        limit: u64,
    },
    /// The transaction would write more than one commit should hold.
    TransactionTooLarge {
        /// What it would write at least, in bytes.
        bytes: u64,
        /// [`WriteTxn::BYTES_MAX`](crate::WriteTxn::BYTES_MAX).
        limit: u64,
    },
    /// The store is broken.
    Fault(Fault),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::EmptyKey => f.write_str("the key is empty"),
            WriteError::RecordTooLarge { bytes, limit } => {
                write!(f, "key and value take {bytes} bytes in the log, the most is {limit}")
            }
            WriteError::TransactionTooLarge { bytes, limit } => {
                write!(f, "the transaction would write {bytes} bytes or more, the most is {limit}")
            }
            WriteError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for WriteError {}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> WriteError {
        WriteError::Fault(fault)
    }
}

/// For those who have made sure before that a change is within the limits: a refusal is then a misuse.
impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Fault {
        let rule = match error {
            WriteError::Fault(fault) => return fault,
            WriteError::EmptyKey => "a key is not empty",
            WriteError::RecordTooLarge { .. } => "key and value fit into one record",
            WriteError::TransactionTooLarge { .. } => "a transaction fits into one commit",
        };
        Fault::new(FaultKind::Misuse { rule })
    }
}

/// Why a compaction was refused; nothing changed.
#[derive(Clone, Debug)]
pub enum CompactError {
    /// The store is compacted to this revision or further already.
    Compacted {
        /// The revision asked for.
        requested: i64,
        /// The compaction point.
        compacted: i64,
    },
    /// The revision does not exist yet.
    Future {
        /// The revision asked for.
        requested: i64,
        /// The newest revision.
        current: i64,
    },
    /// The store is broken.
    Fault(Fault),
}

impl fmt::Display for CompactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompactError::Compacted { requested, compacted } => {
                write!(f, "cannot compact to {requested}: already compacted to {compacted}")
            }
            CompactError::Future { requested, current } => {
                write!(f, "cannot compact to {requested}: the newest revision is {current}")
            }
            CompactError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for CompactError {}

/// Why a store could not be opened; nothing on disk was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The log could not be opened: in use, damaged, of another kind or version.
    Log(ketch_wal::OpenError),
    /// A file is damaged or of another kind.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file was written by a newer version.
    Version {
        /// The file.
        path: PathBuf,
        /// The version it carries.
        found: u32,
        /// The newest version this code reads.
        supported: u32,
    },
    /// A snapshot was being taken in here and is not complete.
    Unfinished {
        /// The directory.
        dir: PathBuf,
    },
    /// A file could not be read.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Reading the log back failed.
    Fault(Fault),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Log(error) => error.fmt(f),
            OpenError::Damaged { path, reason } => write!(f, "{} is damaged: {reason}", path.display()),
            OpenError::Version { path, found, supported } => {
                write!(
                    f,
                    "{} has format version {found}, this version knows up to {supported}",
                    path.display()
                )
            }
            OpenError::Unfinished { dir } => {
                write!(f, "{} holds a snapshot that was not taken in completely", dir.display())
            }
            OpenError::Io { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            OpenError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Log(error) => Some(error),
            OpenError::Io { source, .. } => Some(source),
            OpenError::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> OpenError {
        OpenError::Fault(fault)
    }
}
