//! The store: one writer, any number of readers, one atomic batch at a time.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use ketch_wal::{Appended, Batch, Disk, Position};

use crate::background::Background;
use crate::compaction;
use crate::error::{CompactError, Fault, FaultKind, OpenError};
use crate::front::Front;
use crate::hash;
use crate::index::marks::{Mark, STRIDE};
use crate::index::{Entry, Head, Marks, Tree};
use crate::log::record::{self, Change, Commit};
use crate::options::Options;
use crate::planted::{Bug, planted};
use crate::read::{Reader, View};
use crate::recovery;
use crate::rest::Rest;
use crate::revision::Revision;
use crate::shared::{Epoch, Pending, Root, Shared, Values, lock};
use crate::tables::{Table, TableId, Tables};
use crate::types::{Applied, Sizes};
use crate::watch::hub::Hub;
use crate::watch::stream::WatchHub;
use crate::write::WriteTxn;

/// Whether there is more to do of some duty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Nothing to do now.
    Idle,
    /// Call again.
    More,
}

/// What compaction asks for and how far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompactionProgress {
    /// The logical compaction point; -1 when the store was never compacted.
    pub logical: i64,
    /// The point up to which every dead version has been found and left the sizes; -1 when none.
    pub physical: i64,
    /// How many versions have been found dead so far.
    pub dead: u64,
}

impl CompactionProgress {
    /// Whether nothing is left to do for the logical compaction point.
    pub fn is_done(&self) -> bool {
        self.physical >= self.logical
    }
}

/// The single writer's handle to a revision store.
///
/// Changes are made in transactions ([`Store::txn`]) and to small tables; [`Store::commit`] makes everything since the
/// last commit one atomic batch of the log and publishes it. Readers ([`Store::reader`]) never wait for the writer, nor
/// it for them. Blocking work — syncing, checkpoints, compaction — is in [`Background::step`], for another thread;
/// [`Store::step`] does the short part that needs the writer's hands.
#[derive(Debug)]
pub struct Store {
    front: Arc<Front>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: State,
}

