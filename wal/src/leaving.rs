//! Files that have lost their names, given back to the file system a slice at a time.
//!
//! Room that is freed all at once is handed to the device all at once where the file system discards it (mount option `discard`), and
//! until the device is done with that, a sync of any other file waits: 5 ms for 32 MiB where this was measured, half a millisecond for 2 MiB.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

/// What one slice gives back.
const SLICE_BYTES: u64 = 2 << 20;

/// So many files wait at most: where nobody calls [`Leaving::step`], or not often enough, their room must not be held for ever.
const FILES_MAX: usize = 8;

/// Files on their way out. Those that are left when this is dropped go at once.
///
/// A log has its own; this is for files beside one.
///
/// ```
/// # use std::path::Path;
/// # use ketch_wal::{Disk, Leaving, RealDisk};
/// # fn main() -> std::io::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// let (disk, path) = (RealDisk, folder.path().join("large"));
/// let file = disk.create(&path)?;
/// file.write_at(0, &vec![1; 5 << 20])?;
/// disk.remove(&path)?;
///
/// let leaving = Leaving::default();
/// leaving.add(file);
/// while leaving.step(&disk, folder.path()) {}
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Leaving {
    files: Mutex<Vec<File>>,
}

#[derive(Debug)]
struct File {
    file: Arc<dyn DiskFile>,
    /// Unknown until the first slice; then the name is durably gone, too.
    bytes: Option<u64>,
}

impl Leaving {
    fn files(&self) -> MutexGuard<'_, Vec<File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a file that has no name any more: what it holds is of no more use to anybody but those who read from it just now. Of more
    /// than eight the one that has waited longest goes at once.
    pub fn add(&self, file: Arc<dyn DiskFile>) {
        let mut files = self.files();
        let too_many = (files.len() >= FILES_MAX).then(|| files.remove(0));
        files.push(File { file, bytes: None });
        drop(files);
        drop(too_many);
    }

    /// True when no file waits.
    pub fn is_empty(&self) -> bool {
        self.files().is_empty()
    }

    /// Lets all of them go at once: room is wanted now.
    pub fn let_go(&self) {
        let files = std::mem::take(&mut *self.files());
        drop(files);
    }

    /// Shortens one file by a slice, and waits for the disk; true when there is more to do. One that is [in use](DiskFile::in_use) keeps its
    /// content until it is not, and one that has another name by a hard link for good. `dir` is the folder that the files were in. What fails is not told: such a file goes with its last handle.
    pub fn step(&self, disk: &dyn Disk, dir: &Path) -> bool {
        let next = {
            let mut files = self.files();
            files.iter().position(|leaving| !leaving.file.in_use()).map(|at| files.remove(at))
        };
        let Some(mut file) = next else { return false };
        // Whatever fails: the file has no name and goes with its last handle.
        let gone = file.shorten(disk, dir).unwrap_or(true);
        let mut files = self.files();
        if !gone {
            // It is still the one that has waited longest.
            files.insert(0, file);
        }
        !files.is_empty()
    }
}

impl File {
    /// True when nothing is left of it.
    fn shorten(&mut self, disk: &dyn Disk, dir: &Path) -> std::io::Result<bool> {
        let bytes = match self.bytes {
            Some(bytes) => bytes,
            None => {
                // After a crash the name may be there again; then it must be that of the whole file.
                disk.sync_dir(dir)?;
                if self.file.has_name()? {
                    // A hard link: the content is somebody's copy.
                    return Ok(true);
                }
                self.file.len()?
            }
        };
        let left = bytes.saturating_sub(SLICE_BYTES);
        self.file.set_len(left)?;
        // The file system's journal would else gather the slices and free them together.
        self.file.sync()?;
        self.bytes = Some(left);
        Ok(left == 0)
    }
}
