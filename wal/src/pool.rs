//! Files in their second life: purged segments wait here to become spares, of their own log or of another one of the
//! process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many files a pool keeps unless told otherwise.
const FILES_MAX: usize = 4;

/// Files that several logs of a process on one disk share as future segments. A log without one has its own.
#[derive(Debug)]
pub struct Pool {
    files: Mutex<Vec<Raw>>,
    files_max: usize,
}

/// A file that nobody reads any more, filled to its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool::new(FILES_MAX)
    }
}

impl Pool {
    /// A pool of at most `files_max` files; what does not fit is removed.
    pub fn new(files_max: usize) -> Pool {
        Pool { files: Mutex::default(), files_max }
    }

    /// How many files wait.
    pub fn len(&self) -> usize {
        self.files().len()
    }

    /// True when no file waits.
    pub fn is_empty(&self) -> bool {
        self.files().is_empty()
    }

    fn files(&self) -> MutexGuard<'_, Vec<Raw>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the file in; false when there is no room for it.
    pub(crate) fn give(&self, raw: Raw) -> bool {
        let mut files = self.files();
        let room = files.len() < self.files_max && !files.contains(&raw);
        if room {
            files.push(raw);
        }
        room
    }

    pub(crate) fn take(&self, bytes: u64) -> Option<Raw> {
        let mut files = self.files();
        let at = files.iter().position(|raw| raw.bytes == bytes)?;
        Some(files.swap_remove(at))
    }

    /// A log closes: its folder may change without this pool's knowing.
    pub(crate) fn forget(&self, dir: &Path) {
        self.files().retain(|raw| raw.path.parent() != Some(dir));
    }
}
