//! A snapshot file in the making: piece after piece out of a pinned view.

use bytes::Bytes;
use ketch_mvcc::{Cursor, Export, Fault, KeyRange, ReadError, View};
use sha2::{Digest, Sha256};

use super::format::{self, Header};
use crate::stint;

/// About how many bytes of changes are read at once. Part of no promise: a file may have chunks of any size.
const CHUNK_BYTES: usize = 256 << 10;

/// Yields the bytes of a snapshot file in order. The view that it holds keeps what is compacted meanwhile on disk, until
/// this is dropped.
pub struct Source {
    view: View,
    export: Export,
    header: Option<Header>,
    sha: Sha256,
    written: u64,
    /// Bytes before the trailer, once they are all measured.
    total: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The chunks are made once only to know how long they are: clients are told how much is to come.
    Measure,
    Chunks,
    Trailer,
    Done,
}

impl Source {
    /// A snapshot of `view`, whose data has the storage version `version`.
    ///
    /// # Errors
    /// A fault of the store.
    pub fn new(view: &View, version: (u16, u16)) -> Result<Source, Fault> {
        let all = KeyRange::Span { start: Bytes::new(), end: None };
        let keys = match view.count(&all, 0) {
            Ok(keys) => keys,
            Err(ReadError::Fault(fault)) => return Err(fault),
            // A view's own revision is neither compacted nor ahead.
            Err(ReadError::Compacted { .. } | ReadError::Future { .. }) => 0,
        };
        let view = view.clone().resting(stint::rest);
        let header = Header { revision: view.revision(), compacted: view.compacted(), keys, version };
        Ok(Source {
            export: view.export(Cursor::START),
            view,
            header: Some(header),
            sha: Sha256::new(),
            written: 0,
            total: format::HEADER as u64,
            stage: Stage::Measure,
        })
    }

    /// How many bytes were handed out.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many bytes come before the trailer; known once a piece was not empty.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The next piece of the file, `None` behind the last. Pieces may be empty. The last one is the trailer alone. Reads
    /// the disk, a bounded part of it each time.
    ///
    /// # Errors
    /// A fault of the store.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, Fault> {
        let piece = match self.stage {
            Stage::Measure => {
                self.measure()?;
                Bytes::new()
            }
            Stage::Chunks => self.chunk()?,
            Stage::Trailer => {
                self.stage = Stage::Done;
                let digest: [u8; format::TRAILER] = self.sha.finalize_reset().into();
                Bytes::copy_from_slice(&digest)
            }
            Stage::Done => return Ok(None),
        };
        if self.stage != Stage::Done {
            self.sha.update(&piece);
        }
        self.written += piece.len() as u64;
        Ok(Some(piece))
    }

    fn measure(&mut self) -> Result<(), Fault> {
        match self.export.next_chunk(CHUNK_BYTES)? {
            Some(chunk) => self.total += (format::chunk_head(0).len() + chunk.bytes.len()) as u64,
            None => {
                self.total += format::end(self.total).len() as u64;
                self.export = self.view.export(Cursor::START);
                self.stage = Stage::Chunks;
            }
        }
        Ok(())
    }

    fn chunk(&mut self) -> Result<Bytes, Fault> {
        let mut piece = Vec::new();
        if let Some(header) = self.header.take() {
            piece.extend_from_slice(&header.encode());
        }
        match self.export.next_chunk(CHUNK_BYTES)? {
            Some(chunk) => {
                piece.extend_from_slice(&format::chunk_head(chunk.bytes.len()));
                piece.extend_from_slice(&chunk.bytes);
            }
            None => {
                self.stage = Stage::Trailer;
                piece.extend_from_slice(&format::end(self.written));
            }
        }
        Ok(piece.into())
    }
}
