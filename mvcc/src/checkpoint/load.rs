//! Reading a checkpoint back. Every chunk's checksum is verified, and the end must be there.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ketch_wal::{Access, Disk, DiskFile, Position, SegmentId};

use super::format::{self, Header};
use crate::error::OpenError;
use crate::index::{Builder, Tree};
use crate::log::record::u32_at;
use crate::log::segment::Dead;
use crate::tables::{TableId, Tables};

/// What a checkpoint held.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) header: Header,
    pub(crate) dead: HashMap<SegmentId, Dead>,
    pub(crate) tables: Tables,
    pub(crate) tree: Tree,
    /// Tombstones of the index, oldest first.
    pub(crate) tombstones: Vec<(i64, Bytes)>,
}

/// Reads the checkpoint in `dir`; `None` when there is none.
pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Loaded>, OpenError> {
    let path = dir.join(super::FILE);
    let file = match disk.open(&path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| OpenError::Io { path: path.clone(), source })?,
    };
    Chunks::new(&path, file)?.load().map(Some)
}

/// Refuses what is no checkpoint, or one of a version not known here; gives the log's end as the checkpoint knows it.
pub(crate) fn check(disk: &dyn Disk, dir: &Path) -> Result<Position, OpenError> {
    let path = dir.join(super::FILE);
    match disk.open(&path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Position::START),
        Err(source) => Err(OpenError::Io { path, source }),
        Ok(file) => Chunks::new(&path, file)?.header().map(|header| header.end),
    }
}

struct Chunks<'a> {
    path: &'a Path,
    file: Arc<dyn DiskFile>,
    offset: u64,
    len: u64,
    number: u64,
}

impl<'a> Chunks<'a> {
    fn new(path: &'a Path, file: Arc<dyn DiskFile>) -> Result<Chunks<'a>, OpenError> {
        let len = file.len().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let mut chunks = Chunks { path, file, offset: 0, len, number: 0 };
        let head = chunks.take(format::FILE_HEADER)?;
        if head[..8] != format::MAGIC {
            return Err(chunks.damaged("it does not begin as a checkpoint"));
        }
        match u32_at(&head, 8) {
            Some(format::VERSION) => Ok(chunks),
            found => Err(OpenError::Version {
                path: path.to_owned(),
                found: found.unwrap_or(0),
                supported: format::VERSION,
            }),
        }
    }

    fn damaged(&self, reason: impl Into<String>) -> OpenError {
        let reason = format!("{} (chunk {}, byte {})", reason.into(), self.number, self.offset);
        OpenError::Damaged { path: self.path.to_owned(), reason }
    }

    fn take(&mut self, len: usize) -> Result<Bytes, OpenError> {
        if len as u64 > self.len.saturating_sub(self.offset) {
            return Err(self.damaged("it ends too early"));
        }
        let read = self.file.read(self.offset, len, Access::Copy);
        let bytes = read.map_err(|source| OpenError::Io { path: self.path.to_owned(), source })?;
        self.offset += len as u64;
        Ok(bytes)
    }

    /// The next chunk's kind and content.
    fn next(&mut self) -> Result<(u8, Bytes), OpenError> {
        let head = self.take(format::CHUNK_HEADER)?;
        let (Some(len), Some(check)) = (u32_at(&head, 0), u32_at(&head, 4)) else {
            return Err(self.damaged("a chunk's head is cut"));
        };
        if len == 0 || len as usize > format::CHUNK_MAX {
            return Err(self.damaged(format!("a chunk claims {len} bytes")));
        }
        let content = self.take(len as usize)?;
        if format::check(self.number, &content) != check {
            return Err(self.damaged("a chunk's checksum does not match"));
        }
        self.number += 1;
        Ok((content[0], content.slice(1..)))
    }

    fn header(&mut self) -> Result<Header, OpenError> {
        let (kind, content) = self.next()?;
        let header = Header::decode(&content).filter(|_| kind == format::HEADER);
        header.ok_or_else(|| self.damaged("it has no header"))
    }

    fn load(mut self) -> Result<Loaded, OpenError> {
        let header = self.header()?;
        let (mut dead, mut tables) = (HashMap::new(), Tables::default());
        let (mut builder, mut keys, mut tombstones) = (Builder::default(), 0, Vec::new());
        loop {
            let (kind, content) = self.next()?;
            let mut rest = &content[..];
            match kind {
                format::DEAD => {
                    let (id, marks) =
                        format::decode_dead(rest).ok_or_else(|| self.damaged("malformed marks"))?;
                    dead.insert(id, marks);
                }
                format::TABLE => {
                    let table = TableId(*rest.first().ok_or_else(|| self.damaged("a table without number"))?);
                    rest = &rest[1..];
                    while !rest.is_empty() {
                        let entry = format::take_table_entry(&mut rest);
                        let (key, value) = entry.ok_or_else(|| self.damaged("a malformed table entry"))?;
                        tables.put(table, key, value);
                    }
                }
                format::KEYS => {
                    while !rest.is_empty() {
                        let entry = format::take_key(&mut rest);
                        let (key, head, marks) = entry.ok_or_else(|| self.damaged("a malformed key"))?;
                        if !head.is_live() {
                            tombstones.push((head.revision.main, Bytes::copy_from_slice(key)));
                        }
                        builder.push(key, head, marks);
                        keys += 1;
                    }
                }
                format::END => break,
                other => return Err(self.damaged(format!("a chunk of unknown kind {other}"))),
            }
        }
        if keys != header.keys || self.offset != self.len {
            return Err(
                self.damaged(format!("{keys} keys instead of {}, or bytes behind the end", header.keys))
            );
        }
        tombstones.sort_unstable();
        Ok(Loaded { header, dead, tables, tree: builder.finish(), tombstones })
    }
}
