//! The hashes of the last compactions: what there was up to a compaction point, as it was kept until then.
//!
//! etcd hashes while it compacts, keeps the last ten of these hashes, and answers `HashKV` at their revisions with them: so
//! a hash asked for before a compaction and one asked for after it are the same. A compaction leaves here the view that it
//! found; upkeep, or whoever asks first, makes the hash of it. Until then the view keeps what it holds from being dropped.
//! A restart forgets them, as in etcd.

use std::collections::VecDeque;
use std::sync::Mutex;

use ketch_mvcc::{ReadError, StoreHash, View};

use crate::sync::lock;

/// So many are kept, as in etcd.
const KEPT: usize = 10;

/// The hashes of the last compactions of one store; see the module's documentation.
#[derive(Debug, Default)]
pub struct CompactionHashes {
    /// Points and their hashes, the newest last.
    points: Mutex<VecDeque<(i64, State)>>,
}

#[derive(Clone, Debug)]
enum State {
    /// What the compaction found.
    Found(View),
    Known(StoreHash),
}

impl CompactionHashes {
    /// Takes note of a compaction at `point`, of what `view` shows.
    pub(super) fn compacting(&self, point: i64, view: View) {
        let mut points = lock(&self.points);
        points.push_back((point, State::Found(view)));
        if points.len() > KEPT {
            points.pop_front();
        }
    }

    /// Forgets everything: the store was replaced.
    pub(super) fn clear(&self) {
        lock(&self.points).clear();
    }

    /// Makes one hash that nobody asked for yet, with a `rest` now and then; says whether there was one to make.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn settle(&self, rest: fn()) -> Result<bool, ReadError> {
        let waiting = lock(&self.points).iter().find_map(|(point, state)| match state {
            State::Found(view) => Some((*point, view.clone())),
            State::Known(_) => None,
        });
        let Some((point, view)) = waiting else { return Ok(false) };
        self.know(point, view.resting(rest))?;
        Ok(true)
    }

    /// The points of the last compactions, the newest first.
    #[must_use]
    pub fn points(&self) -> Vec<i64> {
        lock(&self.points).iter().rev().map(|(point, _)| *point).collect()
    }

    /// The hash of the compaction at `point`, if it is one of the last; made with a `rest` now and then if nobody made it yet.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn at(&self, point: i64, rest: fn()) -> Result<Option<StoreHash>, ReadError> {
        let state = lock(&self.points).iter().find(|(at, _)| *at == point).map(|(_, state)| state.clone());
        match state {
            Some(State::Found(view)) => self.know(point, view.resting(rest)).map(Some),
            Some(State::Known(hash)) => Ok(Some(hash)),
            None => Ok(None),
        }
    }

    fn know(&self, point: i64, view: View) -> Result<StoreHash, ReadError> {
        let hash = view.hash(point)?;
        // It may have been dropped meanwhile.
        if let Some((_, state)) = lock(&self.points).iter_mut().find(|(at, _)| *at == point) {
            *state = State::Known(hash);
        }
        Ok(hash)
    }
}
