//! Random histories against the plain model: store and model agree on every answer.

mod relay;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ketch_mvcc::model::{Model, ModelError};
use ketch_mvcc::{
    Applied, CompactError, Cursor, Import, KeyRange, Options, Progress, Query, RangeResult, ReadError, Store,
    TableId, View,
};
use ketch_wal::SimDisk;

use crate::history::{Change, Op, Watch, history, shrink};
use crate::watches::Watches;

/// What a store should hold.
#[derive(Clone, Default, PartialEq, Debug)]
struct Truth {
    model: Model,
    tables: BTreeMap<(u8, Bytes), Bytes>,
}

/// A store beside what it should hold.
struct Bench {
    disk: Arc<SimDisk>,
    store: Option<Store>,
    /// Uncommitted changes included.
    truth: Truth,
    /// By applied index, every commit's truth.
    commits: BTreeMap<u64, Truth>,
    pinned: Vec<(View, Truth)>,
    watches: Watches,
    applied: u64,
}

fn options() -> Options {
    Options {
        segment_bytes: 2 << 10,
        checkpoint_versions: 40,
        sync_bytes: 3 << 10,
        ring_roots: 3,
        ring_revisions: 4,
        open_lists: 2,
        rewrite_dead_percent: 30,
        watch_window_events: 6,
        watch_window_bytes: 600,
        ..Options::default()
    }
}

