//! Why a member cannot start.

use std::fmt;

use ketch_raft::Fault;
use ketch_wal::Position;

use crate::consensus::shell::REMOVED;
use crate::datadir::DataDirError;
use crate::staging::RollForwardError;

/// Why a member cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The data directory.
    DataDir(DataDirError),
    /// The flags that a new cluster needs.
    Founding(String),
    /// The raft log does not open.
    Log(ketch_wal::OpenError),
    /// The raft log failed.
    LogWrite(ketch_wal::Error),
    /// A record of the raft log is not readable.
    Record {
        /// Where it is.
        position: Position,
        /// What is wrong with it.
        why: String,
    },
    /// The store does not open.
    Store(ketch_mvcc::OpenError),
    /// What the store's tables hold does not decode.
    Tables(String),
    /// The raft log ends before what the store has applied, or begins after it: entries that were
    /// acknowledged are missing.
    Missing {
        /// What the store has applied.
        applied: u64,
        /// The first entry of the log, 0 if it has none.
        first: u64,
        /// The last entry of the log.
        last: u64,
    },
    /// The log and the store tell different histories.
    Diverged {
        /// What the store has applied.
        applied: u64,
        /// The term of that entry as the store knows it.
        store: u64,
        /// The term of that entry in the log.
        log: u64,
    },
    /// The log begins after a snapshot that is not there.
    Snapshot(RollForwardError),
    /// Raft refuses its state.
    Raft(Fault),
    /// This member was removed from its cluster: it is none that a cluster could be made of.
    Removed,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::Founding(why) => f.write_str(why),
            Self::Log(error) => write!(f, "the raft log does not open: {error}"),
            Self::LogWrite(error) => write!(f, "the raft log failed: {error}"),
            Self::Record { position, why } => write!(f, "the raft log is not readable at {position}: {why}"),
            Self::Store(error) => write!(f, "the store does not open: {error}"),
            Self::Tables(why) => write!(f, "the store is not readable: {why}"),
            Self::Missing { applied, first, last } => write!(
                f,
                "the raft log (entries {first} to {last}) does not reach what the store has applied ({applied}): \
                 entries that were acknowledged are missing, the member must not serve"
            ),
            Self::Diverged { applied, store, log } => write!(
                f,
                "the raft log and the store are not of one history: the store applied entry {applied} of term \
                 {store}, the log has it in term {log}"
            ),
            Self::Snapshot(error) => write!(
                f,
                "the raft log begins after a snapshot that is not there ({error}): the member must not serve"
            ),
            Self::Raft(fault) => write!(f, "raft refuses to start: {fault}"),
            Self::Removed => f.write_str(REMOVED),
        }
    }
}

impl std::error::Error for StartError {}

impl From<DataDirError> for StartError {
    fn from(error: DataDirError) -> Self {
        Self::DataDir(error)
    }
}
