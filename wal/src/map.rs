//! Memory maps for reading, handed out as `Bytes`: the only unsafe code besides the calls in `sys.rs`.
//!
//! A map is made with a capacity that may lie beyond the file's end; only bytes below the file's length are ever handed
//! out, so a growing file needs a new map only when it outgrows the capacity.

use std::fs::File;
use std::io;

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

use crate::sys;
use crate::users::User;

/// A whole file, mapped; slices of it are `Bytes` that keep the map alive. Dropping this leaves it to them.
#[derive(Debug)]
pub(crate) struct Map {
    whole: Bytes,
}

struct Owner {
    map: Mmap,
    _user: User,
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
    /// Maps `capacity` bytes of the file, which may be more than it has, for one more user of it.
    pub(crate) fn new(file: &File, user: User, capacity: usize) -> io::Result<Map> {
        // SAFETY: the map is read-only and shared. Bytes are handed out by `slice` only, for ranges below the file's
        // length at that time, and the log never writes again to a range it has handed out: frames are appended once, a
        // cut tail was never handed out, and a file is recycled only by whoever is its only user in this process. No other process
        // writes to it: the folder is locked by whoever maps, which the crate documents as the condition (a log opened for reading only
        // takes no lock and makes no maps). A file cut short by someone else makes an access a SIGBUS that ends the process; it never
        // yields other bytes.
        let map = unsafe { MmapOptions::new().len(capacity).map(file)? };
        let watched = sys::watch(map.as_ptr() as usize, capacity, user.inode());
        Ok(Map { whole: Bytes::from_owner(Owner { map, _user: user, watched }) })
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
