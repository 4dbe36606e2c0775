//! Memory maps for reading, handed out as `Bytes`: the only unsafe code besides the calls in `sys.rs`.
//!
//! A map is made with a capacity that may lie beyond the file's end; only bytes below the file's length are ever handed
//! out, so a growing file needs a new map only when it outgrows the capacity.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

use crate::sys;

/// A whole file, mapped; slices of it are `Bytes` that keep the map alive.
#[derive(Debug)]
pub(crate) struct Map {
    whole: Bytes,
}

struct Owner {
    map: Mmap,
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
    }
}

impl Map {
    /// Maps `capacity` bytes of the file, which may be more than it has.
    pub(crate) fn new(file: &File, capacity: usize) -> io::Result<Map> {
        // SAFETY: the map is read-only and shared. Bytes are handed out by `slice` only, for ranges below the file's
        // length at that time, and the log never writes again to a range it has handed out: frames are appended once, a
        // cut tail was never handed out, and a file is recycled only when `in_use` is false. Nobody else writes to it: the
        // folder is locked, which the crate documents as the condition. A file cut short by someone else makes an
        // access a SIGBUS that ends the process; it never yields other bytes.
        let map = unsafe { MmapOptions::new().len(capacity).map(file)? };
        let inode = file.metadata()?.ino();
        let watched = sys::watch(map.as_ptr() as usize, capacity, inode);
        Ok(Map { whole: Bytes::from_owner(Owner { map, watched }) })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.whole.len()
    }

    /// The bytes at `offset`, which the caller knows to lie within the file. `None` beyond the map.
    pub(crate) fn slice(&self, offset: usize, len: usize) -> Option<Bytes> {
        let end = offset.checked_add(len)?;
        (end <= self.whole.len()).then(|| self.whole.slice(offset..end))
    }

    /// True while slices are alive.
    pub(crate) fn in_use(&self) -> bool {
        !self.whole.is_unique()
    }
}