/// The writer's state: what the next root is made of.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) tree: Tree,
    pub(crate) tables: Tables,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) applied: Applied,
    pub(crate) root: Arc<Root>,
    pub(crate) pending: Arc<Pending>,
    /// The batch in the making: changes first, then everything else.
    pub(crate) batch: Batch,
    /// Where the first of its records is going to lie.
    pub(crate) base: Position,
    /// Records that follow the changes in the batch.
    pub(crate) others: Vec<(u8, Vec<u8>)>,
    /// What these take there.
    pub(crate) others_bytes: u64,
    /// Where encodings are made before they go to the batch and to watchers.
    pub(crate) arena: bytes::BytesMut,
    pub(crate) written: crate::shared::Totals,
    /// Tombstones in the index, oldest first; they go when a compaction has passed them.
    pub(crate) tombstones: std::collections::VecDeque<(i64, Bytes)>,
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>, state: State) -> Store {
        Store { front: Arc::new(Front::new(Arc::clone(&shared))), shared, state }
    }

    /// Opens the store in `dir`, or begins one there.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is in use, damaged or of another format. A torn tail of the log, which a crash
    /// leaves, is no error: the store is then that of an earlier commit, and [`Store::applied`] says which.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Store, OpenError> {
        recovery::open(disk, dir, options)
    }

    /// The newest revision; 1 in an empty store, so that the first write is 2.
    pub fn revision(&self) -> i64 {
        self.state.revision
    }

    /// The compaction point: the oldest revision that can be read; -1 when the store was never compacted, as in etcd.
    pub fn compacted(&self) -> i64 {
        self.state.compacted
    }

    /// The raft position of the last committed batch.
    pub fn applied(&self) -> Applied {
        self.state.applied
    }

    /// The raft position up to which everything survives a crash: the raft log may be purged behind it. Advances when
    /// [`Background::step`] has synced.
    pub fn durable_applied(&self) -> Applied {
        lock(&self.shared.durability).advance(self.shared.log.wal.durable_upto())
    }

    /// Begins a transaction. All its changes share one main revision, taken at the first of them.
    pub fn txn(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// Makes `revision` the oldest that can be read. Effective at once for new views after the next commit, durable with
    /// it; space is given back in the background.
    ///
    /// # Errors
    /// When the revision is at or below the present compaction point, or in the future.
    pub fn compact(&mut self, revision: i64) -> Result<(), CompactError> {
        self.shared.check().map_err(CompactError::Fault)?;
        compaction::check(revision, self.state.revision, self.state.compacted)?;
        self.state.compacted = revision;
        self.state.add_other(record::COMPACT, revision.to_le_bytes().to_vec());
        Ok(())
    }

    /// How far compaction is.
    pub fn compaction_progress(&self) -> CompactionProgress {
        // A forgotten copy of an old root would hold compaction up; having the store excludes the writer.
        self.shared.root.tidy();
        let physical = *lock(&self.shared.physical);
        CompactionProgress {
            logical: self.state.compacted,
            physical: physical.done,
            dead: physical.dead.versions,
        }
    }

    /// A small table, uncommitted changes included.
    pub fn table(&self, table: TableId) -> &Table {
        self.state.tables.get(table)
    }

    /// Puts an entry into a small table; part of the next commit.
    pub fn table_put(&mut self, table: TableId, key: Bytes, value: Bytes) {
        let mut data = Vec::with_capacity(5 + key.len() + value.len());
        data.push(table.0);
        data.extend_from_slice(&(key.len() as u32).to_le_bytes());
        data.extend_from_slice(&key);
        data.extend_from_slice(&value);
        if !planted(Bug::TablesOutsideTheBatch) {
            self.state.add_other(record::TABLE_PUT, data);
        }
        self.state.tables.put(table, key, value);
    }

    /// Takes an entry out of a small table; part of the next commit.
    pub fn table_delete(&mut self, table: TableId, key: &[u8]) {
        if self.state.tables.delete(table, key) {
            let mut data = Vec::with_capacity(1 + key.len());
            data.push(table.0);
            data.extend_from_slice(key);
            self.state.add_other(record::TABLE_DELETE, data);
        }
    }

    /// Makes everything since the last commit one atomic batch of the log, together with `applied`, and publishes it to
    /// readers and watchers. A commit that changes nothing but `applied` is written only now and then: losing it in a
    /// crash means applying commands again that change nothing.
    ///
    /// # Errors
    /// A [`Fault`]: the log refused. Nothing was published; the store answers nothing any more.
    pub fn commit(&mut self, applied: Applied) -> Result<(), Fault> {
        self.shared.check()?;
        if applied < self.state.applied {
            let rule = "applied positions never go back";
            return Err(Fault::new(FaultKind::Misuse { rule }));
        }
        self.write(applied, false).map_err(|fault| self.shared.fail(fault))
    }

    /// See [`Store::commit`]; `now` writes even what changes nothing.
    pub(crate) fn write(&mut self, applied: Applied, now: bool) -> Result<(), Fault> {
        self.state.commit(&self.shared, &self.front.hub, applied, now)
    }

    /// Takes over content and folder of `staged`, a store that another folder was made into by an [`Import`] of the same
    /// history at a later point, in place of its own.
    ///
    /// Every handle goes on. Views taken from now on see the new content, those taken before keep the old one: its files
    /// are open as long as they live, and may be removed at once. Watchers go on from the revision each of them wants next
    /// as late ones, so none skips or repeats anything; those that want something below the new compaction point end with it. The
    /// new content is durable through [`Store::durable_applied`] as it was in `staged`. Waits for a slice of [`Background::step`] and
    /// one of [`WatchHub::step`] when these are under way.
    ///
    /// # Errors
    /// A [`Fault`] of either store; or a misuse: either has uncommitted changes, or `staged` is behind. Nothing has changed then.
    ///
    /// [`Import`]: crate::Import
    pub fn adopt(&mut self, staged: Store) -> Result<(), Fault> {
        self.shared.check()?;
        staged.shared.check()?;
        let refuse = |rule| Err(Fault::new(FaultKind::Misuse { rule }));
        if self.state.has_uncommitted() || staged.state.has_uncommitted() {
            return refuse("a store is adopted between commits");
        }
        if staged.state.revision < self.state.revision || staged.state.applied < self.state.applied {
            return refuse("an adopted store is not behind");
        }
        let Store { shared, state, .. } = staged;
        let old = std::mem::replace(&mut self.shared, shared);
        self.state = state;
        self.front.replace(old, &self.shared);
        Ok(())
    }

    /// How many bytes the next [`Store::commit`] writes to the log for what has been changed since the last one, in O(1); the
    /// commit's own frame of about a hundred bytes is not counted. A commit can hold 1 GiB.
    pub fn pending_bytes(&self) -> u64 {
        self.state.batch.bytes() as u64 + self.state.others_bytes
    }

    /// A handle for readers.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.front))
    }

    /// The state as of now, uncommitted changes included.
    pub fn view_uncommitted(&self) -> View {
        let root = self.state.root_now();
        let pending = Some(Arc::clone(&self.state.pending));
        View::new(root, Values { shared: Arc::clone(&self.shared), pending, rest: Rest::default() })
    }

    /// A handle to the duties that block, for another thread.
    pub fn background(&self) -> Background {
        Background::new(Arc::clone(&self.front))
    }

    /// A handle to the watch hub.
    pub fn hub(&self) -> WatchHub {
        WatchHub { front: Arc::clone(&self.front) }
    }

    /// Does up to `budget` small steps of what only the writer can do: drops compacted tombstones from the index, gives back nodes
    /// that only old roots had, closes a full segment. Never syncs.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub fn step(&mut self, budget: usize) -> Result<Progress, Fault> {
        self.shared.check()?;
        self.front.tidy();
        self.shared.root.tidy();
        let dropped = self.state.drop_tombstones(budget);
        let settling = self.state.tree.settle(budget);
        if self.shared.log.wal.active_bytes() >= self.shared.options.segment_bytes {
            self.shared.log.seal().map_err(|fault| self.shared.fail(fault))?;
        }
        Ok(if dropped == budget || settling { Progress::More } else { Progress::Idle })
    }

    /// The logical bytes of [`Store::sizes`] alone: cheap enough to be asked after every batch.
    pub fn logical_bytes(&self) -> u64 {
        let dead = lock(&self.shared.physical).dead.bytes;
        self.state.written.bytes.saturating_sub(dead) + self.state.tables.bytes()
    }

    /// How large the store is.
    pub fn sizes(&self) -> Sizes {
        self.reader().sizes()
    }
}

