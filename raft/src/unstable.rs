//! The end of the log that is not durable yet.
//!
//! ```text
//!   storage ……………| offset … | in_progress … | end
//!                    being      not yet
//!                    written    handed out
//! ```
//! `offset` may lie below the end of the storage: the next batch then replaces what the storage holds there.

use crate::types::{Entry, EntryId, Index, SnapshotMeta, Term};

#[derive(Clone, Debug, Default)]
pub(crate) struct Unstable {
    /// A received snapshot that is not recorded and installed yet.
    pub(crate) snapshot: Option<SnapshotMeta>,
    /// It was handed out for persisting.
    pub(crate) snapshot_in_progress: bool,
    /// Consecutive from `offset`.
    pub(crate) entries: Vec<Entry>,
    pub(crate) offset: Index,
    /// The first entry not handed out; `offset <= in_progress <= offset + entries.len()`.
    pub(crate) in_progress: Index,
}

/// What a report of durability found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stabilized {
    Done,
    Mismatch(Option<Term>),
}

/// How appending changed what is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    AtEnd,
    ReplacedAll(Index),
    ReplacedFrom(Index),
}

impl Unstable {
    pub(crate) fn new(offset: Index) -> Unstable {
        Unstable { offset, in_progress: offset, ..Unstable::default() }
    }

    pub(crate) fn end(&self) -> Index {
        self.offset + self.entries.len() as u64
    }

    pub(crate) fn last_index(&self) -> Option<Index> {
        match (self.entries.last(), &self.snapshot) {
            (Some(last), _) => Some(last.index),
            (None, Some(snapshot)) => Some(snapshot.index),
            (None, None) => None,
        }
    }

    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index < self.offset {
            return self
                .snapshot
                .as_ref()
                .filter(|snapshot| snapshot.index == index)
                .map(|snapshot| snapshot.term);
        }
        self.entries.get((index - self.offset) as usize).map(|entry| entry.term)
    }

    /// Entries `low..high`, clamped to what is here.
    pub(crate) fn slice(&self, low: Index, high: Index) -> &[Entry] {
        let at = |index: Index| (index.clamp(self.offset, self.end()) - self.offset) as usize;
        &self.entries[at(low)..at(high).max(at(low))]
    }

    /// Not handed out yet.
    pub(crate) fn next_entries(&self) -> &[Entry] {
        self.slice(self.in_progress, self.end())
    }

    /// Not handed out yet.
    pub(crate) fn next_snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref().filter(|_| !self.snapshot_in_progress)
    }

    /// Everything was handed out.
    pub(crate) fn accept_in_progress(&mut self) {
        self.in_progress = self.end().max(self.in_progress);
        self.snapshot_in_progress = self.snapshot.is_some();
    }

    /// Everything up to `id` is durable and no batch on its way can overwrite it: the storage answers for it now.
    pub(crate) fn stable_to(&mut self, id: EntryId) -> Stabilized {
        match self.term(id.index) {
            None => Stabilized::Mismatch(None),
            Some(_) if id.index < self.offset => Stabilized::Mismatch(Some(0)),
            Some(term) if term != id.term => Stabilized::Mismatch(Some(term)),
            Some(_) => {
                self.entries.drain(..(id.index + 1 - self.offset) as usize);
                self.offset = id.index + 1;
                self.in_progress = self.in_progress.max(self.offset);
                Stabilized::Done
            }
        }
    }

    /// The snapshot at `index` is recorded and installed.
    pub(crate) fn stable_snapshot(&mut self, index: Index) {
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.index == index) {
            self.snapshot = None;
            self.snapshot_in_progress = false;
        }
    }

    /// A snapshot takes the place of everything.
    pub(crate) fn restore(&mut self, snapshot: SnapshotMeta) {
        *self = Unstable::new(snapshot.index + 1);
        self.snapshot = Some(snapshot);
    }

    /// Appends a non-empty consecutive run whose first index is at most one past the end.
    pub(crate) fn append(&mut self, entries: impl IntoIterator<Item = Entry>, first: Index) -> Appended {
        if first == self.end() {
            self.entries.extend(entries);
            Appended::AtEnd
        } else if first <= self.offset {
            self.entries.clear();
            self.entries.extend(entries);
            self.offset = first;
            self.in_progress = first;
            Appended::ReplacedAll(first)
        } else {
            self.entries.truncate((first - self.offset) as usize);
            self.entries.extend(entries);
            self.in_progress = self.in_progress.min(first);
            Appended::ReplacedFrom(first)
        }
    }
}
