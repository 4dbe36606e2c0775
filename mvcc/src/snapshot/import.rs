//! Taking a snapshot in: into an empty directory, which is no store until all of it is there and verified.
//!
//! A marker file stands in the directory from before the first chunk until everything is durable, and a directory with the
//! marker is refused by [`Store::open`]. So a crash at any moment leaves a directory that is either refused or complete.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ketch_wal::Disk;

use super::format::{self, CHANGES, Cursor, Decoded, END, Point, TABLES};
use super::held::{Begin, Held};
use crate::checkpoint::format::take_table_entry;
use crate::encoding::{self, take_bytes, take_varint};
use crate::error::{Fault, OpenError};
use crate::hash;
use crate::index::Head;
use crate::log::record::{CREATE, Change, DELETE, UPDATE, u64_at};
use crate::options::Options;
use crate::revision::Revision;
use crate::shared::{Shared, lock};
use crate::store::Store;
use crate::tables::{Table, TableId};
use crate::types::Applied;
use crate::write_back::{self, WriteBack};

/// The file that says a directory is not a store yet.
pub(crate) const MARKER: &str = "importing";

/// Why a snapshot was not taken in. The directory is of no use and is to be removed, except after
/// [`ImportError::Chunk`] and [`ImportError::OutOfPlace`], which change nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportError {
    /// The directory holds something already.
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// The bytes are damaged or no chunk; the sender may send it again.
    Chunk {
        /// What is wrong.
        reason: &'static str,
    },
    /// The chunk is of another state, or not the next one.
    OutOfPlace {
        /// Where the import stands.
        expected: Cursor,
        /// Where the chunk begins.
        found: Cursor,
    },
    /// All chunks are there and the whole is not what the sender has.
    Different {
        /// The sender's hash.
        expected: u64,
        /// The hash of what was taken in.
        found: u64,
    },
    /// The directory could not be opened.
    Open(OpenError),
    /// The disk refused.
    Fault(Fault),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::NotEmpty { dir } => write!(f, "{} is not empty", dir.display()),
            ImportError::Chunk { reason } => write!(f, "bad snapshot chunk: {reason}"),
            ImportError::OutOfPlace { expected, found } => {
                write!(
                    f,
                    "the chunk begins at {found:?}, the import is at {expected:?}, or it is of another state"
                )
            }
            ImportError::Different { expected, found } => {
                write!(f, "the snapshot has hash {expected:016x}, what was taken in has {found:016x}")
            }
            ImportError::Open(error) => error.fmt(f),
            ImportError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {}

impl From<OpenError> for ImportError {
    fn from(error: OpenError) -> ImportError {
        ImportError::Open(error)
    }
}

impl From<Fault> for ImportError {
    fn from(fault: Fault) -> ImportError {
        ImportError::Fault(fault)
    }
}

/// A snapshot being taken in.
#[derive(Debug)]
pub struct Import {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    store: Store,
    at: Cursor,
    point: Option<Point>,
    last: Revision,
    /// Hashes of tombstones at the compaction point: kept for watches, left out of the store's hash.
    tombstones: u64,
    hash: Option<u64>,
    gone_on: u64,
    write_back: WriteBack,
}

/// Changes are appended to the log once they are this many bytes.
const FLUSH_BYTES: usize = 256 << 10;
/// The log is synced once this many bytes follow the last sync: each sync commits the file's growth to the file system's journal,
/// which costs as much as writing a few MiB.
const SYNC_BYTES: u64 = 16 << 20;