impl Bench {
    fn new(seed: u64) -> Bench {
        let disk = SimDisk::new(seed);
        let store = Some(open(&disk));
        let commits = BTreeMap::from([(0, Truth::default())]);
        let watches = Watches::default();
        Bench { disk, store, truth: Truth::default(), commits, pinned: Vec::new(), watches, applied: 0 }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Txn(changes) => self.txn(changes),
            Op::Compact { behind } => self.compact(*behind),
            Op::TablePut { table, key, value } => {
                let (id, key, value) = (TableId(*table), Bytes::from(vec![*key]), Bytes::from(vec![*value]));
                self.truth.tables.insert((*table, key.clone()), value.clone());
                self.store().table_put(id, key, value);
            }
            Op::TableDelete { table, key } => {
                self.truth.tables.remove(&(*table, Bytes::from(vec![*key])));
                self.store().table_delete(TableId(*table), &[*key]);
            }
            Op::Commit => self.commit(),
            Op::Read { query, behind } => self.read(query, *behind),
            Op::Inspect => {
                self.commit();
                let view = self.store().reader().view();
                inspect(&view, &self.truth);
                self.check_sizes();
            }
            Op::Pin => {
                self.commit();
                let view = self.store().reader().view();
                self.pinned.push((view, self.truth.clone()));
            }
            Op::Unpin => self.unpin(),
            Op::Watch(watch) => self.watch(watch),
            Op::CancelWatch { nth } => self.watches.cancel(*nth),
            Op::Distribute { budget } => drop(self.store().hub().step(*budget).unwrap()),
            Op::Take { batches, max } => {
                for _ in 0..*batches {
                    self.watches.take(*max, &self.truth.model);
                }
            }
            Op::CatchUp => self.catch_up(),
            Op::Step { budget } => drop(self.store().step(*budget).unwrap()),
            Op::Background { budget } => drop(self.store().background().step(*budget).unwrap()),
            Op::Checkpoint => self.store().background().checkpoint().unwrap(),
            Op::Transfer { max } => self.transfer(*max),
            Op::Adopt { max, changes, compact } => self.adopt(*max, changes, *compact),
            Op::Relay { max, first, changes, compact, backwards } => {
                self.relay(*max, *first, changes, *compact, *backwards);
            }
            Op::Sync => drop(self.store().background().sync().unwrap()),
            Op::Restart => {
                self.commit();
                self.reopen(|_| {});
            }
            Op::Kill => self.reopen(SimDisk::kill),
            Op::Crash => self.reopen(SimDisk::crash),
        }
    }

    fn txn(&mut self, changes: &[Change]) {
        let before = self.truth.model.revision();
        let model = &mut self.truth.model;
        let mut txn = self.store.as_mut().unwrap().txn();
        for change in changes {
            match change {
                Change::Put { key, value, lease } => {
                    let previous = txn.put(key, value, *lease).unwrap();
                    let previous = previous.map(|previous| previous.read().unwrap());
                    assert_eq!(previous, model.put(key, value, *lease), "what a put replaced");
                    assert_eq!(txn.get(key).unwrap(), model.get(key, i64::MAX));
                }
                Change::Delete { range } => {
                    let deleted = txn.delete_range(range).unwrap();
                    let deleted: Vec<_> =
                        deleted.iter().map(|d| (d.key.clone(), d.previous.read().unwrap())).collect();
                    let expected = model.delete_range(range);
                    assert_eq!(deleted, expected.into_iter().map(|kv| (kv.key(), kv)).collect::<Vec<_>>());
                }
                Change::Read { query } => same(txn.range(query), model.range(query)),
            }
            assert_eq!(txn.revision(), model.revision());
        }
        let view = txn.view();
        assert_eq!(txn.finish(), model.revision());
        model.end_txn();
        assert!(model.revision() <= before + 1);
        let query = Query::new(KeyRange::all());
        same(view.range(&query), model.range(&query));
    }

    fn compact(&mut self, behind: i64) {
        let revision = self.truth.model.revision() - behind;
        let expected = self.truth.model.compact(revision);
        match (self.store().compact(revision), expected) {
            (Ok(()), Ok(()))
            | (Err(CompactError::Compacted { .. }), Err(ModelError::Compacted))
            | (Err(CompactError::Future { .. }), Err(ModelError::Future)) => {}
            (found, expected) => panic!("compact to {revision}: {found:?} instead of {expected:?}"),
        }
    }

    fn commit(&mut self) {
        self.applied += 1;
        let applied = Applied { index: self.applied, term: 1 };
        self.store().commit(applied).unwrap();
        self.commits.insert(self.applied, self.truth.clone());
        let view = self.store().reader().view();
        assert_eq!(view.revision(), self.truth.model.revision());
        assert_eq!(self.store().applied(), applied);
    }

    fn read(&mut self, query: &Query, behind: i64) {
        self.commit();
        let revision = (self.truth.model.revision() - behind).max(-1);
        let query = Query { revision, ..query.clone() };
        let view = self.store().reader().view();
        same(view.range(&query), self.truth.model.range(&query));
    }

    fn watch(&mut self, watch: &Watch) {
        self.commit();
        let store = self.store.as_mut().unwrap();
        self.watches.add(store, watch, &self.truth.model);
    }

    /// Lets every watcher get everything, and compares.
    fn catch_up(&mut self) {
        self.commit();
        let hub = self.store().hub();
        loop {
            let more = hub.step(7).unwrap() == Progress::More;
            if !self.watches.take(5, &self.truth.model) && !more {
                break;
            }
        }
        self.watches.check_complete(&self.truth.model);
    }

    fn unpin(&mut self) {
        for (view, truth) in std::mem::take(&mut self.pinned) {
            inspect(&view, &truth);
        }
    }

    /// Moves to another disk by snapshot while the old store goes on compacting; both make the same snapshot.
    fn transfer(&mut self, max: usize) {
        self.commit();
        self.unpin();
        self.watches = Watches::default();
        let disk = SimDisk::new(self.applied);
        let mut import = Import::begin(disk.clone(), Path::new("/store"), options()).unwrap();
        let view = self.store().reader().view();
        let (mut export, mut sent) = (view.export(Cursor::START), Vec::new());
        while let Some(chunk) = export.next_chunk(max).unwrap() {
            import.chunk(&chunk.bytes).unwrap();
            assert!(import.chunk(&chunk.bytes).is_err(), "a chunk is taken once");
            assert_eq!(import.cursor(), chunk.next);
            // A stream is continued by whoever holds the same state.
            export = view.export(chunk.next);
            sent.push(chunk);
            self.store().background().step(5).unwrap();
            self.store().step(3).unwrap();
        }
        let store = import.finish().unwrap();
        inspect(&store.reader().view(), &self.truth);
        let mut again = store.reader().view().export(Cursor::START);
        for chunk in &sent {
            assert_eq!(
                again.next_chunk(max).unwrap().as_ref(),
                Some(chunk),
                "the same state, the same snapshot"
            );
        }
        assert_eq!(again.next_chunk(max).unwrap(), None);
        // Commits without any effect may not be part of the view.
        self.applied = store.applied().index;
        self.commits = BTreeMap::from([(self.applied, self.truth.clone())]);
        self.disk = disk;
        self.store = Some(store);
    }

    /// Takes over a store that was made from a snapshot and has gone on. Views and watchers stay.
    fn adopt(&mut self, max: usize, changes: &[Change], compact: Option<i64>) {
        self.commit();
        let disk = SimDisk::new(self.applied);
        let mut import = Import::begin(disk.clone(), Path::new("/store"), options()).unwrap();
        let mut export = self.store().reader().view().export(Cursor::START);
        while let Some(chunk) = export.next_chunk(max).unwrap() {
            import.chunk(&chunk.bytes).unwrap();
        }
        let staged = import.finish().unwrap();
        self.commits = BTreeMap::from([(staged.applied().index, self.truth.clone())]);
        let mut adopting = self.store.replace(staged).unwrap();
        for change in changes {
            self.txn(std::slice::from_ref(change));
            self.commit();
        }
        compact.into_iter().for_each(|behind| self.compact(behind));
        self.commit();
        let (reader, revision) = (adopting.reader(), self.truth.model.revision());
        adopting.adopt(self.store.take().unwrap()).unwrap();
        assert_eq!((adopting.revision(), reader.view().revision()), (revision, revision));
        (self.store, self.disk) = (Some(adopting), disk);
    }

    fn check_sizes(&mut self) {
        let progress = self.store().compaction_progress();
        let sizes = self.store().sizes();
        assert_eq!(sizes.keys, self.truth.model.range(&Query::new(KeyRange::all())).unwrap().count);
        if progress.is_done() {
            assert_eq!(sizes.revisions, self.truth.model.versions(), "versions that are not compacted away");
        }
    }

    /// Ends the store in some way and opens it again: it must be the state of a commit, and not of one before what was
    /// said to be durable.
    fn reopen(&mut self, end: impl FnOnce(&SimDisk)) {
        self.unpin();
        self.watches = Watches::default();
        let durable = self.store().durable_applied().index;
        let last = self.applied;
        end(&self.disk);
        drop(self.store.take());
        let store = open(&self.disk);
        let applied = store.applied().index;
        assert!(applied >= durable && applied <= last, "applied {applied} outside {durable}..={last}");
        // Commits without any effect are not written one by one.
        let truth = self.commits.get(&applied).cloned().expect("an applied position that was committed");
        self.commits.split_off(&(applied + 1));
        self.applied = applied;
        self.truth = truth;
        inspect(&store.reader().view(), &self.truth);
        assert_eq!(store.revision(), self.truth.model.revision());
        self.store = Some(store);
    }
}

