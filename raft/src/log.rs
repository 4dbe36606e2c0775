//! The joined log: what the storage holds, and on top what is not durable yet.
//!
//! Always: `applied <= applying <= committed <= last_index`.

use crate::config::ApplyTiming;
use crate::error::{Fault, StorageError};
use crate::storage::{Fetched, Storage};
use crate::trace::LogSummary;
use crate::types::{Entry, EntryId, Index, LIMIT, NodeId, SnapshotMeta, Term, fitting, wire_bytes};
use crate::unstable::{Appended, Unstable};

pub(crate) struct Log<S> {
    pub(crate) storage: S,
    pub(crate) unstable: Unstable,
    pub(crate) committed: Index,
    pub(crate) applying: Index,
    pub(crate) applied: Index,
    timing: ApplyTiming,
    max_applying_bytes: u64,
    applying_bytes: u64,
    /// The apply lane is full.
    applying_paused: bool,
}

/// Entries, their absence, or their promise.
pub(crate) enum Slice {
    Here(Vec<Entry>),
    Pending,
    Compacted,
}

fn storage_fault(error: StorageError) -> Fault {
    match error {
        StorageError::Failed(why) => Fault::Storage(why),
        StorageError::Compacted => Fault::StorageInconsistent("says compacted within its own bounds"),
        StorageError::Unavailable => Fault::StorageInconsistent("says unavailable within its own bounds"),
    }
}

impl<S: Storage> Log<S> {
    pub(crate) fn new(storage: S, timing: ApplyTiming, max_applying_bytes: u64) -> Result<Log<S>, Fault> {
        let (first, last) = (storage.first_index(), storage.last_index());
        if first == 0 || last > LIMIT || last < first - 1 {
            return Err(Fault::StorageInconsistent("first and last index contradict each other"));
        }
        let start = first - 1;
        Ok(Log {
            storage,
            unstable: Unstable::new(last + 1),
            committed: start,
            applying: start,
            applied: start,
            timing,
            max_applying_bytes,
            applying_bytes: 0,
            applying_paused: false,
        })
    }

    pub(crate) fn first_index(&self) -> Index {
        match &self.unstable.snapshot {
            Some(snapshot) => snapshot.index + 1,
            None => self.storage.first_index().clamp(1, LIMIT + 1),
        }
    }

    pub(crate) fn last_index(&self) -> Index {
        self.unstable.last_index().unwrap_or_else(|| self.storage.last_index().min(LIMIT))
    }

    /// The last entry durable here. (A batch that overwrites the storage's end lowers it until it is durable.)
    pub(crate) fn persisted(&self) -> Index {
        (self.unstable.offset - 1).min(self.storage.last_index())
    }

    pub(crate) fn last_id(&self) -> Result<EntryId, Fault> {
        let index = self.last_index();
        let term = self
            .term(index)?
            .ok_or(Fault::StorageInconsistent("does not know the term of its last entry"))?;
        Ok(EntryId { term, index })
    }

    /// `None` when compacted or beyond the end.
    pub(crate) fn term(&self, index: Index) -> Result<Option<Term>, Fault> {
        if let Some(term) = self.unstable.term(index) {
            return Ok(Some(term));
        }
        if index + 1 < self.first_index() || index > self.last_index() {
            return Ok(None);
        }
        match self.storage.term(index) {
            Ok(term) => Ok(Some(term)),
            Err(StorageError::Failed(why)) => Err(Fault::Storage(why)),
            Err(_) => Ok(None),
        }
    }

    pub(crate) fn matches(&self, id: EntryId) -> Result<bool, Fault> {
        Ok(self.term(id.index)? == Some(id.term))
    }

    /// Is a log that ends with `theirs` at least as complete as this one (paper, §5.4.1)?
    pub(crate) fn is_up_to_date(&self, theirs: EntryId) -> Result<bool, Fault> {
        let ours = self.last_id()?;
        Ok(theirs.term > ours.term || (theirs.term == ours.term && theirs.index >= ours.index))
    }

