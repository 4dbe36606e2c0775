//! Snapshots between members: the view that a sender pins, and the store that a receiver fills beside its own.
//!
//! A store lives in one of two folders, and `DIR/current` names which (see `datadir.rs`). A received snapshot is made
//! complete, verified and durable in the other one before raft hears of it, and becomes the member's store by one durable
//! switch of `DIR/current`. A crash before raft has recorded it leaves a folder that nobody reads and that the
//! next transfer empties; a crash after that is rolled forward from the folder at the next start.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use ketch_mvcc::{Cursor, Held, Import, ImportError, OpenError, Options, Store, View};
use ketch_raft::SnapshotMeta;
use ketch_wal::Disk;

use crate::datadir::{self, DataDirError, Half};
use crate::sync::lock;

/// A view of the store that is kept for peers who need a snapshot.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The entry it ends with and the members after it.
    pub meta: SnapshotMeta,
    /// The content.
    pub view: View,
}

/// Why a snapshot is not taken in. The member goes on as before.
#[derive(Debug)]
pub enum StageError {
    /// The chunks do not make a store, or the disk refuses it.
    Import(ImportError),
    /// Another snapshot is being taken in or waits to be installed.
    Busy,
    /// The content ends with another entry than announced.
    Mismatch {
        /// The entry announced.
        announced: u64,
        /// The entry that the content ends with.
        found: u64,
    },
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Import(error) => write!(f, "the snapshot cannot be taken in: {error}"),
            Self::Busy => f.write_str("another snapshot is being taken in"),
            Self::Mismatch { announced, found } => {
                write!(f, "a snapshot at entry {announced} was announced, its content ends with {found}")
            }
        }
    }
}

impl std::error::Error for StageError {}

impl From<ImportError> for StageError {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

/// Where a member stages the snapshots it is sent: one at a time.
#[derive(Debug)]
pub struct Staging {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    state: Mutex<State>,
    /// A transfer was cut off: what it has brought can be taken up.
    suspended: Condvar,
}

#[derive(Debug)]
struct State {
    /// Where the member's store is; snapshots go to the other half.
    current: Half,
    /// Alive while a transfer runs.
    turn: Weak<()>,
    /// A transfer that was cut off, to be resumed.
    unfinished: Option<Incoming>,
    /// A snapshot that is complete and not installed yet.
    complete: Option<Complete>,
    /// The member's store is about to take over a snapshot: it may still write where it was.
    installing: bool,
    /// The other half holds what nobody needs.
    litter: bool,
}

/// A snapshot that is complete and durable.
#[derive(Debug)]
struct Complete {
    meta: SnapshotMeta,
    store: Store,
    raft: Raft,
}

/// What raft makes of a snapshot that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Raft {
    /// It has not heard of it, and need not: whoever was to tell it may have been cut off.
    Unaware,
    /// It has been told, and may have recorded it: it has to be there.
    Told,
    /// It did not take it: an older leader's, or one that came too late.
    TurnedAway,
}

/// A snapshot on its way in.
#[derive(Debug)]
pub struct Incoming {
    meta: SnapshotMeta,
    /// Absent only while it begins anew.
    import: Option<Import>,
    place: Place,
    _turn: Arc<()>,
}

/// Where a snapshot is taken in, and how its store is opened.
#[derive(Debug)]
struct Place {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    options: Options,
}

impl Place {
    /// Begins with nothing.
    fn begin(&self) -> Result<Import, ImportError> {
        datadir::empty_folder(&*self.disk, &self.folder);
        Import::begin(Arc::clone(&self.disk), &self.folder, self.options.clone())
    }
}

impl Incoming {
    /// What it is going to be.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// What is here, of whatever state: the sender goes on from there if it can, and begins anew otherwise.
    #[must_use]
    pub fn held(&self) -> Held {
        self.import.as_ref().map_or(Held::NOTHING, Import::held)
    }

