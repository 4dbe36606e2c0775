//! What raft reads back of its log: the newest entries from memory, terms and places of all, older entries
//! by way of the fetch lane.
//!
//! Raft only reads here; the consensus core appends what the log thread has made durable, before it reports
//! the batch as persisted. Nothing in this file touches a disk: an entry that memory no longer holds is
//! answered with *pending*, and its place in the log tells the fetch lane where to read it.

use std::cell::Cell;
use std::collections::VecDeque;

use ketch_raft::{
    ConfState, Entry, Fetched, HardState, Index, NodeId, SnapshotMeta, Storage, StorageError, Term,
};
use ketch_wal::Position;

/// How many bytes of entries stay in memory once they are applied: a follower that is behind by less than that needs no disk. What it
/// needs beyond it is read back from the log, most of it from the system's memory.
const CACHE_BYTES: usize = 1 << 20;
/// While a view is pinned for peers, the log keeps at most so many bytes after it: a peer that takes longer begins
/// again with a newer view.
const PIN_HOLDS_BYTES: u64 = 4 << 30;
/// What an entry costs in memory beside its payload.
const ENTRY_OVERHEAD: usize = 64;

/// The joined view of the raft log: places and terms of every entry, the newest entries themselves.
#[derive(Debug)]
pub struct LogStorage {
    hard_state: HardState,
    conf_state: ConfState,
    /// Index and term of the entry before the first one (0, 0 for a log that begins at 1).
    before: (Index, Term),
    /// Where each term begins: (first index of the term, term), ascending.
    terms: VecDeque<(Index, Term)>,
    /// Place of every entry after `before`.
    positions: VecDeque<Position>,
    /// The newest entries; the last one is the log's last.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    /// How many bytes it may hold.
    cache_bytes_max: usize,
    /// Entries above this index stay in memory whatever they weigh: they are not applied yet.
    applied: Index,
    /// The view of the store that is pinned for peers, if one is.
    pinned: Option<SnapshotMeta>,
    /// Raft asked for a snapshot that is not there.
    snapshot_wanted: Cell<bool>,
    /// Bytes appended since the pinned view was made.
    bytes_since_pin: u64,
}

impl LogStorage {
    /// An empty log that begins after the entry `before` (index, term).
    #[must_use]
    pub fn new(before: (Index, Term)) -> LogStorage {
        LogStorage {
            hard_state: HardState::default(),
            conf_state: ConfState::default(),
            before,
            terms: VecDeque::new(),
            positions: VecDeque::new(),
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_bytes_max: CACHE_BYTES,
            applied: before.0,
            pinned: None,
            snapshot_wanted: Cell::new(false),
            bytes_since_pin: 0,
        }
    }

    /// The log begins anew after what `snapshot` stands for: it was received in place of the log.
    pub fn restart_at(&mut self, snapshot: &SnapshotMeta) {
        let hard_state = self.hard_state;
        *self = LogStorage::new((snapshot.index, snapshot.term));
        self.hard_state = hard_state;
        self.conf_state = snapshot.conf_state.clone();
    }

    /// Notes the view of the store that peers may be sent, or that there is none any more. While there is one, the log
    /// keeps what follows it, up to a limit of bytes.
    pub fn set_pinned(&mut self, meta: Option<SnapshotMeta>) {
        self.pinned = meta;
        self.bytes_since_pin = 0;
    }

    /// The view of the store that peers may be sent.
    #[must_use]
    pub fn pinned(&self) -> Option<&SnapshotMeta> {
        self.pinned.as_ref()
    }

