//! Reading: a handle that takes the newest root without a lock, and a view that holds one root.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Fault, ReadError};
use crate::front::Front;
use crate::planted::{Bug, planted};
use crate::query;
use crate::rest::Rest;
use crate::shared::{Root, Values, lock};
use crate::tables::{Table, TableId};
use crate::types::{Applied, KeyRange, KeyValue, Query, RangeResult, Sizes};
use crate::version::{Lent, Snapshot};

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
        View::new(root, Values { shared, pending: None, rest: Rest::default() })
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

    /// The same state, read with breaks: between any few dozen key-values that a range, an iterator, a hash or a snapshot takes
    /// of it, `rest` is called on the thread that reads. It holds no lock then, so `rest` may sleep: for long reads beside short
    /// ones on few processors.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::sync::atomic::{AtomicUsize, Ordering};
    /// # use ketch_mvcc::{Applied, KeyRange, Options, Query, Store};
    /// static RESTS: AtomicUsize = AtomicUsize::new(0);
    /// # let dir = tempfile::tempdir()?;
    /// # let mut store = Store::open(Arc::new(ketch_wal::RealDisk), dir.path(), Options::default())?;
    /// # for number in 0..1000 {
    /// #     store.txn().put(format!("{number:04}").as_bytes(), b"", 0)?;
    /// # }
    /// # store.commit(Applied { index: 1, term: 1 })?;
    /// let view = store.reader().view().resting(|| {
    ///     RESTS.fetch_add(1, Ordering::Relaxed);
    /// });
    /// assert_eq!(view.range(&Query::new(KeyRange::all()))?.kvs.len(), 1000);
    /// assert!(RESTS.load(Ordering::Relaxed) >= 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn resting(self, rest: fn()) -> View {
        let View { root, values } = self;
        View { root, values: Values { rest: Rest::new(rest), ..values } }
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
            Some(entry) => Ok(Some(KeyValue::trusted(self.values.newest(&entry)?))),
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
        self.answer(query, |snapshot| query::range(snapshot, query))
    }

    /// Answers `query` like [`View::range`], but lends the encoding of each key-value to `f` instead of handing it out: for an
    /// answer that is copied at once, this saves a handle for each.
    ///
    /// # Errors
    /// Those of [`View::range`]; what `f` was lent before is then of no use.
    pub fn visit(&self, query: &Query, mut f: impl FnMut(&[u8])) -> Result<RangeResult, ReadError> {
        self.answer(query, |snapshot| query::visit(snapshot, query, |lent| f(lent.wire())))
    }

    fn answer(
        &self,
        query: &Query,
        answer: impl FnOnce(&Snapshot<'_>) -> Result<RangeResult, Fault>,
    ) -> Result<RangeResult, ReadError> {
        let (root, at) = self.root_for(query.revision)?;
        let mut result = answer(&Snapshot::new(&root, &self.values, at).with_keys(query.keys_only))?;
        result.revision = self.root.revision;
        // A root with uncommitted changes is not the state of any revision yet.
        let committed = self.values.pending.is_none() || planted(Bug::PinsUncommittedRoots);
        if result.more && root.revision == at && committed {
            let evicted = lock(&self.values.shared.ring).pin(&root);
            drop(evicted);
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
            rest: Some(range),
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
    /// What is left of the range; `None` when nothing is.
    rest: Option<KeyRange>,
    /// Key-values found and not yet handed out, last first.
    page: Vec<KeyValue>,
    keys_only: bool,
}

impl Iter {
    /// Leaves out the values, as [`Query::keys_only`] does.
    #[must_use]
    pub fn keys_only(self, keys_only: bool) -> Iter {
        Iter { keys_only, ..self }
    }

    /// Key-values found in one go.
    const PAGE: u64 = 256;

    fn fill(&mut self) -> Result<(), Fault> {
        let Some(range) = self.rest.take() else { return Ok(()) };
        let snapshot = Snapshot::new(&self.root, &self.values, self.at);
        let page = &mut self.page;
        let take = |lent: Lent<'_>| page.push(KeyValue::trusted(lent.share()));
        let more = query::page(&snapshot, &range, Self::PAGE, self.keys_only, take)?;
        self.rest = self.page.last().filter(|_| more).map(|last| behind(&last.key(), range));
        self.page.reverse();
        Ok(())
    }
}

/// What of `range` lies behind `key`.
fn behind(key: &[u8], range: KeyRange) -> KeyRange {
    let end = match range {
        KeyRange::Single(_) => Some(Bytes::new()),
        KeyRange::Span { end, .. } => end,
    };
    KeyRange::Span { start: [key, &[0]].concat().into(), end }
}

impl Iterator for Iter {
    type Item = Result<KeyValue, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && let Err(fault) = self.fill()
        {
            self.page.clear();
            return Some(Err(fault));
        }
        self.page.pop().map(Ok)
    }
}