    /// Whether all of it is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.held().cursor().is_done()
    }

    /// How many times a sender of another state has gone on.
    #[must_use]
    pub fn times_gone_on(&self) -> u64 {
        self.import.as_ref().map_or(0, Import::times_gone_on)
    }

    /// Takes one chunk: the next one, the first one of a sender that goes on with another state, or the first one of all.
    ///
    /// # Errors
    /// A chunk that is damaged or does not follow, or the disk.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        if let Some(import) = &mut self.import {
            match import.chunk(bytes) {
                // The sender begins anew: what is here is no beginning of its state.
                Err(ImportError::OutOfPlace { expected, found })
                    if found == Cursor::START && expected != Cursor::START =>
                {
                    self.import = None;
                }
                done => return Ok(done?),
            }
        }
        let import = self.import.insert(self.place.begin()?);
        Ok(import.chunk(bytes)?)
    }
}

impl Staging {
    /// Stages in the member's directory `dir`, whose store is in the half `current`; stores are opened with `options`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, current: Half, options: Options) -> Staging {
        let state = State {
            current,
            turn: Weak::new(),
            unfinished: None,
            complete: None,
            installing: false,
            litter: true,
        };
        Staging { disk, dir: dir.to_owned(), options, state: Mutex::new(state), suspended: Condvar::new() }
    }

    /// Begins to take in the snapshot `meta`, or goes on where a transfer was cut off, were it of another state by another sender: see
    /// [`Incoming::held`].
    ///
    /// # Errors
    /// [`StageError::Busy`], or what the disk says.
    pub fn begin(&self, meta: &SnapshotMeta) -> Result<Incoming, StageError> {
        self.begin_in_turn(meta, Duration::ZERO)
    }

    /// The same; waits up to `patience` for a transfer that is under way to be cut off.
    ///
    /// # Errors
    /// As those of [`begin`](Self::begin).
    pub fn begin_in_turn(&self, meta: &SnapshotMeta, patience: Duration) -> Result<Incoming, StageError> {
        let under_way = |state: &mut State| state.turn.strong_count() > 0 && state.unfinished.is_none();
        let waited = self.suspended.wait_timeout_while(lock(&self.state), patience, under_way);
        let (mut state, _late) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = state.unfinished.take() {
            return Ok(Incoming { meta: meta.clone(), ..begun });
        }
        let is_wanted = state.complete.as_ref().is_some_and(|complete| complete.raft == Raft::Told);
        if state.turn.strong_count() > 0 || is_wanted || state.installing {
            return Err(StageError::Busy);
        }
        // Nobody is going to install it: whoever sends now takes its place.
        state.complete = None;
        let folder = self.dir.join(state.current.other().folder());
        let place = Place { disk: Arc::clone(&self.disk), folder, options: self.options.clone() };
        // Should nothing become of it.
        state.litter = true;
        let import = Some(place.begin()?);
        let turn = Arc::new(());
        state.turn = Arc::downgrade(&turn);
        Ok(Incoming { meta: meta.clone(), import, place, _turn: turn })
    }

    /// Keeps a transfer that was cut off, to be resumed by [`begin`](Self::begin).
    pub fn suspend(&self, incoming: Incoming) {
        lock(&self.state).unfinished = Some(incoming);
        self.suspended.notify_all();
    }

    /// The content is complete: it is verified and made durable. Now raft may hear of it.
    ///
    /// # Errors
    /// Content that is incomplete or wrong, or the disk; it is given up.
    pub fn finish(&self, incoming: Incoming) -> Result<(), StageError> {
        let Incoming { meta, import, _turn, .. } = incoming;
        let import = import.ok_or(ImportError::Chunk { reason: "chunks are missing" })?;
        let store = import.finish()?;
        let found = store.applied();
        if (found.index, found.term) != (meta.index, meta.term) {
            return Err(StageError::Mismatch { announced: meta.index, found: found.index });
        }
        lock(&self.state).complete = Some(Complete { meta, store, raft: Raft::Unaware });
        Ok(())
    }

    /// Raft is about to be told of the complete snapshot `meta`: it is kept from here on, until it is installed or [turned
    /// away](Self::turn_away). False when it is not here any more; then raft must not hear of it.
    #[must_use]
    pub fn offer(&self, meta: &SnapshotMeta) -> bool {
        self.mark(meta, Raft::Told)
    }

    /// Raft was told of the snapshot `meta` and did not take it: it makes room.
    pub fn turn_away(&self, meta: &SnapshotMeta) {
        self.mark(meta, Raft::TurnedAway);
    }

    fn mark(&self, meta: &SnapshotMeta, raft: Raft) -> bool {
        let mut state = lock(&self.state);
        let found = state.complete.as_mut().filter(|complete| complete.meta == *meta);
        found.map(|complete| complete.raft = raft).is_some()
    }

    /// Gives room back: forgets a complete snapshot that raft turned away (also one at or below `applied`, where the member is
    /// by itself), and empties the half that an installed one took over from. Readers of old views keep their files.
    pub fn tidy(&self, applied: u64) {
        let mut state = lock(&self.state);
        let is_useless =
            |complete: &Complete| complete.raft == Raft::TurnedAway || complete.meta.index <= applied;
        if state.complete.as_ref().is_some_and(is_useless) {
            state.complete = None;
            state.litter = true;
        }
        let used = state.turn.strong_count() > 0
            || state.unfinished.is_some()
            || state.complete.is_some()
            || state.installing;
        if state.litter && !used {
            state.litter = false;
            datadir::empty_folder(&*self.disk, &self.dir.join(state.current.other().folder()));
        }
    }

    /// Hands out the snapshot `meta`, complete and durable, and makes its folder the member's by one durable switch. From
    /// here on a start opens it.
    ///
    /// # Errors
    /// `None` if it is not here; the disk.
    pub fn install(&self, meta: &SnapshotMeta) -> Result<Option<Store>, DataDirError> {
        let mut state = lock(&self.state);
        let Some(Complete { store, .. }) = state.complete.take_if(|found| found.meta == *meta) else {
            return Ok(None);
        };
        let half = state.current.other();
        datadir::set_current(&*self.disk, &self.dir, half)?;
        (state.current, state.installing) = (half, true);
        Ok(Some(store))
    }

    /// The member's store has taken over the one that [`install`](Self::install) handed out: nobody writes into the other
    /// half any more.
    pub fn taken_over(&self) {
        let mut state = lock(&self.state);
        (state.installing, state.litter) = (false, true);
    }

    /// After a crash between the record of the snapshot `meta` and its installation: installs what was staged.
    ///
    /// # Errors
    /// A folder that does not open or holds something else; the disk.
    pub fn roll_forward(&self, meta: &SnapshotMeta) -> Result<Store, RollForwardError> {
        let folder = self.dir.join(lock(&self.state).current.other().folder());
        let store = Store::open(Arc::clone(&self.disk), &folder, self.options.clone())
            .map_err(RollForwardError::Open)?;
        let found = store.applied();
        if (found.index, found.term) != (meta.index, meta.term) {
            return Err(RollForwardError::Other { recorded: meta.index, found: found.index });
        }
        let mut state = lock(&self.state);
        let half = state.current.other();
        datadir::set_current(&*self.disk, &self.dir, half).map_err(RollForwardError::Switch)?;
        (state.current, state.litter) = (half, true);
        Ok(store)
    }
}