    /// The first of `entries` that this log does not hold.
    pub(crate) fn first_new(&self, entries: &[Entry]) -> Result<Option<usize>, Fault> {
        for (at, entry) in entries.iter().enumerate() {
            if !self.matches(entry.id())? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The highest index up to `index` where another log, which holds `term` there, may still match; with the own
    /// term there, 0 if unknown. Skips whole terms, so that a long divergent tail costs one round a term.
    pub(crate) fn conflict_by_term(&self, index: Index, term: Term) -> Result<(Index, Term), Fault> {
        let mut index = index;
        while index > 0 {
            match self.term(index)? {
                None => return Ok((index, 0)),
                Some(ours) if ours <= term => return Ok((index, ours)),
                Some(_) => index -= 1,
            }
        }
        Ok((0, 0))
    }

    /// Appends a consecutive run above the commit index.
    pub(crate) fn append(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
        first: Index,
    ) -> Result<Appended, Fault> {
        if first <= self.committed {
            return Err(Fault::ConflictBelowCommit { index: first, committed: self.committed });
        }
        if first > self.last_index() + 1 {
            return Err(Fault::Invariant("append leaves a gap"));
        }
        Ok(self.unstable.append(entries, first))
    }

    pub(crate) fn commit_to(&mut self, index: Index) -> Result<(), Fault> {
        if index > self.committed {
            if index > self.last_index() {
                return Err(Fault::CommitBeyondLog { commit: index, last_index: self.last_index() });
            }
            self.committed = index;
        }
        Ok(())
    }

    /// Commits up to `id` if that entry is of the given term (paper, §5.4.2: only the own term is counted).
    pub(crate) fn maybe_commit(&mut self, id: EntryId) -> Result<bool, Fault> {
        if id.term == 0 || id.index <= self.committed || !self.matches(id)? {
            return Ok(false);
        }
        self.commit_to(id.index)?;
        Ok(true)
    }

    pub(crate) fn applied_to(&mut self, index: Index, bytes: u64) -> Result<(), Fault> {
        if index > self.committed || index < self.applied {
            return Err(Fault::Invariant("applied moves backwards or past the commit index"));
        }
        self.applied = index;
        self.applying = self.applying.max(index);
        self.applying_bytes = self.applying_bytes.saturating_sub(bytes);
        self.applying_paused = self.applying_bytes >= self.max_applying_bytes;
        Ok(())
    }

    fn max_appliable(&self) -> Index {
        match self.timing {
            ApplyTiming::WithPersist => self.committed,
            ApplyTiming::AfterPersist => self.committed.min(self.unstable.offset - 1),
        }
    }

    pub(crate) fn has_appliable(&self) -> bool {
        !self.applying_paused && self.unstable.snapshot.is_none() && self.applying < self.max_appliable()
    }

    /// The committed entries that may be applied next.
    pub(crate) fn appliable(&self) -> Result<Slice, Fault> {
        if !self.has_appliable() {
            return Ok(Slice::Here(Vec::new()));
        }
        let room = self.max_applying_bytes.saturating_sub(self.applying_bytes);
        self.slice(self.applying + 1, self.max_appliable() + 1, room)
    }

    /// What [`Log::appliable`] would have returned without a limit: bounds and room.
    pub(crate) fn appliable_range(&self) -> (Index, Index, u64) {
        let room = self.max_applying_bytes.saturating_sub(self.applying_bytes);
        (self.applying + 1, self.max_appliable() + 1, room)
    }

    /// Entries up to `last` were handed out for applying.
    pub(crate) fn accept_applying(&mut self, last: Index, bytes: u64) {
        self.applying_bytes = self.applying_bytes.saturating_add(bytes);
        self.applying_paused = self.applying_bytes >= self.max_applying_bytes || last < self.max_appliable();
        self.applying = last;
    }

    pub(crate) fn restore(&mut self, snapshot: SnapshotMeta) {
        self.committed = snapshot.index;
        self.unstable.restore(snapshot);
    }

    pub(crate) fn snapshot(&self, at_least: Index, to: NodeId) -> Result<Option<SnapshotMeta>, Fault> {
        if let Some(snapshot) = &self.unstable.snapshot {
            return Ok(Some(snapshot.clone()));
        }
        match self.storage.snapshot(at_least, to) {
            Ok(meta) if meta.index == 0 => Err(Fault::StorageInconsistent("offers an empty snapshot")),
            Ok(meta) if meta.index > self.last_index() => {
                Err(Fault::StorageInconsistent("offers a snapshot from beyond the log"))
            }
            Ok(meta) => Ok(Some(meta).filter(|meta| meta.index >= at_least)),
            Err(StorageError::Unavailable) => Ok(None),
            Err(error) => Err(storage_fault(error)),
        }
    }

    /// Entries from `low` on, up to `max_bytes`; empty past the end.
    pub(crate) fn entries_from(&self, low: Index, max_bytes: u64) -> Result<Slice, Fault> {
        if low > self.last_index() {
            return Ok(Slice::Here(Vec::new()));
        }
        self.slice(low, self.last_index() + 1, max_bytes)
    }

    /// Entries `low..high`, cut by `max_bytes` but at least one.
    pub(crate) fn slice(&self, low: Index, high: Index, max_bytes: u64) -> Result<Slice, Fault> {
        if low < self.first_index() {
            return Ok(Slice::Compacted);
        }
        if low >= high {
            return Ok(Slice::Here(Vec::new()));
        }
        let offset = self.unstable.offset;
        if low >= offset {
            let run = self.unstable.slice(low, high);
            return Ok(Slice::Here(run[..fitting(run, max_bytes)].to_vec()));
        }
        let cut = high.min(offset);
        let mut entries = match self.storage.entries(low, cut, max_bytes) {
            Ok(Fetched::Here(entries)) => entries,
            Ok(Fetched::Pending) => return Ok(Slice::Pending),
            Err(StorageError::Compacted) => return Ok(Slice::Compacted),
            Err(error) => return Err(storage_fault(error)),
        };
        check_run(&entries, low, cut)?;
        let used = wire_bytes(&entries);
        if cut < high && entries.len() as u64 == cut - low && used < max_bytes {
            let run = self.unstable.slice(offset, high);
            let run = &run[..fitting(run, max_bytes - used)];
            if run.len() > 1 || used + wire_bytes(run) <= max_bytes {
                entries.extend_from_slice(run);
            }
        }
        Ok(Slice::Here(entries))
    }

    /// Is there a committed change of members not applied yet? `true` also when the owner would have to fetch to tell.
    pub(crate) fn has_unapplied_change(&self) -> Result<bool, Fault> {
        let mut low = self.applied + 1;
        while low <= self.committed {
            match self.slice(low, self.committed + 1, self.max_applying_bytes)? {
                Slice::Here(entries) if entries.is_empty() => {
                    return Err(Fault::StorageInconsistent("has no entries within its own bounds"));
                }
                Slice::Here(entries) if entries.iter().any(Entry::is_conf_change) => return Ok(true),
                Slice::Here(entries) => low += entries.len() as u64,
                Slice::Pending => return Ok(true),
                Slice::Compacted => return Ok(self.unstable.snapshot.is_none()),
            }
        }
        Ok(false)
    }

    pub(crate) fn summary(&self) -> LogSummary {
        LogSummary {
            committed: self.committed,
            applied: self.applied,
            applying: self.applying,
            unstable_offset: self.unstable.offset,
            unstable_in_progress: self.unstable.in_progress,
            unstable_len: self.unstable.entries.len(),
        }
    }
}

/// A storage must answer with a non-empty run from `low` within `low..high`.
pub(crate) fn check_run(entries: &[Entry], low: Index, high: Index) -> Result<(), Fault> {
    let consecutive = entries.iter().zip(low..).all(|(entry, index)| entry.index == index);
    if entries.is_empty() || !consecutive || entries.len() as u64 > high - low {
        return Err(Fault::StorageInconsistent("answers with other entries than asked for"));
    }
    Ok(())
}