impl Import {
    /// Begins in `dir`, which must be empty or absent.
    ///
    /// # Errors
    /// [`ImportError::NotEmpty`], or what the disk says.
    pub fn begin(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Import, ImportError> {
        disk.create_dir_all(dir).map_err(Fault::io("create", dir))?;
        // A young store has nothing but its log.
        let log = dir.join(crate::recovery::LOG);
        let has_log = match disk.list(&log) {
            Ok(files) => !files.is_empty(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(Fault::io("list", &log)(error).into()),
        };
        if has_log || !disk.list(dir).map_err(Fault::io("list", dir))?.is_empty() {
            return Err(ImportError::NotEmpty { dir: dir.to_owned() });
        }
        let marker = dir.join(MARKER);
        let file = disk.create(&marker).map_err(Fault::io("create", &marker))?;
        file.sync().map_err(Fault::io("sync", &marker))?;
        disk.sync_dir(dir).map_err(Fault::io("sync", dir))?;
        let store = crate::recovery::open_unmarked(Arc::clone(&disk), dir, options.clone(), true)?;
        Ok(Import {
            disk,
            dir: dir.to_owned(),
            options,
            store,
            at: Cursor::START,
            point: None,
            last: Revision::NONE,
            tombstones: 0,
            hash: None,
            gone_on: 0,
            write_back: WriteBack::default(),
        })
    }

    /// The place the next chunk must begin at; a sender of the same state can go on from here.
    pub fn cursor(&self) -> Cursor {
        self.at
    }

    /// What is here: a sender of another state may go on from it, see [`View::export_after`](crate::View::export_after).
    pub fn held(&self) -> Held {
        self.point.map_or(Held::NOTHING, |point| Held { at: self.at, point })
    }

    /// How many times a sender of another state has gone on.
    pub fn times_gone_on(&self) -> u64 {
        self.gone_on
    }

    /// Takes the next chunk: the one that follows, or the tables of another state whose changes begin with those that are here.
    ///
    /// # Errors
    /// [`ImportError::Chunk`] or [`ImportError::OutOfPlace`]: nothing changed. Otherwise what the disk says.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        let damaged = ImportError::Chunk { reason: "its checksum or shape is wrong" };
        let chunk = format::decode(bytes).ok_or(damaged)?;
        let follows = chunk.from == self.at && self.point.is_none_or(|point| point == chunk.point);
        let goes_on = !follows && chunk.from == Cursor::START && self.point.is_some();
        if !follows && !goes_on || chunk.from.stage == TABLES && !self.is_next_after_tables(&chunk) {
            return Err(ImportError::OutOfPlace { expected: self.at, found: chunk.from });
        }
        match chunk.from.stage {
            TABLES => self.tables(chunk.body)?,
            CHANGES => self.changes(&chunk.point, chunk.body)?,
            END => self.hash = u64_at(chunk.body, 0),
            _ => return Err(ImportError::Chunk { reason: "it is behind the end" }),
        }
        self.gone_on += u64::from(goes_on && chunk.next.revision != Revision::NONE);
        self.point = Some(chunk.point);
        self.at = chunk.next;
        Ok(())
    }

    /// Whether the changes that a chunk of tables announces are those that are missing here.
    fn is_next_after_tables(&self, chunk: &Decoded<'_>) -> bool {
        let begin = self.held().begin(&chunk.point);
        let known = self.last == Revision::NONE || self.last.main <= chunk.point.revision;
        known && chunk.next.stage == CHANGES && begin == Begin::Tables(chunk.next.revision)
            // With nothing to go on from, everything is sent again.
            && (chunk.next.revision != Revision::NONE || self.last == Revision::NONE)
    }

    /// A small table, as far as it was taken in.
    pub fn table(&self, table: TableId) -> &Table {
        self.store.table(table)
    }

    /// Puts an entry into a small table: what is to differ from the sender's. Tables are no part of the hash.
    pub fn table_put(&mut self, table: TableId, key: Bytes, value: Bytes) {
        self.store.table_put(table, key, value);
    }

    /// Takes an entry out of a small table.
    pub fn table_delete(&mut self, table: TableId, key: &[u8]) {
        self.store.table_delete(table, key);
    }

    /// Makes everything durable, verifies the whole and opens it as a store.
    ///
    /// # Errors
    /// [`ImportError::Different`] when it is not what the sender has; otherwise what the disk says.
    pub fn finish(self) -> Result<Store, ImportError> {
        let applied = self.point.map(|point| point.applied).unwrap_or_default();
        self.finish_as(applied, 0)
    }

    /// Like [`finish`](Self::finish), but as the beginning of another history: at the raft position `applied`, and, if
    /// `bump` is not 0, at a revision that is so much higher and compacted up to there.
    ///
    /// # Errors
    /// As those of `finish`; a `bump` beyond all revisions is an [`ImportError::Chunk`].
    pub fn finish_as(mut self, applied: Applied, bump: u64) -> Result<Store, ImportError> {
        let (Some(point), Some(expected)) = (self.point, self.hash) else {
            return Err(ImportError::Chunk { reason: "chunks are missing" });
        };
        let bumped = i64::try_from(bump).ok().and_then(|bump| point.revision.checked_add(bump));
        let revision = bumped.ok_or(ImportError::Chunk { reason: "there are no revisions so high" })?;
        let compacted = if bump > 0 { revision } else { point.compacted };
        let state = &mut self.store.state;
        let found = state.written.hash.wrapping_sub(self.tombstones);
        if found != expected {
            return Err(ImportError::Different { expected, found });
        }
        // Opening reads what is not sealed, and writes anew what the log does not tell to be durable: up to a whole segment at once, in
        // front of the syncs of others who share the disk. The record below tells it.
        state.flush(&self.store.shared)?;
        self.store.shared.log.seal()?;
        write_back::sync(&self.store.shared)?;
        let state = &mut self.store.state;
        state.revision = revision;
        if compacted >= 0 {
            state.compacted = compacted;
            state.others.push((crate::log::record::COMPACT, compacted.to_le_bytes().to_vec()));
        }
        self.store.write(applied, true)?;
        let dead_hash = self.tombstones;
        let physical = crate::compaction::Physical { done: point.compacted, dead_hash, ..Default::default() };
        *lock(&self.store.shared.physical) = physical;
        lock(&self.store.shared.background).scan = crate::compaction::Scan::new(physical);
        self.store.background().checkpoint()?;
        drop(self.store);
        let marker = self.dir.join(MARKER);
        self.disk.remove(&marker).map_err(Fault::io("remove", &marker))?;
        self.disk.sync_dir(&self.dir).map_err(Fault::io("sync", &self.dir))?;
        Ok(Store::open(self.disk, &self.dir, self.options)?)
    }

    /// Takes tables in the place of those that are here.
    fn tables(&mut self, mut body: &[u8]) -> Result<(), ImportError> {
        let malformed = || ImportError::Chunk { reason: "a malformed table entry" };
        let mut entries = Vec::new();
        while let Some((&table, rest)) = body.split_first() {
            body = rest;
            entries.push((TableId(table), take_table_entry(&mut body).ok_or_else(malformed)?));
        }
        // Those of the state before are out of date.
        let before = self.store.state.tables.iter();
        let before: Vec<(TableId, Bytes)> =
            before.flat_map(|(id, table)| table.iter().map(move |(key, _)| (id, key.clone()))).collect();
        before.into_iter().for_each(|(table, key)| self.store.table_delete(table, &key));
        for (table, (key, value)) in entries {
            self.store.table_put(table, key, value);
        }
        self.hash = None;
        Ok(())
    }

    fn changes(&mut self, point: &Point, body: &[u8]) -> Result<(), ImportError> {
        // Decoded whole before anything is changed.
        let changes = decode_changes(body, self.last, point.revision)
            .ok_or(ImportError::Chunk { reason: "a malformed change, or one out of order" })?;
        for (revision, wire) in changes {
            self.last = revision;
            let change = self.store.state.import(&self.store.shared, revision, wire);
            if change.is_delete() && revision.main == point.compacted {
                self.tombstones = self.tombstones.wrapping_add(hash::change(&change));
            }
            self.store.state.record(change);
            if self.store.state.batch.bytes() >= FLUSH_BYTES {
                self.store.state.flush(&self.store.shared)?;
                self.write_back.step(&self.store.shared, SYNC_BYTES)?;
            }
        }
        Ok(())
    }
}

fn decode_changes(mut body: &[u8], mut last: Revision, newest: i64) -> Option<Vec<(Revision, Bytes)>> {
    let mut changes = Vec::new();
    while !body.is_empty() {
        let main = i64::try_from(take_varint(&mut body)?).ok()?;
        let revision = Revision::new(main, u32::try_from(take_varint(&mut body)?).ok()?);
        let wire = take_bytes(&mut body)?;
        let fields = encoding::decode(wire)?;
        if revision <= last || main > newest || fields.mod_revision != main || fields.key.is_empty() {
            return None;
        }
        if !(0..=Head::VERSION_MAX).contains(&fields.version) {
            return None;
        }
        last = revision;
        changes.push((revision, Bytes::copy_from_slice(wire)));
    }
    Some(changes)
}

impl crate::store::State {
    /// Puts a version of a snapshot into the index; what came before it may not be part of the snapshot.
    fn import(&mut self, shared: &Shared, revision: Revision, wire: Bytes) -> Change {
        let fields = encoding::decode(&wire).unwrap_or_default();
        let put = fields.version > 0;
        let mut previous = Revision::NONE;
        let place = self.next_place(shared);
        self.tree.upsert(fields.key, place, |old| {
            previous = old.map_or(Revision::NONE, |old| old.revision);
            let (mut head, marks) = crate::store::next_head(old, revision, put, -1);
            (head.create_revision, head.version) = (fields.create_revision, fields.version);
            (head, marks)
        });
        if !put {
            self.tombstones.push_back((revision.main, Bytes::copy_from_slice(fields.key)));
        }
        let kind = if !put {
            DELETE
        } else if fields.version == 1 {
            CREATE
        } else {
            UPDATE
        };
        Change { revision, kind, previous, wire }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{Fields, put_prefixed, put_varint};
    use crate::types::{KeyRange, KeyValue};
    use ketch_wal::SimDisk;
    use ketch_wal::sim::Op;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn opening_what_was_taken_in_neither_reads_nor_writes_its_changes() {
        let open =
            |disk: &Arc<SimDisk>| Store::open(disk.clone(), Path::new("/s"), Options::default()).unwrap();
        let mut sender = open(&SimDisk::new(1));
        for number in 0..1000u32 {
            sender.txn().put(&number.to_be_bytes(), b"value", 0).unwrap();
        }
        sender.commit(Applied { index: 7, term: 1 }).unwrap();
        let disk = SimDisk::new(2);
        let mut import = Import::begin(disk.clone(), Path::new("/s"), Options::default()).unwrap();
        let mut export = sender.reader().view().export(Cursor::START);
        while let Some(chunk) = export.next_chunk(4096).unwrap() {
            import.chunk(&chunk.bytes).unwrap();
        }
        let (opening, written) = (AtomicBool::new(false), Arc::new(Mutex::new(Vec::new())));
        let writes = written.clone();
        disk.set_hook(Some(Arc::new(move |_, op, path| match op {
            Op::Remove if path.ends_with(MARKER) => opening.store(true, Ordering::SeqCst),
            Op::Write if opening.load(Ordering::SeqCst) => writes.lock().unwrap().push(path.to_owned()),
            _ => {}
        })));
        let store = import.finish().unwrap();
        disk.set_hook(None);
        let changes = disk.paths().into_iter().filter(|path| path.starts_with("/s/log")).min().unwrap();
        assert!(disk.content(&changes).unwrap().len() > 1000 * 20);
        assert!(!written.lock().unwrap().contains(&changes), "{written:?}");
        let set = store.shared.log.set();
        let last = set.last().unwrap();
        assert!(!last.is_sealed() && last.rows().len() == 0);
        assert!(
            set.segments().len() > 1 && store.reader().view().count(&KeyRange::all(), 0).unwrap() == 1000
        );
        drop(store);
        assert_eq!(open(&disk).applied().index, 7);
    }

    #[test]
    fn versions_that_the_index_cannot_hold_are_refused() {
        let decode = |version: i64| {
            let fields =
                Fields { key: b"k", create_revision: 2, mod_revision: 9, version, ..Fields::default() };
            let mut body = Vec::new();
            put_varint(9, &mut body);
            put_varint(0, &mut body);
            put_prefixed(KeyValue::encode(&fields).as_wire(), &mut body);
            decode_changes(&body, Revision::NONE, 9).map(|changes| changes.len())
        };
        for good in [0, 1, Head::VERSION_MAX] {
            assert_eq!(decode(good), Some(1), "{good}");
        }
        for bad in [-1, i64::MIN, Head::VERSION_MAX + 1, i64::MAX] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