/// So many nodes of old roots are given back at each commit: more than a usual batch replaces.
const SETTLE: usize = 1024;

/// Appends the batch, which begins with `changes`, and sees to it that the index knows where these lie.
fn append(
    tree: &Tree,
    batch: &mut Batch,
    base: Position,
    shared: &Shared,
    changes: &[Change],
) -> Result<Appended, Fault> {
    let appended = shared.log.append(batch, changes.iter().map(|change| change.revision))?;
    let first = batch.positions().first().copied();
    let foreseen = first == Some(base) && appended.end.segment() == base.segment();
    if !foreseen && !planted(Bug::PlacesAsForeseen) {
        for (change, &position) in changes.iter().zip(batch.positions()) {
            let entry = tree.get(change.fields().key);
            if let Some(entry) = entry.filter(|entry| entry.revision == change.revision) {
                entry.found_at(position);
            }
        }
    }
    Ok(appended)
}

impl State {
    fn has_uncommitted(&self) -> bool {
        !self.batch.is_empty() || !self.others.is_empty()
    }

    /// Adds a record that follows the changes.
    fn add_other(&mut self, kind: u8, data: Vec<u8>) {
        const FRAME: u64 = 16;
        self.others_bytes += data.len().next_multiple_of(8) as u64 + FRAME;
        self.others.push((kind, data));
    }

    /// A root of the writer's present state.
    pub(crate) fn root_now(&self) -> Arc<Root> {
        Arc::new(Root {
            tree: self.tree.freeze(),
            tables: self.tables.clone(),
            revision: self.revision,
            compacted: self.compacted,
            applied: self.applied,
            written: self.written,
            end: self.root.end,
            epoch: Arc::clone(&self.root.epoch),
        })
    }

    /// Where the record of the next change is going to lie, if nothing comes in between; the commit corrects what was wrong.
    pub(crate) fn next_place(&mut self, shared: &Shared) -> Position {
        if self.batch.is_empty() {
            self.base = shared.log.wal.next_record();
        }
        Position::from_u64(self.base.as_u64() + self.batch.bytes() as u64)
    }

