//! Files in their second life: purged segments wait here to become spares, of their own log or of another one of the
//! process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many files a pool keeps unless told otherwise.
const FILES_MAX: usize = 4;

/// Files that several logs of a process on one disk share as future segments. A log without one has its own.
#[derive(Debug)]
pub struct Pool {
    files: Mutex<Files>,
    files_max: usize,
}

#[derive(Debug, Default)]
struct Files {
    waiting: Vec<Raw>,
    /// Those that could not be moved to where they were wanted: whose folder they are in removes them.
    rejected: Vec<PathBuf>,
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
        self.files().waiting.len()
    }

    /// True when no file waits.
    pub fn is_empty(&self) -> bool {
        self.files().waiting.is_empty()
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the file in; false when there is no room for it.
    pub(crate) fn give(&self, raw: Raw) -> bool {
        let waiting = &mut self.files().waiting;
        let room = waiting.len() < self.files_max && !waiting.contains(&raw);
        if room {
            waiting.push(raw);
        }
        room
    }

    /// Takes a file of that length out; `rename` gives it a name that is the taker's. That happens under the lock: a log that closes, and then
    /// perhaps opens again and uses the number once more, is not robbed of its new segment.
    pub(crate) fn take(
        &self,
        bytes: u64,
        rename: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Option<io::Result<Raw>> {
        let mut files = self.files();
        let at = files.waiting.iter().position(|raw| raw.bytes == bytes)?;
        let raw = files.waiting.swap_remove(at);
        let outcome = rename(&raw.path);
        if outcome.is_err() {
            files.rejected.push(raw.path.clone());
        }
        Some(outcome.map(|()| raw))
    }

    /// The files of a folder that nobody could use.
    pub(crate) fn rejected(&self, dir: &Path) -> Vec<PathBuf> {
        self.files().rejected.extract_if(.., |path| path.parent() == Some(dir)).collect()
    }

    /// A log closes: its folder may change without this pool's knowing.
    pub(crate) fn forget(&self, dir: &Path) {
        let mut files = self.files();
        files.waiting.retain(|raw| raw.path.parent() != Some(dir));
        files.rejected.retain(|path| path.parent() != Some(dir));
    }
}
