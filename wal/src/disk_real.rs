//! The file system of the machine.

use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::direct;
use crate::disk::{Access, Disk, DiskFile, Space};
use crate::map::Map;
use crate::sys;
use crate::users::User;

/// A map covers at least this much, so that a growing file is mapped once.
const MAP_BYTES_MIN: u64 = 64 << 20;
/// Zeroes are written in pieces of this size.
const ZEROES: &[u8] = &[0; 256 << 10];

/// The file system of the machine (unix).
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        // That a folder is there does not say that its name is durable: whoever made it may have died before the sync. A mount point's
        // name is not ours to sync.
        let dir = fs::canonicalize(dir)?;
        let device = fs::metadata(&dir)?.dev();
        for (above, parent) in dir.ancestors().skip(1).enumerate() {
            if fs::metadata(parent)?.dev() != device {
                break;
            }
            match self.sync_dir(parent) {
                // A folder far above that we may not even open is not one that we made.
                Err(error) if above > 0 && error.kind() == io::ErrorKind::PermissionDenied => break,
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(RealFile::new(file, 0)?))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(writable).open(path)?;
        let len = file.metadata()?.len();
        Ok(Arc::new(RealFile::new(file, len)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        sys::lock(&file)?;
        Ok(Box::new(file))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        sys::space(dir)
    }

    fn unique(&self) -> u64 {
        RandomState::new().hash_one("ketch-wal")
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// The length as far as this handle knows: never more than the file has, unless someone else cuts it.
    len: AtomicU64,
    /// The newest map. Outgrown ones live on with those who read from them.
    map: Mutex<Option<Map>>,
    user: User,
}

impl RealFile {
    fn new(file: File, len: u64) -> io::Result<RealFile> {
        let user = User::of(&file)?;
        Ok(RealFile { file, len: AtomicU64::new(len), map: Mutex::default(), user })
    }

    /// The greatest end of all writes is the length: maps reach no further.
    fn grown(&self, end: u64) {
        self.len.fetch_max(end, Ordering::AcqRel);
    }

    fn read_map(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let end = offset.checked_add(len as u64).ok_or(io::ErrorKind::InvalidInput)?;
        if end > self.len.load(Ordering::Acquire) && end > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (from, capacity) = (to_usize(offset)?, to_usize(end)?);
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if map.as_ref().is_none_or(|map| map.capacity() < capacity) {
            let wanted = end.next_power_of_two().max(MAP_BYTES_MIN);
            *map = Some(Map::new(&self.file, self.user.another(), to_usize(wanted)?)?);
        }
        let slice = map.as_ref().and_then(|map| map.slice(from, len));
        slice.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        let len = self.file.metadata()?.len();
        self.grown(len);
        Ok(len)
    }

    fn read(&self, offset: u64, len: usize, access: Access) -> io::Result<Bytes> {
        match access {
            Access::Map => self.read_map(offset, len),
            Access::Copy => {
                let mut bytes = vec![0; len];
                self.file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes.into())
            }
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.grown(offset + bytes.len() as u64);
        Ok(())
    }

    fn write_uncached(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        direct::write(&self.file, offset, bytes)?;
        self.grown(offset + bytes.len() as u64);
        Ok(())
    }

    fn zero_fill(&self, len: u64) -> io::Result<()> {
        let mut at = self.len()?;
        while at < len {
            let piece = (len - at).min(ZEROES.len() as u64);
            self.write_at(at, &ZEROES[..piece as usize])?;
            at += piece;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // The known length shrinks first: no reader may be sent beyond the new end.
        self.len.fetch_min(len, Ordering::AcqRel);
        self.file.set_len(len)?;
        self.grown(len);
        Ok(())
    }

    fn write_back(&self, offset: u64, len: u64) -> io::Result<()> {
        sys::write_back(&self.file, offset, len, false)
    }

    fn await_write_back(&self, offset: u64, len: u64) -> io::Result<()> {
        sys::write_back(&self.file, offset, len, true)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn in_use(&self) -> bool {
        // Whoever asks wants to part with the file: our own map goes first, so that what is left are others'. Made anew if needed.
        *self.map.lock().unwrap_or_else(PoisonError::into_inner) = None;
        !self.user.is_alone()
    }

    fn has_name(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 0)
    }
}
