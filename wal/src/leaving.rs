//! Files that have lost their names, given back to the file system a slice at a time.
//!
//! Room that is freed all at once is handed to the device all at once where the file system discards it (mount option `discard`), and
//! until the device is done with that, a sync of any other file waits: 5 ms for 32 MiB where this was measured, half a millisecond for 2 MiB.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

/// What one slice gives back.
const SLICE_BYTES: u64 = 2 << 20;

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

    /// Takes in a file that has no name any more: what it holds is of no more use to anybody but those who read from it just now.
    pub fn add(&self, file: Arc<dyn DiskFile>) {
        self.files().push(File { file, bytes: None });
    }

    /// Shortens one file by a slice, and waits for the disk; true when there is more to do. One that is [in use](DiskFile::in_use) keeps its
    /// content until it is not. `dir` is the folder that the files were in. What fails is not told: such a file goes with its last handle.
    pub fn step(&self, disk: &dyn Disk, dir: &Path) -> bool {
        let next = {
            let mut files = self.files();
            files.iter().position(|leaving| !leaving.file.in_use()).map(|at| files.swap_remove(at))
        };
        let Some(mut file) = next else { return false };
        // Whatever fails: the file has no name and goes with its last handle.
        let gone = file.shorten(disk, dir).unwrap_or(true);
        let mut files = self.files();
        if !gone {
            files.push(file);
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
