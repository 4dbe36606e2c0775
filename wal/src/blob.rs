//! A small durable named file: written beside, synced, renamed into place, the folder synced. It is whole or it is the one
//! before.
//!
//! ```text
//! 0 "KETCHBLB" | 8 length u64 | 16 crc32 u32 over the length and the bytes | 20 zero u32 | 24 the bytes
//! ```

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::disk::{Access, Disk};

const MAGIC: &[u8; 8] = b"KETCHBLB";
const HEADER_BYTES: usize = 24;

/// Why a blob cannot be read.
#[derive(Debug)]
pub enum BlobError {
    /// The file is not a blob, or not as it was written.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The system refused.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobError::Damaged { path, reason } => write!(f, "{} is damaged: {reason}", path.display()),
            BlobError::Io { path, source } => write!(f, "cannot read {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for BlobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BlobError::Io { source, .. } => Some(source),
            BlobError::Damaged { .. } => None,
        }
    }
}

/// Writes a blob; durable, in place of an earlier one, when it returns. A crash on the way leaves the earlier one.
///
/// # Errors
/// Those of the system; then the blob is the old one or the new one.
pub fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&temporary)?;
    let mut whole = Vec::with_capacity(HEADER_BYTES + bytes.len());
    whole.extend_from_slice(MAGIC);
    whole.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    whole.extend_from_slice(&check(bytes).to_le_bytes());
    whole.extend_from_slice(&[0; 4]);
    whole.extend_from_slice(bytes);
    file.write_at(0, &whole)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Reads a blob; `None` when there is none.
///
/// # Errors
/// [`BlobError::Damaged`] when the bytes are not those written, [`BlobError::Io`] when they cannot be read.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Bytes>, BlobError> {
    let io_error = |source| BlobError::Io { path: path.to_owned(), source };
    let damaged = |reason| BlobError::Damaged { path: path.to_owned(), reason };
    let file = match disk.open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_error)?,
    };
    let len = file.len().map_err(io_error)?;
    let len = usize::try_from(len).map_err(|_| damaged("it is too long"))?;
    if len < HEADER_BYTES {
        return Err(damaged("it is shorter than its header"));
    }
    let whole = file.read(0, len, Access::Copy).map_err(io_error)?;
    if &whole[..8] != MAGIC {
        return Err(damaged("it does not begin as a blob"));
    }
    let bytes = whole.slice(HEADER_BYTES..);
    if whole[8..16] != (bytes.len() as u64).to_le_bytes() {
        return Err(damaged("its length is not the one written"));
    }
    if whole[16..20] != check(&bytes).to_le_bytes() || whole[20..24] != [0; 4] {
        return Err(damaged("its checksum does not match"));
    }
    Ok(Some(bytes))
}

fn check(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn temporary(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}
