//! `ketch snapshot restore`: a new member's data directory out of a snapshot file.
//!
//! The member begins like one that was just founded, with a log that holds nothing but the first configuration, only that
//! its store is not empty. The directory becomes a member's with the very last write, so a crash leaves one that
//! refuses to be used.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ketch_mvcc::{Applied, Import, ImportError};
use ketch_wal::{Disk, Wal};

use super::check::{FileError, SnapshotFile};
use crate::apply::cluster::Cluster;
use crate::bootstrap::{self, Founding, StartError};
use crate::datadir::{DataDir, DataDirError};

/// What to restore, and as what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The snapshot file.
    pub snapshot: PathBuf,
    /// The new data directory: absent or empty.
    pub data_dir: PathBuf,
    /// Where the raft log is to be, if not there: absent.
    pub wal_dir: Option<PathBuf>,
    /// The new cluster, and which of its members this directory is for.
    pub founding: Founding,
    /// Do not compare the checksum at the file's end. Those inside are compared all the same.
    pub skip_hash_check: bool,
    /// By how much revisions are raised; if not 0, everything is compacted up to there, so that clients with revisions of
    /// the lost cluster start over instead of missing events.
    pub bump: u64,
    /// Size of the raft log's segments in bytes.
    pub log_segment_bytes: u64,
    /// Options of the revision store.
    pub store: ketch_mvcc::Options,
}

/// Why nothing was restored. What was written by then refuses to be used.
#[derive(Debug)]
pub enum RestoreError {
    /// The snapshot file.
    File(FileError),
    /// The data directory.
    DataDir(DataDirError),
    /// The new store.
    Store(ImportError),
    /// The new raft log.
    Log(String),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::DataDir(error) => error.fmt(f),
            Self::Store(error) => write!(f, "cannot make the store: {error}"),
            Self::Log(why) => write!(f, "cannot make the raft log: {why}"),
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<FileError> for RestoreError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<DataDirError> for RestoreError {
    fn from(error: DataDirError) -> Self {
        Self::DataDir(error)
    }
}

impl From<ImportError> for RestoreError {
    fn from(error: ImportError) -> Self {
        Self::Store(error)
    }
}

impl From<StartError> for RestoreError {
    fn from(error: StartError) -> Self {
        Self::Log(error.to_string())
    }
}

/// Carries `plan` out.
///
/// # Errors
/// See [`RestoreError`]. Nothing is written before the file was verified.
pub fn restore(disk: &Arc<dyn Disk>, plan: &Plan) -> Result<(), RestoreError> {
    verify(&**disk, plan)?;
    let mut dir = DataDir::prepare(&**disk, &plan.data_dir)?;
    if let Some(log) = &plan.wal_dir {
        dir = dir.with_log_in(&**disk, log)?;
    }
    store(disk, &dir, plan)?;
    log(disk, &dir, plan)?;
    dir.set_identity(&**disk, plan.founding.identity)?;
    dir.finish(&**disk)?;
    Ok(())
}

fn verify(disk: &dyn Disk, plan: &Plan) -> Result<(), RestoreError> {
    let mut file = SnapshotFile::open(disk, &plan.snapshot)?;
    if !plan.skip_hash_check {
        file.check_sum()?;
    }
    while file.next_chunk()?.is_some() {}
    Ok(())
}

fn store(disk: &Arc<dyn Disk>, dir: &DataDir, plan: &Plan) -> Result<(), RestoreError> {
    let mut file = SnapshotFile::open(&**disk, &plan.snapshot)?;
    let mut import = Import::begin(Arc::clone(disk), &dir.store(), plan.store.clone())?;
    while let Some(chunk) = file.next_chunk()? {
        import.chunk(&chunk)?;
    }
    Cluster::forget_members(&mut import);
    // Entry 1 of the new cluster's log is the first that is applied to it.
    drop(import.finish_as(Applied::default(), plan.bump)?);
    Ok(())
}

fn log(disk: &Arc<dyn Disk>, dir: &DataDir, plan: &Plan) -> Result<(), RestoreError> {
    let options =
        ketch_wal::Options { segment_bytes: plan.log_segment_bytes, ..ketch_wal::Options::default() };
    let opened = Wal::open(Arc::clone(disk), &dir.log(), options).map_err(StartError::Log)?;
    bootstrap::found(&opened.wal, &plan.founding)?;
    opened.wal.close().map_err(|error| RestoreError::Log(error.to_string()))
}

#[cfg(test)]
mod tests;
