//! What the writer, readers and the background share of one folder's content.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

use bytes::Bytes;
use ketch_wal::{Disk, Position};

use crate::background::State;
use crate::compaction::Physical;
use crate::error::Fault;
use crate::index::publish::Cell;
use crate::index::{Entry, Frozen};
use crate::log::Log;
use crate::log::record::Change;
use crate::options::Options;
use crate::rest::Rest;
use crate::revision::Revision;
use crate::ring::Ring;
use crate::tables::Tables;
use crate::types::Applied;

/// A published state of the store. Never changes.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) tree: Frozen,
    pub(crate) tables: Tables,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) applied: Applied,
    /// Where the log ended when this was published: all that the root says lies before.
    pub(crate) end: Position,
    /// What all versions ever written add up to.
    pub(crate) written: Totals,
    /// Held by every root between two compactions.
    pub(crate) epoch: Arc<Epoch>,
}

/// Sums over versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) bytes: u64,
    pub(crate) versions: u64,
    /// Sum of the versions' hashes, modulo 2^64.
    pub(crate) hash: u64,
}

/// Tells how long roots of a compaction point live: what the next compaction kills is dropped only after them.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) compacted: i64,
}

/// See the file's comment.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) log: Log,
    pub(crate) root: Cell<Root>,
    pub(crate) ring: Mutex<Ring>,
    pub(crate) epochs: Mutex<VecDeque<Weak<Epoch>>>,
    pub(crate) durability: Mutex<Durability>,
    pub(crate) physical: Mutex<Physical>,
    pub(crate) background: Mutex<State>,
    fault: OnceLock<Fault>,
}

/// Up to where the log is durable, in the owner's terms.
#[derive(Debug, Default)]
pub(crate) struct Durability {
    /// Ends of batches that are not known to be durable, oldest first.
    pub(crate) marks: VecDeque<(Position, Applied)>,
    /// Of the newest durable batch.
    pub(crate) applied: Applied,
}

impl Durability {
    /// The most marks kept; beyond it every second one is forgotten, which only makes the answer older.
    const MARKS_MAX: usize = 4096;

    pub(crate) fn push(&mut self, end: Position, applied: Applied) {
        self.marks.push_back((end, applied));
        if self.marks.len() > Self::MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
            self.marks.push_back((end, applied));
        }
    }

    pub(crate) fn advance(&mut self, upto: Position) -> Applied {
        while let Some(&(end, applied)) = self.marks.front() {
            if end > upto {
                break;
            }
            self.applied = applied;
            self.marks.pop_front();
        }
        self.applied
    }
}

/// Locks whatever state the lock's last holder left: all of them leave it whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "called once, by recovery")]
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: Options,
        log: Log,
        root: Arc<Root>,
        durability: Durability,
        state: State,
        physical: Physical,
    ) -> Shared {
        let epoch = Arc::clone(&root.epoch);
        let ring = Ring::new(options.ring_roots, options.ring_revisions, options.open_lists, epoch);
        let epochs = VecDeque::from([Arc::downgrade(&root.epoch)]);
        Shared {
            disk,
            dir,
            log,
            ring: Mutex::new(ring),
            options,
            root: Cell::new(root),
            epochs: Mutex::new(epochs),
            durability: Mutex::new(durability),
            physical: Mutex::new(physical),
            background: Mutex::new(state),
            fault: OnceLock::new(),
        }
    }

    /// Remembers the first fault and hands it back.
    pub(crate) fn fail(&self, fault: Fault) -> Fault {
        self.fault.get_or_init(|| fault).clone()
    }

    /// The fault that stopped the store, if any.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Fault> {
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// The oldest compaction point that some root still stands for.
    pub(crate) fn oldest_epoch(&self) -> i64 {
        let mut epochs = lock(&self.epochs);
        loop {
            match epochs.front().map(Weak::upgrade) {
                Some(Some(epoch)) => return epoch.compacted,
                Some(None) => {
                    epochs.pop_front();
                }
                None => return i64::MAX,
            }
        }
    }
}

/// Changes that are not in the log yet: what a transaction reads of itself and of those just before it.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) changes: RwLock<Vec<Change>>,
}

impl Pending {
    #[inline(never)]
    fn find(&self, revision: Revision) -> Option<Change> {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        let found = changes.binary_search_by_key(&revision, |change| change.revision);
        found.ok().map(|i| changes[i].clone())
    }
}

/// The way from a revision to its change, for everybody who reads.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pending: Option<Arc<Pending>>,
    pub(crate) rest: Rest,
}

impl Values {
    /// The change of `revision`, if it is one that is not in the log yet.
    #[inline]
    pub(crate) fn pending(&self, revision: Revision) -> Result<Option<Change>, Fault> {
        self.shared.check()?;
        Ok(self.pending.as_ref().and_then(|pending| pending.find(revision)))
    }

    /// The change of `revision`, which the index knows.
    pub(crate) fn read(&self, revision: Revision) -> Result<Change, Fault> {
        match self.pending(revision)? {
            Some(change) => Ok(change),
            None => self.shared.log.read(revision),
        }
    }

    /// The key-value of an entry's newest version.
    #[inline]
    pub(crate) fn newest(&self, entry: &Entry<'_>) -> Result<Bytes, Fault> {
        if let Some(change) = self.pending(entry.revision)? {
            return Ok(change.wire);
        }
        if let Some(position) = entry.place()
            && let Some(wire) = self.shared.log.share_at(position, entry.revision)?
        {
            return Ok(wire);
        }
        let (position, wire) = self.shared.log.share(entry.revision)?;
        entry.found_at(position);
        Ok(wire)
    }
}