    /// Whether raft asked for a snapshot that was not there, since this was asked last.
    pub fn take_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.take()
    }

    /// Index and term of what lies before the first entry.
    #[must_use]
    pub fn before(&self) -> (Index, Term) {
        self.before
    }

    /// Appends durable entries with their places; an entry at or below the last index replaces the tail from
    /// there. Entries below the first index are passed over (they are purged).
    ///
    /// # Errors
    /// The index of a gap: an entry that neither follows nor replaces one of this log.
    pub fn append(&mut self, entries: Vec<Entry>, positions: &[Position]) -> Result<(), Index> {
        for (entry, position) in entries.into_iter().zip(positions) {
            if entry.index <= self.before.0 {
                continue;
            }
            if entry.index > self.last_index() + 1 {
                return Err(entry.index);
            }
            if entry.index <= self.last_index() {
                self.truncate_from(entry.index);
            }
            if self.terms.back().is_none_or(|&(_, term)| term != entry.term) {
                self.terms.push_back((entry.index, entry.term));
            }
            self.positions.push_back(*position);
            let weight = weight(&entry);
            self.cache_bytes += weight;
            self.bytes_since_pin += weight as u64;
            self.cache.push_back(entry);
        }
        self.trim();
        Ok(())
    }

    /// Notes the newest durable hard state.
    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// The newest durable hard state.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Sets the membership that raft starts from.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Notes that everything up to `index` is applied, so memory may let go of it.
    pub fn set_applied(&mut self, index: Index) {
        self.applied = self.applied.max(index);
        self.trim();
    }

    /// Up to where everything is applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The place of the entry at `index`.
    #[must_use]
    pub fn position(&self, index: Index) -> Option<Position> {
        let offset = index.checked_sub(self.before.0 + 1)?;
        self.positions.get(usize::try_from(offset).ok()?).copied()
    }

    /// Forgets entries up to and including `index`, which must be applied; the log may then drop what lies
    /// before the place returned, which is that of the entry `index` itself.
    pub fn purge_to(&mut self, index: Index) -> Option<Position> {
        // A peer that takes in the pinned view goes on from there.
        let held = self.pinned.as_ref().filter(|_| self.bytes_since_pin < PIN_HOLDS_BYTES);
        let index = index.min(held.map_or(Index::MAX, |meta| meta.index));
        let index = index.min(self.applied).min(self.last_index());
        if index <= self.before.0 {
            return None;
        }
        let term = self.term(index).ok()?;
        let dropped = usize::try_from(index - self.before.0).ok()?;
        // The entry itself stays in the log: after a restart it tells the term of the base.
        let keep_from = self.position(index);
        self.positions.drain(..dropped);
        self.before = (index, term);
        while self.terms.get(1).is_some_and(|&(first, _)| first <= index + 1) {
            self.terms.pop_front();
        }
        if self.positions.is_empty() {
            self.terms.clear();
        }
        while self.cache.front().is_some_and(|entry| entry.index <= index) {
            self.pop_oldest();
        }
        keep_from
    }

    fn truncate_from(&mut self, index: Index) {
        let keep = usize::try_from(index - self.before.0 - 1).unwrap_or(usize::MAX);
        self.positions.truncate(keep);
        while self.terms.back().is_some_and(|&(first, _)| first >= index) {
            self.terms.pop_back();
        }
        while self.cache.back().is_some_and(|entry| entry.index >= index) {
            if let Some(entry) = self.cache.pop_back() {
                self.cache_bytes -= weight(&entry);
            }
        }
    }

    /// Keeps fewer bytes of applied entries in memory, so that a simulation comes to read them back.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn keep_in_memory(&mut self, bytes: usize) {
        self.cache_bytes_max = bytes;
        self.trim();
    }

    fn trim(&mut self) {
        while self.cache_bytes > self.cache_bytes_max
            && self.cache.front().is_some_and(|entry| entry.index <= self.applied)
        {
            self.pop_oldest();
        }
    }

    fn pop_oldest(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cache_bytes -= weight(&entry);
        }
    }
}

fn weight(entry: &Entry) -> usize {
    usize::try_from(entry.payload_bytes()).unwrap_or(usize::MAX).saturating_add(ENTRY_OVERHEAD)
}