/// Why a snapshot that raft has recorded is not there after a crash. The member must not serve.
#[derive(Debug)]
pub enum RollForwardError {
    /// The staged store does not open.
    Open(OpenError),
    /// Something else is staged.
    Other {
        /// The entry that the recorded snapshot ends with.
        recorded: u64,
        /// The entry that the staged store ends with.
        found: u64,
    },
    /// `DIR/current` cannot be written.
    Switch(DataDirError),
}

impl fmt::Display for RollForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => write!(f, "the staged store does not open: {error}"),
            Self::Other { recorded, found } => {
                write!(f, "the log begins after entry {recorded}, the staged store ends with entry {found}")
            }
            Self::Switch(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RollForwardError {}

#[cfg(test)]
mod tests {
    use ketch_mvcc::Applied;
    use ketch_raft::ConfState;
    use ketch_wal::SimDisk;

    use super::*;
    use crate::datadir::DataDir;

    const DIR: &str = "/member";

    fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta { index, term: 2, conf_state: ConfState::of_voters([1, 2]) }
    }

    /// The chunks of a store that ends with entry `index` and holds so many keys.
    fn chunks(index: u64) -> Vec<Vec<u8>> {
        chunks_after(index, &Held::NOTHING)
    }

    /// What a receiver that has `held` is missing of it.
    fn chunks_after(index: u64, held: &Held) -> Vec<Vec<u8>> {
        chunks_of(index, 7, held)
    }

    /// The same where every value is of this byte.
    fn chunks_of(index: u64, byte: u8, held: &Held) -> Vec<Vec<u8>> {
        let disk: Arc<dyn Disk> = SimDisk::new(9);
        let mut store = Store::open(disk, Path::new("/sender"), Options::default()).unwrap();
        for key in 1..=index {
            let mut txn = store.txn();
            txn.put(format!("key {key}").as_bytes(), &[byte; 100], 0).unwrap();
            store.commit(Applied { index: key, term: 2 }).unwrap();
        }
        let mut export = store.reader().view().export_after(held);
        std::iter::from_fn(|| export.next_chunk(512).unwrap().map(|chunk| chunk.bytes.to_vec())).collect()
    }

    fn staging(disk: &Arc<SimDisk>, half: Half) -> Staging {
        let disk: Arc<dyn Disk> = Arc::<SimDisk>::clone(disk);
        Staging::new(disk, Path::new(DIR), half, Options::default())
    }

    fn take_in(staging: &Staging, index: u64) {
        let mut incoming = staging.begin(&meta(index)).unwrap();
        chunks(index).iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
        staging.finish(incoming).unwrap();
    }

    #[test]
    fn a_transfer_that_was_cut_off_goes_on_also_with_another_sender() {
        let disk = SimDisk::new(1);
        let staging = staging(&disk, Half::First);
        let chunks = chunks(30);
        let mut incoming = staging.begin(&meta(30)).unwrap();
        chunks[..3].iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
        assert!(matches!(staging.begin(&meta(30)), Err(StageError::Busy)), "one at a time");
        let held = incoming.held();
        staging.suspend(incoming);
        let mut incoming = staging.begin(&meta(30)).unwrap();
        assert_eq!(incoming.held(), held);
        incoming.chunk(&chunks[3]).unwrap();
        let held = incoming.held();
        staging.suspend(incoming);
        // Another sender has a newer one. It is cut off before it has said anything, and goes on then.
        staging.suspend(staging.begin(&meta(40)).unwrap());
        let mut incoming = staging.begin(&meta(40)).unwrap();
        assert_eq!(incoming.held(), held);
        let rest = chunks_after(40, &held);
        assert!(rest.len() < self::chunks(40).len() - 2);
        rest.iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
        assert_eq!(incoming.times_gone_on(), 1);
        staging.finish(incoming).unwrap();
        let store = staging.install(&meta(40)).unwrap().unwrap();
        assert_eq!((store.applied().index, store.revision()), (40, 41));
    }

    #[test]
    fn a_transfer_waits_for_the_one_before_it_to_be_cut_off() {
        let staging = staging(&SimDisk::new(4), Half::First);
        let mut first = staging.begin(&meta(30)).unwrap();
        chunks(30)[..3].iter().for_each(|chunk| first.chunk(chunk).unwrap());
        let held = first.held();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| staging.begin_in_turn(&meta(40), Duration::from_secs(60)));
            staging.suspend(first);
            assert_eq!(second.join().unwrap().unwrap().held(), held);
        });
    }

    #[test]
    fn a_sender_that_cannot_go_on_begins_anew() {
        let staging = staging(&SimDisk::new(5), Half::First);
        let mut incoming = staging.begin(&meta(30)).unwrap();
        chunks(30)[..4].iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
        staging.suspend(incoming);
        take_in(&staging, 12);
        assert_eq!(staging.install(&meta(12)).unwrap().unwrap().revision(), 13);
    }

    #[test]
    fn what_was_staged_of_a_history_that_never_was_is_found_out() {
        let staging = staging(&SimDisk::new(6), Half::First);
        let mut incoming = staging.begin(&meta(30)).unwrap();
        chunks_of(30, 8, &Held::NOTHING)[..3].iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
        let held = incoming.held();
        staging.suspend(incoming);
        let mut incoming = staging.begin(&meta(40)).unwrap();
        chunks_after(40, &held).iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
        let refused = staging.finish(incoming);
        assert!(matches!(refused, Err(StageError::Import(ImportError::Different { .. }))), "{refused:?}");
        // The next attempt begins with nothing.
        assert_eq!(staging.begin(&meta(40)).unwrap().held(), Held::NOTHING);
    }

    #[test]
    fn what_is_installed_survives_a_crash_and_the_next_one_takes_the_other_half() {
        let disk = SimDisk::new(2);
        drop(DataDir::open(&*disk, Path::new(DIR)).unwrap());
        let first = staging(&disk, Half::First);
        take_in(&first, 20);
        assert!(first.offer(&meta(20)));
        assert!(matches!(first.begin(&meta(30)), Err(StageError::Busy)), "one waits to be installed");
        assert!(first.install(&meta(19)).unwrap().is_none());
        assert_eq!(first.install(&meta(20)).unwrap().unwrap().applied().index, 20);
        assert!(
            matches!(first.begin(&meta(30)), Err(StageError::Busy)),
            "the old store may still be written to"
        );
        first.taken_over();
        take_in(&first, 30);
        drop(first);
        disk.crash();
        let dir = DataDir::open(&*disk, Path::new(DIR)).unwrap();
        let half = dir.current(&*disk).unwrap();
        assert_eq!(half, Half::Second);
        // The log recorded the second one before the crash, or did not.
        let again = staging(&disk, half);
        assert!(matches!(again.roll_forward(&meta(31)), Err(RollForwardError::Other { found: 30, .. })));
        assert_eq!(again.roll_forward(&meta(30)).unwrap().applied().index, 30);
        assert_eq!(dir.current(&*disk).unwrap(), Half::First);
    }

    /// Its sender was cut off before raft was told, or is an older leader: the member needs the next one all the same.
    #[test]
    fn a_snapshot_that_raft_does_not_take_makes_room() {
        let staging = staging(&SimDisk::new(7), Half::First);
        take_in(&staging, 20);
        take_in(&staging, 30);
        assert!(!staging.offer(&meta(20)), "too late: raft must not take what is not here");
        assert!(staging.offer(&meta(30)));
        assert!(matches!(staging.begin(&meta(40)), Err(StageError::Busy)), "raft may have recorded it");
        staging.turn_away(&meta(20));
        staging.tidy(10);
        assert!(matches!(staging.begin(&meta(40)), Err(StageError::Busy)), "it was another one");
        staging.turn_away(&meta(30));
        take_in(&staging, 40);
        assert!(staging.offer(&meta(40)));
        assert_eq!(staging.install(&meta(40)).unwrap().unwrap().applied().index, 40);
    }

    #[test]
    fn what_a_refused_transfer_brought_is_cleared_away_and_a_store_in_use_is_not() {
        let disk = SimDisk::new(8);
        drop(DataDir::open(&*disk, Path::new(DIR)).unwrap());
        let staging = staging(&disk, Half::First);
        let [first, second] = [Half::First, Half::Second].map(|half| Path::new(DIR).join(half.folder()));
        let mut incoming = staging.begin(&meta(30)).unwrap();
        incoming.chunk(&chunks(30)[0]).unwrap();
        staging.tidy(10);
        assert_ne!(disk.list(&second).unwrap(), [""; 0], "it is under way");
        drop(incoming);
        staging.tidy(10);
        assert_eq!(disk.list(&second).unwrap(), [""; 0]);
        // The old store may still write until it has been taken over.
        disk.create_dir_all(&first).unwrap();
        drop(disk.create(&first.join("in use")).unwrap());
        take_in(&staging, 20);
        let store = staging.install(&meta(20)).unwrap();
        staging.tidy(20);
        assert_eq!(disk.list(&first).unwrap(), ["in use"]);
        staging.taken_over();
        staging.tidy(20);
        assert_eq!(disk.list(&first).unwrap(), [""; 0]);
        drop(store);
    }

    #[test]
    fn content_that_is_not_what_was_announced_is_given_up() {
        let disk = SimDisk::new(3);
        let staging = staging(&disk, Half::First);
        let mut incoming = staging.begin(&meta(21)).unwrap();
        chunks(20).iter().for_each(|chunk| incoming.chunk(chunk).unwrap());
        let refused = staging.finish(incoming);
        assert!(matches!(refused, Err(StageError::Mismatch { announced: 21, found: 20 })));
        let mut incoming = staging.begin(&meta(20)).unwrap();
        incoming.chunk(&chunks(20)[0]).unwrap();
        assert!(matches!(staging.finish(incoming), Err(StageError::Import(_))), "it is incomplete");
        take_in(&staging, 20);
        staging.tidy(20);
        assert!(staging.install(&meta(20)).unwrap().is_none());
    }
}
