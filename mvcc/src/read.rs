//! Reading: a handle that takes the newest root without a lock, and a view that holds one root.

use std::sync::Arc;

use crate::error::{Fault, ReadError};
use crate::front::Front;
use crate::planted::{Bug, planted};
use crate::query;
use crate::shared::{Root, Values, lock};
use crate::tables::{Table, TableId};
use crate::types::{Applied, KeyRange, KeyValue, Query, RangeResult, Sizes};
use crate::version::{Snapshot, Version};

/// Takes views. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) front: Arc<Front>,
}

impl Reader {
    pub(crate) fn new(front: Arc<Front>) -> Reader {
        Reader { front }
    }

    /// The newest committed state. Neither waits for the writer nor makes it wait.
    pub fn view(&self) -> View {
        let shared = self.front.content();
        let root = shared.root.get();
        View::new(root, Values { shared, pending: None })
    }

    /// How large the store is. O(1) but for a look at each segment.
    pub fn sizes(&self) -> Sizes {
        crate::compaction::sizes(&self.front.content())
    }

    /// Tells a committer what everything up to the newest commit needs to be durable; see [`crate::Background::sync`].
    pub fn revision(&self) -> i64 {
        self.front.content().root.get().revision
    }
}

/// One state of the store, frozen: all answers are as of its revision, however long it is held. Holding it delays only
/// the unlinking of compacted data.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) root: Arc<Root>,
    pub(crate) values: Values,
}

impl View {
    pub(crate) fn new(root: Arc<Root>, values: Values) -> View {
        View { root, values }
    }

    /// The revision of the state.
    pub fn revision(&self) -> i64 {
        self.root.revision
    }

    /// The oldest revision that can be read; -1 when the store was never compacted.
    pub fn compacted(&self) -> i64 {
        self.root.compacted
    }

    /// The raft position of the state.
    pub fn applied(&self) -> Applied {
        self.root.applied
    }

    /// A small table.
    pub fn table(&self, table: TableId) -> &Table {
        self.root.tables.get(table)
    }

    /// The newest version of `key`.
    ///
    /// # Errors
    /// A [`Fault`] when the log cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Fault> {
        match self.root.tree.get(key).filter(|head| head.is_live()) {
            Some(head) => Ok(Some(KeyValue::trusted(self.values.read(head.revision)?.wire))),
            None => Ok(None),
        }
    }

    /// The number of keys in `range` at `revision` (0 or less for the view's own).
    ///
    /// # Errors
    /// [`ReadError`] when the revision is compacted or in the future, or the log cannot be read.
    pub fn count(&self, range: &KeyRange, revision: i64) -> Result<u64, ReadError> {
        let (root, at) = self.root_for(revision)?;
        Ok(Snapshot::new(&root, &self.values, at).count(range)?)
    }

    /// Answers `query`.
    ///
    /// # Errors
    /// [`ReadError`] when the query's revision is compacted or in the future, or the log cannot be read.
    pub fn range(&self, query: &Query) -> Result<RangeResult, ReadError> {
        let (root, at) = self.root_for(query.revision)?;
        let mut result =
            query::range(&Snapshot::new(&root, &self.values, at).with_keys(query.keys_only), query)?;
        result.revision = self.root.revision;
        // A root with uncommitted changes is not the state of any revision yet.
        let committed = self.values.pending.is_none() || planted(Bug::PinsUncommittedRoots);
        if result.more && root.revision == at && committed {
            let evicted = lock(&self.values.shared.ring).pin(&root);
            self.values.shared.let_go(evicted.and_then(Arc::into_inner).map(|root| root.tree));
        }
        Ok(result)
    }

    /// The keys of `range` with their versions at `revision` (0 or less for the view's own), in order; values are read
    /// as the iterator goes, so a million keys are never in memory together.
    ///
    /// # Errors
    /// [`ReadError`] when the revision is compacted or in the future.
    pub fn iter(&self, range: KeyRange, revision: i64) -> Result<Iter, ReadError> {
        let (root, at) = self.root_for(revision)?;
        Ok(Iter {
            root,
            _view: Arc::clone(&self.root),
            values: self.values.clone(),
            at,
            next: Some(range.start().to_vec()),
            range,
            page: Vec::new(),
            keys_only: false,
        })
    }

    /// The root to read `revision` from, and the revision itself.
    fn root_for(&self, revision: i64) -> Result<(Arc<Root>, i64), ReadError> {
        let current = self.root.revision;
        if revision > current {
            return Err(ReadError::Future { requested: revision, current });
        }
        let at = if revision <= 0 { current } else { revision };
        let below = at < self.root.compacted;
        if below || (at == self.root.compacted && planted(Bug::CompactionPointOffByOne)) {
            return Err(ReadError::Compacted { requested: revision, compacted: self.root.compacted });
        }
        if at == current {
            return Ok((Arc::clone(&self.root), at));
        }
        let near = lock(&self.values.shared.ring).nearest(at).filter(|root| root.revision < current);
        Ok((near.unwrap_or_else(|| Arc::clone(&self.root)), at))
    }
}

/// See [`View::iter`].
#[derive(Debug)]
pub struct Iter {
    root: Arc<Root>,
    /// Keeps what the view may read; the root read from may be one of a later compaction point.
    _view: Arc<Root>,
    values: Values,
    at: i64,
    range: KeyRange,
    /// The key to go on from; `None` behind the last.
    next: Option<Vec<u8>>,
    /// Versions found and not yet handed out, last first.
    page: Vec<Version>,
    keys_only: bool,
}

impl Iter {
    /// Leaves out the values, as [`Query::keys_only`] does.
    #[must_use]
    pub fn keys_only(self, keys_only: bool) -> Iter {
        Iter { keys_only, ..self }
    }

    /// Index entries looked at in one go.
    const PAGE: usize = 256;

    fn fill(&mut self) -> Result<(), Fault> {
        while self.page.is_empty() {
            let Some(from) = self.next.take() else { return Ok(()) };
            let snapshot = Snapshot::new(&self.root, &self.values, self.at).with_keys(self.keys_only);
            for (looked_at, (key, head)) in self.root.tree.iter_from(&from).enumerate() {
                if !self.range.contains(key) {
                    break;
                }
                if looked_at == Self::PAGE {
                    self.next = Some(key.to_vec());
                    break;
                }
                self.page.extend(snapshot.visible(key, head)?);
            }
            self.page.reverse();
        }
        Ok(())
    }
}

impl Iterator for Iter {
    type Item = Result<KeyValue, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(fault) = self.fill() {
            self.next = None;
            return Some(Err(fault));
        }
        let version = self.page.pop()?;
        if self.keys_only {
            return Some(Ok(version.key_only()));
        }
        Some(Snapshot::new(&self.root, &self.values, self.at).key_value(version))
    }
}