impl Storage for LogStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        Ok((self.hard_state, self.conf_state.clone()))
    }

    fn entries(&self, low: Index, high: Index, max_bytes: u64) -> Result<Fetched, StorageError> {
        if low <= self.before.0 {
            return Err(StorageError::Compacted);
        }
        if high > self.last_index() + 1 {
            return Err(StorageError::Unavailable);
        }
        let Some(start) = self.cache.front().and_then(|oldest| low.checked_sub(oldest.index)) else {
            return Ok(Fetched::Pending);
        };
        let start = usize::try_from(start).map_err(|_| StorageError::Unavailable)?;
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in self
            .cache
            .iter()
            .skip(start)
            .take(usize::try_from(high.saturating_sub(low)).unwrap_or(usize::MAX))
        {
            bytes += entry.wire_bytes();
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(Fetched::Here(found))
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        if index < self.before.0 {
            return Err(StorageError::Compacted);
        }
        if index > self.last_index() {
            return Err(StorageError::Unavailable);
        }
        let run = self.terms.partition_point(|&(first, _)| first <= index);
        run.checked_sub(1)
            .and_then(|run| self.terms.get(run))
            .map(|&(_, term)| term)
            .ok_or(StorageError::Unavailable)
    }

    fn first_index(&self) -> Index {
        self.before.0 + 1
    }

    fn last_index(&self) -> Index {
        self.before.0 + self.positions.len() as u64
    }

    fn snapshot(&self, at_least: Index, to: NodeId) -> Result<SnapshotMeta, StorageError> {
        let fits = |meta: &&SnapshotMeta| meta.index >= at_least && meta.conf_state.contains(to);
        if let Some(meta) = self.pinned.as_ref().filter(fits) {
            return Ok(meta.clone());
        }
        self.snapshot_wanted.set(true);
        Err(StorageError::Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ketch_raft::Payload;

    fn entry(index: Index, term: Term, len: usize) -> Entry {
        Entry { term, index, payload: Payload::Normal(Bytes::from(vec![0; len])) }
    }

    fn filled(terms: &[Term], len: usize) -> LogStorage {
        let mut log = LogStorage::new((0, 0));
        for (at, &term) in terms.iter().enumerate() {
            let index = at as u64 + 1;
            log.append(vec![entry(index, term, len)], &[Position::from_u64(index * 100)]).unwrap();
        }
        log
    }

    #[test]
    fn terms_and_places_follow_appends_truncations_and_purges() {
        let mut log = filled(&[1, 1, 2, 2, 5], 3);
        assert_eq!((log.first_index(), log.last_index()), (1, 5));
        assert_eq!((1..=5).map(|i| log.term(i).unwrap()).collect::<Vec<_>>(), [1, 1, 2, 2, 5]);
        // A newer leader replaces the tail from 4 on.
        log.append(vec![entry(4, 6, 1)], &[Position::from_u64(900)]).unwrap();
        assert_eq!(log.last_index(), 4);
        assert_eq!(log.term(4).unwrap(), 6);
        assert_eq!(log.position(4), Some(Position::from_u64(900)));
        assert!(log.term(5).is_err());
        // Nothing unapplied is purged.
        assert_eq!(log.purge_to(3), None);
        log.set_applied(3);
        assert_eq!(log.purge_to(9), Some(Position::from_u64(300)));
        assert_eq!((log.first_index(), log.last_index()), (4, 4));
        assert_eq!(log.term(3).unwrap(), 2);
        assert_eq!(log.term(4).unwrap(), 6);
        assert_eq!(log.term(2), Err(StorageError::Compacted));
        log.set_applied(4);
        assert_eq!(log.purge_to(4), Some(Position::from_u64(900)));
        assert_eq!(log.term(4).unwrap(), 6);
        log.append(vec![entry(5, 7, 1)], &[Position::from_u64(950)]).unwrap();
        assert_eq!(log.term(5).unwrap(), 7);
    }

    #[test]
    fn a_gap_is_refused() {
        let mut log = filled(&[1, 1], 3);
        assert_eq!(log.append(vec![entry(4, 1, 1)], &[Position::from_u64(1)]), Err(4));
        assert_eq!(log.last_index(), 2);
    }

    #[test]
    fn memory_is_bounded_by_bytes_but_keeps_what_is_not_applied() {
        let mut log = filled(&[1; 10], CACHE_BYTES / 4);
        assert!(matches!(log.entries(1, 11, u64::MAX), Ok(Fetched::Here(all)) if all.len() == 10));
        log.set_applied(9);
        assert!(matches!(log.entries(1, 2, u64::MAX), Ok(Fetched::Pending)));
        assert!(matches!(log.entries(9, 11, u64::MAX), Ok(Fetched::Here(all)) if all.len() == 2));
        assert!(log.cache_bytes <= CACHE_BYTES);
    }

    #[test]
    fn entries_are_limited_by_bytes_but_one_always_comes() {
        let log = filled(&[1; 4], 100);
        let count = |max| match log.entries(1, 5, max) {
            Ok(Fetched::Here(found)) => found.len(),
            other => panic!("{other:?}"),
        };
        let one = entry(1, 1, 100).wire_bytes();
        assert_eq!((count(0), count(one), count(2 * one), count(u64::MAX)), (1, 1, 2, 4));
    }
}
