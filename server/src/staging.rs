//! Snapshots between members: the view that a sender pins, and the store that a receiver fills beside its own.
//!
//! A store lives in one of two folders, and `DIR/current` names which (see `datadir.rs`). A received snapshot is made
//! complete, verified and durable in the other one before raft hears of it, and becomes the member's store by one durable
//! switch of `DIR/current`. A crash before raft has recorded it leaves a folder that nobody reads and that the
//! next transfer empties; a crash after that is rolled forward from the folder at the next start.

mod error;
mod incoming;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use ketch_mvcc::{ImportError, Options, Store, View};
use ketch_raft::SnapshotMeta;
use ketch_wal::Disk;

pub use error::{RollForwardError, StageError};
pub use incoming::Incoming;

use crate::datadir::{self, DataDirError, Half};
use crate::sync::lock;
use incoming::Place;

/// A view of the store that is kept for peers who need a snapshot.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The entry it ends with and the members after it.
    pub meta: SnapshotMeta,
    /// The content.
    pub view: View,
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
