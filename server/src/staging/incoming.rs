//! A snapshot on its way in, chunk by chunk.

use std::path::PathBuf;
use std::sync::Arc;

use ketch_mvcc::{Cursor, Held, Import, ImportError, Options};
use ketch_raft::SnapshotMeta;
use ketch_wal::Disk;

use super::StageError;
use crate::datadir;

/// A snapshot on its way in.
#[derive(Debug)]
pub struct Incoming {
    pub(super) meta: SnapshotMeta,
    /// Absent only while it begins anew.
    pub(super) import: Option<Import>,
    pub(super) place: Place,
    pub(super) _turn: Arc<()>,
}

/// Where a snapshot is taken in, and how its store is opened.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) options: Options,
}

impl Place {
    /// Begins with nothing.
    pub(super) fn begin(&self) -> Result<Import, ImportError> {
        datadir::empty_folder(&*self.disk, &self.folder);
        Import::begin(Arc::clone(&self.disk), &self.folder, self.options.clone())
    }
}

impl Incoming {
    /// What it is going to be.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// What is here, of whatever state: the sender goes on from there if it can, and begins anew otherwise.
    #[must_use]
    pub fn held(&self) -> Held {
        self.import.as_ref().map_or(Held::NOTHING, Import::held)
    }

    /// Whether all of it is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.held().cursor().is_done()
    }

    /// How many times a sender of another state has gone on.
    #[must_use]
    pub fn times_gone_on(&self) -> u64 {
        self.import.as_ref().map_or(0, Import::times_gone_on)
    }

    /// Takes one chunk: the next one, the first one of a sender that goes on with another state, or the first one of all.
    ///
    /// # Errors
    /// A chunk that is damaged or does not follow, or the disk.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        if let Some(import) = &mut self.import {
            match import.chunk(bytes) {
                // The sender begins anew: what is here is no beginning of its state.
                Err(ImportError::OutOfPlace { expected, found })
                    if found == Cursor::START && expected != Cursor::START =>
                {
                    self.import = None;
                }
                done => return Ok(done?),
            }
        }
        let import = self.import.insert(self.place.begin()?);
        Ok(import.chunk(bytes)?)
    }
}
