//! The seam to the file system, with the obligations both sides rely on.
//!
//! What an implementation owes:
//!
//! 1. After [`DiskFile::sync`] returned `Ok`, every byte and every length change made through any handle of that
//!    file before the call survives a crash. After it returned an error, nothing is known about any of them, and a later
//!    `Ok` says nothing about the earlier ones.
//! 2. Before it, each aligned 512-byte sector of a write may be old or new after a crash, independently of every other.
//!    A sector is never a mixture, and a sector that was not written does not change.
//! 3. [`Disk::create`], [`Disk::rename`] and [`Disk::remove`] are atomic, and survive a crash once
//!    [`Disk::sync_dir`] of the folder (both folders for a rename across two) returned `Ok`; until then each may be lost.
//! 4. A read sees every earlier write at once, synced or not.
//! 5. `Bytes` from [`DiskFile::read`] stay valid after the file is closed, renamed or removed, and keep their content for
//!    as long as nobody writes to that range of the file. The log never writes twice to a range it has handed out,
//!    and asks [`DiskFile::in_use`] before it uses a file for something else.
//! 6. A failed [`DiskFile::write_at`] may have written any part of its bytes.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// How [`DiskFile::read`] gets at the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// From a memory map: no copy and no system call, for hot data. An I/O error is a signal that ends the process.
    Map,
    /// By a read call into memory of its own: for recovery and cold data. An I/O error is a value.
    Copy,
}

/// Room in a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What an unprivileged process may still use.
    pub free_bytes: u64,
    /// The size of the file system.
    pub total_bytes: u64,
}

/// A file system as the log needs it. See the [module](self) for the obligations.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Creates a folder and its parents; durable when it returns. A folder that exists is no error.
    ///
    /// # Errors
    /// Those of the system.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in a folder (not its folders), sorted.
    ///
    /// # Errors
    /// `NotFound` when there is no such folder; others of the system.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates an empty file, open for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists`; others of the system.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading, and for writing if asked.
    ///
    /// # Errors
    /// `NotFound`; others of the system.
    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, in place of the file that may have it.
    ///
    /// # Errors
    /// Those of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Its bytes live on for those who hold them.
    ///
    /// # Errors
    /// Those of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in a folder durable.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on a file, creating it if needed; released when the guard is dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` when it is held; others of the system.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// The room in the file system that holds a folder.
    ///
    /// # Errors
    /// Those of the system.
    fn space(&self, dir: &Path) -> io::Result<Space>;

    /// A number nobody else is likely to have: the identity of a new log. A simulated disk draws it from its seed.
    fn unique(&self) -> u64;
}

/// An open file. All methods may be called from several threads at once.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// The length in bytes.
    ///
    /// # Errors
    /// Those of the system.
    fn len(&self) -> io::Result<u64>;

    /// True when the file has no bytes.
    ///
    /// # Errors
    /// Those of the system.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Exactly `len` bytes at `offset`: the one way to read.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before them; others of the system.
    fn read(&self, offset: u64, len: usize, access: Access) -> io::Result<Bytes>;

    /// Writes all the bytes at `offset`, growing the file if needed.
    ///
    /// # Errors
    /// Those of the system; then any part of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes like [`write_at`](Self::write_at) what nobody is about to read: where the system can, it goes to the device without
    /// taking up memory. It is no more durable than other writes.
    ///
    /// # Errors
    /// As those of `write_at`.
    fn write_uncached(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)
    }

    /// Grows the file to `len` bytes with zeroes that are really written, so that a later write of them needs no change
    /// of the file's metadata. A file that is long enough is left alone.
    ///
    /// # Errors
    /// Those of the system.
    fn zero_fill(&self, len: u64) -> io::Result<()>;

    /// Sets the length; new bytes read as zero.
    ///
    /// # Errors
    /// Those of the system.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Starts to write a range to the device without waiting for it. A hint: it promises nothing.
    ///
    /// # Errors
    /// Those of the system.
    fn write_back(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Waits until the write-back of these bytes is over, so that what follows does not pile up in front of other files' syncs. It
    /// promises nothing: bytes that must be durable are synced.
    ///
    /// # Errors
    /// Those of the system.
    fn await_write_back(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// Makes all that was written to the file durable, its length included (`fdatasync`).
    ///
    /// # Errors
    /// Those of the system; see obligation 1.
    fn sync(&self) -> io::Result<()>;

    /// True while another handle of the file is open in this process, or `Bytes` that [`Access::Map`] gave out are alive, through whatever
    /// handle, also one that was closed since: then the file must not be used for something else.
    fn in_use(&self) -> bool;

    /// True while the file has a name, whichever: one that the log removed may have another by a hard link, somebody's copy, and is not to
    /// be changed then. A file system that does not know says false.
    ///
    /// # Errors
    /// Those of the system.
    fn has_name(&self) -> io::Result<bool> {
        Ok(false)
    }
}