    /// Adds a change to the index, the batch and what transactions read of themselves.
    pub(crate) fn record(&mut self, change: Change) {
        self.batch.push(change.kind, &[&change.header(), &change.wire]);
        self.written.add(&change);
        self.pending.changes.write().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    /// See [`Store::write`].
    fn commit(&mut self, shared: &Shared, hub: &Hub, applied: Applied, now: bool) -> Result<(), Fault> {
        // How many commits that change nothing are carried in memory before one is written.
        const IDLE_MAX: u64 = 1024;
        let idle = !self.has_uncommitted() && !now;
        if idle && applied.index < self.root.applied.index + IDLE_MAX {
            self.applied = applied;
            return Ok(());
        }
        self.others_bytes = 0;
        for (kind, data) in self.others.drain(..) {
            self.batch.push(kind, &[&data]);
        }
        let apart = planted(Bug::AppliedIndexApartFromData);
        let commit =
            Commit { revision: self.revision, applied: if apart { self.root.applied } else { applied } };
        self.batch.push(record::COMMIT, &[&commit.encode()]);
        let changes = self.pending.changes.read().unwrap_or_else(PoisonError::into_inner);
        let appended = append(&self.tree, &mut self.batch, self.base, shared, &changes)?;
        drop(changes);
        self.batch.clear();
        self.applied = applied;
        lock(&shared.durability).push(appended.end, applied);
        self.publish(shared, hub, appended.end);
        Ok(())
    }

    /// Appends the batch to the log without publishing anything: for an import, which nobody reads yet.
    pub(crate) fn flush(&mut self, shared: &Shared) -> Result<(), Fault> {
        let changes = self.take_changes();
        append(&self.tree, &mut self.batch, self.base, shared, &changes)?;
        self.batch.clear();
        if shared.log.wal.active_bytes() >= shared.options.segment_bytes {
            shared.log.seal()?;
        }
        Ok(())
    }

    /// Publishes the present state to readers, then its changes to watchers.
    fn publish(&mut self, shared: &Shared, hub: &Hub, end: Position) {
        let mut root = Root { end, ..Root::clone(&self.root_now()) };
        if root.compacted != self.root.compacted {
            root.epoch = Arc::new(Epoch { compacted: root.compacted });
            lock(&shared.epochs).push_back(Arc::downgrade(&root.epoch));
            let gone = lock(&shared.ring).compacted(&root.epoch);
            drop(gone);
        }
        let root = Arc::new(root);
        let before = std::mem::replace(&mut self.root, Arc::clone(&root));
        let changes = self.take_changes();
        hub.append(changes);
        drop(shared.root.set(Arc::clone(&root)));
        let evicted = lock(&shared.ring).published(&root);
        drop((evicted, before));
        // What the batch has replaced is used again by the next one, as long as caches have it.
        self.tree.settle(SETTLE);
        hub.publish(root.revision);
    }

    /// Takes the batch's changes; views that pinned them before the commit keep their own.
    fn take_changes(&mut self) -> Vec<Change> {
        match Arc::get_mut(&mut self.pending) {
            Some(pending) => {
                std::mem::take(pending.changes.get_mut().unwrap_or_else(PoisonError::into_inner))
            }
            None => {
                let pinned = std::mem::take(&mut self.pending);
                let changes = pinned.changes.read().unwrap_or_else(PoisonError::into_inner);
                changes.clone()
            }
        }
    }

    /// Drops up to `budget` tombstones that the compaction point has passed; returns how many it looked at.
    fn drop_tombstones(&mut self, budget: usize) -> usize {
        let mut looked_at = 0;
        while looked_at < budget {
            match self.tombstones.front() {
                Some(&(main, _)) if main <= self.root.compacted => {}
                _ => break,
            }
            let Some((main, key)) = self.tombstones.pop_front() else { break };
            if self.tree.get(&key).is_some_and(|head| !head.is_live() && head.revision.main == main) {
                self.tree.remove(&key);
            }
            looked_at += 1;
        }
        looked_at
    }
}

impl crate::shared::Totals {
    /// What each version is charged beyond its encoding: framing, table of contents, index.
    const CHARGE: u64 = 64;

    /// What a version takes. A tombstone is free: it was paid for with the version that it ends, as long as that is not
    /// compacted, and afterwards a store that was emptied must not be full of what says so.
    pub(crate) fn charge(change: &Change) -> u64 {
        if change.is_delete() { 0 } else { change.wire.len() as u64 + Self::CHARGE }
    }

    pub(crate) fn add(&mut self, change: &Change) {
        self.bytes += Self::charge(change);
        self.versions += 1;
        self.hash = self.hash.wrapping_add(hash::change(change));
    }
}

/// The head that follows `old` when a key changes at `revision`; and its marks, when they change.
pub(crate) fn next_head(
    old: Option<Entry<'_>>,
    revision: Revision,
    put: bool,
    compacted: i64,
) -> (Head, Option<Marks>) {
    let mut head = old.map_or(Head::default(), |old| Head { since_mark: old.since_mark + 1, ..old.head });
    let mut marks = None;
    if head.since_mark >= STRIDE {
        head.since_mark = 0;
        marks = Some(next_marks(old.and_then(|old| old.marks), revision, compacted));
    }
    head.revision = revision;
    let stays = planted(Bug::TombstoneStaysLive) && head.version > 2;
    if !put && !stays {
        (head.create_revision, head.version) = (0, 0);
    } else if head.version == 0 {
        (head.create_revision, head.version) = (revision.main, 1);
    } else {
        head.version += 1;
    }
    (head, marks)
}

fn next_marks(old: Option<&Marks>, revision: Revision, compacted: i64) -> Marks {
    // Marks below the compaction point are of no use; a history that is half of them is rebuilt.
    let stale = old.filter(|marks| marks.depth() > 64 && marks.is_mostly_below(compacted));
    match stale {
        Some(stale) => Mark::push(Mark::rebuild(&stale.above(compacted)).as_ref(), revision),
        None => Mark::push(old, revision),
    }
}
