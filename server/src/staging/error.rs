//! Why a snapshot is not taken in, or not there after a crash.

use std::fmt;

use ketch_mvcc::{ImportError, OpenError};

use crate::datadir::DataDirError;

/// Why a snapshot is not taken in. The member goes on as before.
#[derive(Debug)]
pub enum StageError {
    /// The chunks do not make a store, or the disk refuses it.
    Import(ImportError),
    /// Another snapshot is being taken in or waits to be installed.
    Busy,
    /// The content ends with another entry than announced.
    Mismatch {
        /// The entry announced.
        announced: u64,
        /// The entry that the content ends with.
        found: u64,
    },
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Import(error) => write!(f, "the snapshot cannot be taken in: {error}"),
            Self::Busy => f.write_str("another snapshot is being taken in"),
            Self::Mismatch { announced, found } => {
                write!(f, "a snapshot at entry {announced} was announced, its content ends with {found}")
            }
        }
    }
}

impl std::error::Error for StageError {}

impl From<ImportError> for StageError {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

/// Why a snapshot that raft has recorded is not there after a crash. The member must not serve.
#[derive(Debug)]
pub enum RollForwardError {
    /// The staged store does not open.
    Open(OpenError),
    /// Something else is staged.
    Other {
        /// The entry that the recorded snapshot ends with.
        recorded: u64,
        /// The entry that the staged store ends with.
        found: u64,
    },
    /// `DIR/current` cannot be written.
    Switch(DataDirError),
}

impl fmt::Display for RollForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => write!(f, "the staged store does not open: {error}"),
            Self::Other { recorded, found } => {
                write!(f, "the log begins after entry {recorded}, the staged store ends with entry {found}")
            }
            Self::Switch(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RollForwardError {}