fn open(disk: &Arc<SimDisk>) -> Store {
    Store::open(disk.clone(), Path::new("/store"), options()).unwrap()
}

/// Compares two answers to one query.
fn same(found: Result<RangeResult, ReadError>, expected: Result<RangeResult, ModelError>) {
    match (found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(ReadError::Compacted { .. }), Err(ModelError::Compacted)) => {}
        (Err(ReadError::Future { .. }), Err(ModelError::Future)) => {}
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

/// Compares everything a view can be asked: all keys, counts and hashes at each revision, and the tables.
fn inspect(view: &View, truth: &Truth) {
    let model = &truth.model;
    assert_eq!((view.revision(), view.compacted()), (model.revision(), model.compacted()));
    for revision in model.compacted().max(1) - 1..=model.revision() + 1 {
        let query = Query { revision, ..Query::new(KeyRange::all()) };
        let expected = model.range(&query);
        same(view.range(&query), expected.clone());
        match (view.hash(revision), model.hash(revision)) {
            (Ok(found), Ok(expected)) => assert_eq!(found.hash, expected, "hash at {revision}"),
            (Err(_), Err(_)) => {}
            (found, expected) => panic!("hash at {revision}: {found:?} instead of {expected:?}"),
        }
        if let Ok(expected) = expected {
            let listed: Vec<_> = view.iter(KeyRange::all(), revision).unwrap().map(Result::unwrap).collect();
            assert_eq!(listed, expected.kvs, "iterated at {revision}");
            assert_eq!(view.count(&KeyRange::all(), revision).unwrap(), expected.count);
        }
    }
    let mut tables = BTreeMap::new();
    for id in 0..3 {
        tables.extend(view.table(TableId(id)).iter().map(|(key, value)| ((id, key.clone()), value.clone())));
    }
    assert_eq!(tables, truth.tables);
}

/// Runs a history from nothing to its end.
pub(crate) fn run(seed: u64, ops: &[Op]) {
    let mut bench = Bench::new(seed);
    for op in ops {
        bench.run(op);
    }
    bench.run(&Op::CatchUp);
    bench.run(&Op::Inspect);
    bench.run(&Op::Unpin);
    bench.run(&Op::Restart);
}

/// Runs the histories of these seeds; a failing one is made small and printed.
pub(crate) fn campaign(seeds: std::ops::Range<u64>, len: usize) {
    for seed in seeds {
        let ops = history(seed, len);
        let fails = |ops: &[Op]| catch_unwind(AssertUnwindSafe(|| run(seed, ops))).is_err();
        if fails(&ops) {
            let small = shrink(ops, fails);
            eprintln!("seed {seed}, made small:");
            small.iter().for_each(|op| eprintln!("  {op:?}"));
            run(seed, &small);
            unreachable!("it failed a moment ago");
        }
    }
}

#[test]
fn short_histories() {
    campaign(0..5_000, 20);
}

#[test]
fn more_short_histories() {
    campaign(5_000..10_000, 20);
}

#[test]
fn long_histories() {
    campaign(100_000..100_100, 300);
}

/// As many more as `KETCH_HISTORIES` says; the first seed is `KETCH_SEED`.
#[test]
fn histories_on_demand() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("KETCH_SEED").unwrap_or(1_000_000);
    let count = number("KETCH_HISTORIES").unwrap_or(0);
    for seed in first..first + count {
        campaign(seed..seed + 1, if seed % 10 == 0 { 300 } else { 40 });
    }
}
