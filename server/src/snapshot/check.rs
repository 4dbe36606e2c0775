//! Reading a snapshot file: nothing of it is believed before its checksums are.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ketch_mvcc::{Chunk, Cursor};
use ketch_wal::{Access, Disk, DiskFile};
use sha2::{Digest, Sha256};

use super::format::{ALIGN, HEADER, Header, NotOurs, TRAILER};

/// How much of a file is read at once for its checksum.
const READ_BYTES: usize = 1 << 20;

/// Why a file cannot be used as a snapshot.
#[derive(Debug)]
pub enum FileError {
    /// The operating system refused something.
    Io(PathBuf, io::Error),
    /// It is a snapshot of etcd.
    OfEtcd(PathBuf),
    /// Its format is a later one.
    Later(PathBuf),
    /// It is no snapshot, or its beginning is damaged.
    NoSnapshot(PathBuf),
    /// It does not end where a snapshot ends, so it was cut off or changed.
    Cut(PathBuf),
    /// Its checksum is not that of its bytes.
    Checksum(PathBuf),
    /// A part of it is damaged.
    Damaged(PathBuf, &'static str),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::OfEtcd(path) => write!(
                f,
                "{} is a snapshot of etcd, which ketch does not read; take one from a ketch member, or copy the keys \
                 with etcdctl make-mirror",
                path.display()
            ),
            Self::Later(path) => {
                write!(f, "{} is a snapshot in a later format than this ketch knows", path.display())
            }
            Self::NoSnapshot(path) => {
                write!(f, "{} is not a snapshot, or its beginning is damaged", path.display())
            }
            Self::Cut(path) => {
                write!(f, "{} does not end as a snapshot ends: it was cut off or altered", path.display())
            }
            Self::Checksum(path) => {
                write!(f, "the checksum of {} does not match its content: it was altered", path.display())
            }
            Self::Damaged(path, what) => write!(f, "{} is damaged: {what}", path.display()),
        }
    }
}

impl std::error::Error for FileError {}

/// What a snapshot file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// A hash of the keys; equal for snapshots of the same state.
    pub hash: u32,
    /// The revision of the state.
    pub revision: i64,
    /// How many keys it has.
    pub keys: u64,
    /// Bytes without the checksum at the end.
    pub bytes: u64,
    /// The storage version.
    pub version: String,
}

/// Reads the whole file at `path` and says what it holds.
///
/// # Errors
/// Whatever is wrong with it, the checksum first.
pub fn status(disk: &dyn Disk, path: &Path) -> Result<Status, FileError> {
    let mut file = SnapshotFile::open(disk, path)?;
    file.check_sum()?;
    while file.next_chunk()?.is_some() {}
    let Header { revision, keys, version: (major, minor), .. } = file.header;
    let hash = file.hash.unwrap_or_default();
    Ok(Status {
        hash: (hash ^ hash >> 32) as u32,
        revision,
        keys,
        bytes: file.content,
        version: format!("{major}.{minor}.0"),
    })
}

/// A snapshot file being read.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    pub(super) header: Header,
    /// Bytes before the trailer.
    content: u64,
    at: u64,
    cursor: Cursor,
    /// The hash that the last chunk names.
    hash: Option<u64>,
}

impl SnapshotFile {
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<SnapshotFile, FileError> {
        let io = |error| FileError::Io(path.to_owned(), error);
        let file = disk.open(path, false).map_err(io)?;
        let len = file.len().map_err(io)?;
        let begin = file.read(0, HEADER.min(len as usize), Access::Copy).map_err(io)?;
        let header = Header::decode(&begin).map_err(|not| match not {
            NotOurs::OfEtcd => FileError::OfEtcd(path.to_owned()),
            NotOurs::Later => FileError::Later(path.to_owned()),
            NotOurs::Unknown => FileError::NoSnapshot(path.to_owned()),
        })?;
        let content = len.checked_sub(TRAILER as u64).filter(|content| content % ALIGN as u64 == 0);
        let content = content.ok_or_else(|| FileError::Cut(path.to_owned()))?;
        Ok(SnapshotFile {
            path: path.to_owned(),
            file,
            header,
            content,
            at: HEADER as u64,
            cursor: Cursor::START,
            hash: None,
        })
    }

    /// Compares the trailer with the bytes before it.
    pub(super) fn check_sum(&self) -> Result<(), FileError> {
        let mut sha = Sha256::new();
        let mut at = 0;
        while at < self.content {
            let len = READ_BYTES.min((self.content - at) as usize);
            sha.update(self.read(at, len)?);
            at += len as u64;
        }
        if sha.finalize()[..] == self.read(self.content, TRAILER)?[..] {
            Ok(())
        } else {
            Err(FileError::Checksum(self.path.clone()))
        }
    }

    /// The next chunk of the store's stream; `None` behind the last, when all were there.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Bytes>, FileError> {
        if self.content - self.at < 4 {
            return Err(FileError::Cut(self.path.clone()));
        }
        let head = self.read(self.at, 4)?;
        let len = u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
        if len == 0 {
            return self.check_end().map(|()| None);
        }
        if len > self.content - self.at - 4 {
            return Err(self.damaged("a chunk is longer than the file"));
        }
        let bytes = self.read(self.at + 4, len as usize)?;
        let Some(chunk) = Chunk::inspect(&bytes) else {
            return Err(self.damaged("a chunk's checksum is wrong"));
        };
        let of_state = chunk.revision == self.header.revision && chunk.compacted == self.header.compacted;
        if chunk.from != self.cursor || !of_state {
            return Err(self.damaged("a chunk is out of place"));
        }
        self.at += 4 + len;
        self.cursor = chunk.next;
        self.hash = chunk.hash.or(self.hash);
        Ok(Some(bytes))
    }

    fn check_end(&self) -> Result<(), FileError> {
        if !self.cursor.is_done() {
            return Err(self.damaged("chunks are missing"));
        }
        let rest = self.content - self.at;
        if rest >= (4 + ALIGN) as u64 || self.read(self.at, rest as usize)?.iter().any(|&byte| byte != 0) {
            return Err(self.damaged("something follows the last chunk"));
        }
        Ok(())
    }

    fn read(&self, at: u64, len: usize) -> Result<Bytes, FileError> {
        self.file.read(at, len, Access::Copy).map_err(|error| FileError::Io(self.path.clone(), error))
    }

    fn damaged(&self, what: &'static str) -> FileError {
        FileError::Damaged(self.path.clone(), what)
    }
}
