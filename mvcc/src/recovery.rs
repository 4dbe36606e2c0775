//! Opening a store: the checkpoint, then the short tail of the log behind it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use ketch_wal::{Batch, Disk, Position, Record, SegmentId, Wal};

use crate::background;
use crate::checkpoint::{self, Checkpoints, load::Loaded};
use crate::compaction::{Physical, Scan};
use crate::error::{Fault, FaultKind, OpenError};
use crate::index::Tree;
use crate::log::record::{self, Change, Commit, Row};
use crate::log::rows::Rows;
use crate::log::segment::{Segment, SegmentSet};
use crate::log::{Log, read_footer};
use crate::options::Options;
use crate::planted::{Bug, planted};
use crate::shared::{Durability, Epoch, Root, Shared};
use crate::store::{State, Store, next_head};
use crate::tables::TableId;
use crate::types::Applied;

/// The folder of the revision log inside the store's.
pub(crate) const LOG: &str = "log";

/// See [`Store::open`].
pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Store, OpenError> {
    let marker = dir.join(crate::snapshot::MARKER);
    match disk.open(&marker, false) {
        Ok(_) => return Err(OpenError::Unfinished { dir: dir.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(OpenError::Io { path: marker, source }),
    }
    open_unmarked(disk, dir, options, false)
}

/// Where the log begins a new segment of its own accord: a batch that does not fit any more. Sealing comes before that.
#[cfg(not(test))]
fn log_segment_bytes() -> u64 {
    ketch_wal::SEGMENT_BYTES_MAX
}

#[cfg(test)]
use tests::log_segment_bytes;

/// Opens a directory that may be an import under way. What is `imported` is written past the system's memory.
pub(crate) fn open_unmarked(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: Options,
    imported: bool,
) -> Result<Store, OpenError> {
    if !options.read_only {
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        disk.create_dir_all(dir).map_err(io)?;
    }
    // What is no checkpoint of ours is refused before anything is touched; it is read when the log's lock is held.
    let must_reach = checkpoint::load::check(&*disk, dir)?;
    let wal_options = ketch_wal::Options {
        segment_bytes: log_segment_bytes(),
        spare_segments: 1, // header only: sealing need not wait for a new file to be durable
        zero_fill: false,
        manual_rotation: log_segment_bytes() == ketch_wal::SEGMENT_BYTES_MAX,
        metadata: options.metadata.clone(),
        read_only: options.read_only,
        unsafe_no_sync: options.unsafe_no_sync,
        // Before a byte changes: each opening makes the log a bit longer, so one that lost something would grow back to this length.
        must_reach,
        uncached: imported,
        verify: ketch_wal::Verify::Tail,
        ..ketch_wal::Options::default()
    };
    let short = |end, checkpoint_end| {
        let reason = format!("the log ends at {end}, before the checkpoint's {checkpoint_end}");
        OpenError::Damaged { path: dir.join(LOG), reason }
    };
    let opened = Wal::open(Arc::clone(&disk), &dir.join(LOG), wal_options).map_err(|error| match error {
        ketch_wal::OpenError::Short { end, must_reach } => short(end, must_reach),
        error => OpenError::Log(error),
    })?;
    let wal = opened.wal;
    if !options.read_only {
        // One that was being written when the store ended; the next one would do so, too.
        let _ = disk.remove(&dir.join(checkpoint::TEMPORARY));
    }
    if !options.read_only {
        // A checkpoint may be found under its name although its renaming is not durable yet; what it knows to be dead is
        // dropped from now on.
        disk.sync_dir(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    }
    let loaded = checkpoint::load::load(&*disk, dir)?;
    let checkpoint_end = loaded.as_ref().map_or(Position::START, |loaded| loaded.header.end);
    if wal.end() < checkpoint_end {
        return Err(short(wal.end(), checkpoint_end));
    }
    let segments = segments(&wal, loaded.as_ref())?;
    let log = Log::new(wal, SegmentSet::new(segments));
    let (mut state, physical, checkpoints) = from_checkpoint(loaded);
    replay(&log, &mut state, checkpoint_end)?;

    let durable = Durability { applied: state.applied, ..Durability::default() };
    let mut root = Root::clone(&state.root_now());
    root.epoch = Arc::new(Epoch { compacted: root.compacted });
    root.end = log.wal.end();
    state.root = Arc::new(root.clone());
    let background = background::State::new(Scan::new(physical), checkpoints);
    let shared =
        Shared::new(disk, dir.to_owned(), options, log, state.root.clone(), durable, background, physical);
    Ok(Store::new(Arc::new(shared), state))
}

/// The live segments with their tables of contents, as far as they have one.
fn segments(wal: &Wal, loaded: Option<&Loaded>) -> Result<Vec<Arc<Segment>>, OpenError> {
    let mut segments = Vec::new();
    for info in wal.segments() {
        let segment = if info.sealed && info.footer != Position::START {
            Segment::new(info.id, read_footer(wal, info.footer)?)
        } else {
            Segment::new(info.id, Rows::Active(Box::default()))
        };
        if let Some(dead) = loaded.and_then(|loaded| loaded.dead.get(&info.id)) {
            *segment.dead() = dead.clone();
        }
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}

fn from_checkpoint(loaded: Option<Loaded>) -> (State, Physical, Checkpoints) {
    let mut state = State::empty();
    let Some(loaded) = loaded else { return (state, Physical::default(), Checkpoints::none()) };
    let header = loaded.header;
    state.tree = loaded.tree;
    state.tables = loaded.tables;
    state.revision = header.revision;
    state.compacted = header.compacted;
    state.applied = header.applied;
    state.written = header.written;
    state.tombstones = loaded.tombstones.into();
    let checkpoints = Checkpoints::at(&header, loaded.dead);
    (state, header.physical, checkpoints)
}

/// Reads the log from where it must be read and brings index and tables up to its end.
fn replay(log: &Log, state: &mut State, from: Position) -> Result<(), OpenError> {
    let set = log.set();
    let open: Vec<&Arc<Segment>> = set.segments().iter().filter(|segment| !segment.is_sealed()).collect();
    let infos = log.wal.segments();
    // Segments that were rewritten have greater numbers than some that follow them: the order is the list's.
    let place = |position: Position| {
        let at = infos.iter().position(|info| info.id == position.segment());
        (at, position.offset())
    };
    if from != Position::START && place(from).0.is_none() {
        let rule = "the segment a checkpoint ends in is part of the log";
        return Err(OpenError::Fault(Fault::new(FaultKind::Misuse { rule })));
    }
    let first_open = infos.iter().find(|info| open.iter().any(|segment| segment.id() == info.id));
    let start = match first_open {
        Some(info) if place(info.first) < place(from) => info.first,
        _ => from,
    };
    let (from_segment, mut behind) = (from.segment(), from == Position::START);
    for next in log.wal.iter(start) {
        let next = next.map_err(|error| OpenError::Fault(Fault::log("read the revision log")(error)))?;
        let change = Change::decode(next.kind, &next.data);
        if let Some(change) = &change {
            index_row(&open, &next, change)?;
        }
        // Once the walk is behind the checkpoint it stays there.
        behind = behind
            || (next.position.segment() == from_segment && next.position >= from)
            || (place(next.position).0 > place(from).0);
        if behind {
            apply(state, &next, change)?;
        }
    }
    Ok(())
}

/// What a record takes up in the log, roughly: it is for deciding what to rewrite.
fn frame_bytes(record: &Record) -> u64 {
    record.data.len().next_multiple_of(8) as u64 + 16
}

/// Adds a row to the table of contents of a segment that has no footer yet.
fn index_row(open: &[&Arc<Segment>], next: &Record, change: &Change) -> Result<(), OpenError> {
    let id: SegmentId = next.position.segment();
    let row = Row { revision: change.revision, offset: next.position.offset() as u32 };
    match open.iter().find(|segment| segment.id() == id).map(|segment| segment.rows()) {
        Some(Rows::Active(rows)) if !rows.push(row, frame_bytes(next)) => Err(malformed("segment", next)),
        _ => Ok(()),
    }
}

fn malformed(what: &'static str, record: &Record) -> OpenError {
    OpenError::Fault(Fault::new(FaultKind::Malformed { what, position: record.position }))
}

/// Applies one record of the tail.
fn apply(state: &mut State, next: &Record, change: Option<Change>) -> Result<(), OpenError> {
    match next.kind {
        record::CREATE | record::UPDATE | record::DELETE => {
            let change = change.ok_or_else(|| malformed("change", next))?;
            state
                .replay(&change, next.position)
                .ok_or_else(|| malformed("change that follows from the ones before", next))
        }
        record::COMMIT => {
            let commit = Commit::decode(&next.data).ok_or_else(|| malformed("end of a batch", next))?;
            state.revision = commit.revision;
            state.applied = commit.applied;
            Ok(())
        }
        record::COMPACT => {
            let revision = record::u64_at(&next.data, 0).ok_or_else(|| malformed("compaction", next))?;
            if !planted(Bug::CompactionForgottenAtRestart) {
                state.compacted = revision as i64;
            }
            Ok(())
        }
        record::TABLE_PUT => {
            let entry = record::decode_table_put(&next.data).ok_or_else(|| malformed("table entry", next))?;
            // Copied: an entry may stay for ever, and a slice would keep its segment mapped.
            let copy = |bytes: &[u8]| bytes::Bytes::copy_from_slice(bytes);
            state.tables.put(TableId(entry.0), copy(&entry.1), copy(&entry.2));
            Ok(())
        }
        record::TABLE_DELETE => {
            let (table, key) = next.data.split_first().ok_or_else(|| malformed("table entry", next))?;
            state.tables.delete(TableId(*table), key);
            Ok(())
        }
        record::FOOTER | record::ROWS => Ok(()),
        _ => Err(malformed("record of a known kind", next)),
    }
}

impl State {
    /// The state of an empty store.
    fn empty() -> State {
        let tree = Tree::default();
        let root = Root {
            tree: tree.freeze(),
            tables: Default::default(),
            revision: 1,
            compacted: -1,
            applied: Applied::default(),
            end: Position::START,
            written: Default::default(),
            epoch: Arc::new(Epoch { compacted: -1 }),
        };
        State {
            tree,
            tables: Default::default(),
            revision: 1,
            compacted: -1,
            applied: Applied::default(),
            root: Arc::new(root),
            pending: Arc::default(),
            batch: Batch::new(),
            base: Position::START,
            others: Vec::new(),
            others_bytes: 0,
            arena: BytesMut::new(),
            written: Default::default(),
            tombstones: VecDeque::new(),
        }
    }

    /// Applies a change read from the log; `None` when it does not follow from the state before it.
    fn replay(&mut self, change: &Change, place: Position) -> Option<()> {
        let fields = change.fields();
        let put = !change.is_delete();
        let (mut previous, mut version) = (Default::default(), 0);
        let compacted = self.compacted;
        self.tree.upsert(fields.key, place, |old| {
            previous = old.map(|old| old.revision).unwrap_or_default();
            let (head, marks) = next_head(old, change.revision, put, compacted);
            version = head.version;
            (head, marks)
        });
        if !put {
            let key = bytes::Bytes::copy_from_slice(fields.key);
            self.tombstones.push_back((change.revision.main, key));
        }
        self.revision = change.revision.main;
        self.written.add(change);
        // The tombstone before a creation may have left the index already, here or when the change was made.
        let follows = change.kind == record::CREATE || previous == change.previous;
        (version == fields.version && follows).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use ketch_wal::SimDisk;

    use super::*;
    use crate::{KeyRange, Progress, Query};

    thread_local! {
        static LOG_SEGMENT_BYTES: Cell<u64> = const { Cell::new(ketch_wal::SEGMENT_BYTES_MAX) };
    }

    pub(super) fn log_segment_bytes() -> u64 {
        LOG_SEGMENT_BYTES.get()
    }

    fn commit(store: &mut Store) {
        let index = store.applied().index + 1;
        store.commit(Applied { index, term: 1 }).unwrap();
        store.step(100).unwrap();
    }

    fn put(store: &mut Store, i: u32) {
        store.txn().put(format!("k{:02}", i % 40).as_bytes(), &i.to_be_bytes(), 0).unwrap();
        commit(store);
    }

    /// How many keys the index knows the places of; what lies there is theirs.
    fn known_places(store: &Store) -> usize {
        let entries =
            store.state.tree.iter_from(b"").filter_map(|(key, entry)| Some((key, entry, entry.place()?)));
        let read = entries.filter_map(|(key, entry, place)| {
            let wire = store.shared.log.share_at(place, entry.revision).unwrap()?;
            let fields = crate::encoding::decode(&wire).unwrap();
            assert_eq!((fields.key, fields.mod_revision), (key, entry.revision.main));
            Some(())
        });
        read.count()
    }

    /// The places that puts foresee are corrected when the log goes on to another segment, and found again after a start and after a
    /// rewrite.
    #[test]
    fn places_are_those_of_the_newest_records() {
        LOG_SEGMENT_BYTES.set(64 << 10);
        let disk = SimDisk::new(2);
        let options = Options { segment_bytes: 1 << 30, ..Options::default() };
        let mut store = Store::open(disk.clone(), Path::new("/s"), options.clone()).unwrap();
        for round in 0..50u32 {
            for i in 0..40 {
                let value = vec![round as u8; 97 * i as usize];
                store.txn().put(format!("k{i:02}").as_bytes(), &value, 0).unwrap();
            }
            commit(&mut store);
            assert_eq!(known_places(&store), 40, "all are known, in segments that are there");
        }
        assert!(store.shared.log.wal.segments().len() > 5, "the log went on to other segments");
        drop(store);
        // What is replayed is known; what a checkpoint held is found by reading it.
        let store = Store::open(disk.clone(), Path::new("/s"), options.clone()).unwrap();
        assert_eq!(known_places(&store), 40);
        store.background().checkpoint().unwrap();
        drop(store);
        let mut store = Store::open(disk.clone(), Path::new("/s"), options).unwrap();
        assert_eq!(known_places(&store), 0);
        store.reader().view().range(&Query::new(KeyRange::all())).unwrap();
        assert_eq!(known_places(&store), 40);
        // The segments they lie in are rewritten, or dropped.
        (0..39).for_each(|i| put(&mut store, i));
        store.compact(store.revision()).unwrap();
        commit(&mut store);
        while store.background().step(100).unwrap() == Progress::More {}
        let reader = store.reader();
        (0..40).for_each(|i| assert!(reader.view().get(format!("k{i:02}").as_bytes()).unwrap().is_some()));
        assert_eq!(known_places(&store), 40);
    }

    /// A view of uncommitted changes keeps places as puts have foreseen them, whatever the commit corrects in the tree: it must not read
    /// what lies there instead, before the commit or after, nor leave wrong places to others.
    #[test]
    fn views_of_uncommitted_changes_never_read_what_lies_at_foreseen_places() {
        LOG_SEGMENT_BYTES.set(64 << 10);
        let disk = SimDisk::new(5);
        let options = Options { segment_bytes: 16 << 10, ..Options::default() };
        let mut store = Store::open(disk, Path::new("/s"), options).unwrap();
        let key = |i: u32| format!("k{i:02}").into_bytes();
        let value = |round: u32, i: u32| {
            [&(round * 100 + i).to_be_bytes()[..], &vec![b'v'; 61 * i as usize]].concat()
        };
        // Of each view, which keys the round before had left.
        let check = |view: &crate::View, round: u32, upto: u32| {
            for i in 0..40 {
                let expected =
                    (i < upto || round > 0).then(|| value(if i < upto { round } else { round - 1 }, i));
                let found = view.get(&key(i)).unwrap().map(|kv| kv.value().to_vec());
                assert_eq!(found, expected, "key {i} of round {round}, put up to {upto}");
            }
            let all = view.range(&Query::new(KeyRange::all())).unwrap();
            let first = all.kvs.iter().map(|kv| u32::from_be_bytes(kv.value()[..4].try_into().unwrap()));
            let upto = if round == 0 { upto.min(40) } else { 40 };
            assert!(first.map(|n| n % 100).eq(0..upto));
        };
        let mut views = Vec::new();
        for round in 0..12u32 {
            for i in 0..40 {
                store.txn().put(&key(i), &value(round, i), 0).unwrap();
                if (i + round) % 13 == 0 {
                    let view = store.view_uncommitted();
                    check(&view, round, i + 1);
                    views.push((view, round, i + 1));
                }
                // The segment is closed with half of a batch foreseen in it.
                if i == 20 && round % 3 == 1 {
                    store.shared.log.seal().unwrap();
                }
            }
            commit(&mut store);
            views.iter().for_each(|(view, round, upto)| check(view, *round, *upto));
            check(&store.reader().view(), round, 40);
            assert_eq!(known_places(&store), 40);
        }
        assert!(store.shared.log.wal.segments().len() > 5, "the log went on to other segments");
    }

    /// A segment that the log ended by itself has no footer; those after it are rewritten under greater numbers and stand, in
    /// the log's order, before the segment a checkpoint ends in.
    #[test]
    fn segments_the_log_ended_by_itself_are_read_in_order() {
        LOG_SEGMENT_BYTES.set(64 << 10);
        let disk = SimDisk::new(1);
        let open = |segment_bytes| {
            let options = Options { segment_bytes, checkpoint_versions: 1 << 40, ..Options::default() };
            Store::open(disk.clone(), Path::new("/s"), options).unwrap()
        };
        let mut store = open(1 << 30);
        for i in 0..40u32 {
            let value = bytes::Bytes::from(vec![i as u8; 20_000]);
            store.table_put(TableId(1), bytes::Bytes::from_static(b"k"), value);
            put(&mut store, i);
        }
        assert!(store.shared.log.wal.segments().len() > 5, "the log went on to other segments");
        drop(store);
        let mut store = open(8 << 10);
        (0..2000).for_each(|i| put(&mut store, i));
        store.compact(store.revision() - 10).unwrap();
        commit(&mut store);
        while store.background().step(100).unwrap() == Progress::More {}
        store.background().checkpoint().unwrap();
        put(&mut store, 3);
        let everything = |store: &Store| {
            let view = store.reader().view();
            (view.range(&Query::new(KeyRange::all())).unwrap(), view.table(TableId(1)).get(b"k").cloned())
        };
        let order: Vec<u64> = store.shared.log.wal.segments().iter().map(|info| info.id.0).collect();
        assert!(!order.is_sorted(), "something was rewritten: {order:?}");
        let expected = everything(&store);
        drop(store);
        assert_eq!(everything(&open(8 << 10)), expected);
    }
}
