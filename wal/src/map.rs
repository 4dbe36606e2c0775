//! Memory maps for reading, handed out as `Bytes`: the only unsafe code besides the calls in `sys.rs`.
//!
//! A map is made with a capacity that may lie beyond the file's end; only bytes below the file's length are ever handed
//! out, so a growing file needs a new map only when it outgrows the capacity.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

use crate::sys;

/// Device and inode: what a file is, whatever its name and whoever opened it.
type FileId = (u64, u64);

/// How many maps of each file live in this process, those of logs that were closed long ago included: a reader may hold bytes
/// longer than the log, and the same folder may be opened again meanwhile.
static MAPPED: Mutex<BTreeMap<FileId, usize>> = Mutex::new(BTreeMap::new());

fn mapped() -> MutexGuard<'static, BTreeMap<FileId, usize>> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// True while a map of the file lives, through whatever handle it was made. An inode is not used again while it is mapped.
pub(crate) fn is_mapped(file: &File) -> io::Result<bool> {
    let id = identity(&file.metadata()?);
    Ok(mapped().contains_key(&id))
}

/// A whole file, mapped; slices of it are `Bytes` that keep the map alive. Dropping this leaves it to them.
#[derive(Debug)]
pub(crate) struct Map {
    whole: Bytes,
}

struct Owner {
    map: Mmap,
    file: FileId,
    /// Its place in the table of the signal handler.
    watched: Option<usize>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(slot) = self.watched {
            sys::unwatch(slot);
        }
        let mut mapped = mapped();
        if let Some(count) = mapped.get_mut(&self.file) {
            *count -= 1;
            if *count == 0 {
                mapped.remove(&self.file);
            }
        }
    }
}

impl Map {
    /// Maps `capacity` bytes of the file, which may be more than it has.
    pub(crate) fn new(file: &File, capacity: usize) -> io::Result<Map> {
        let id = identity(&file.metadata()?);
        // SAFETY: the map is read-only and shared. Bytes are handed out by `slice` only, for ranges below the file's
        // length at that time, and the log never writes again to a range it has handed out: frames are appended once, a
        // cut tail was never handed out, and a file is recycled only when `is_mapped` is false for it. No other process writes to
        // it: the folder is locked by whoever maps, which the crate documents as the condition (a log opened for reading only takes
        // no lock and makes no maps). A file cut short by someone else makes an access a SIGBUS that ends the process; it never
        // yields other bytes.
        let map = unsafe { MmapOptions::new().len(capacity).map(file)? };
        let watched = sys::watch(map.as_ptr() as usize, capacity, id.1);
        *mapped().entry(id).or_insert(0) += 1;
        Ok(Map { whole: Bytes::from_owner(Owner { map, file: id, watched }) })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.whole.len()
    }

    /// The bytes at `offset`, which the caller knows to lie within the file. `None` beyond the map.
    pub(crate) fn slice(&self, offset: usize, len: usize) -> Option<Bytes> {
        let end = offset.checked_add(len)?;
        (end <= self.whole.len()).then(|| self.whole.slice(offset..end))
    }
}
