//! Snapshots that one state begins and another one ends.

use std::collections::BTreeMap;
use std::path::Path;

use ketch_mvcc::{Applied, Chunk, Cursor, Import, ImportError, Store, View};
use ketch_wal::SimDisk;

use super::{Bench, Truth, inspect, options};
use crate::history::Change;

/// One of two states of a history.
struct Side {
    view: View,
    truth: Truth,
    applied: u64,
}

impl Bench {
    fn side(&mut self) -> Side {
        self.commit();
        Side { view: self.store().reader().view(), truth: self.truth.clone(), applied: self.applied }
    }

    /// Moves to another disk by a snapshot of two senders. Where the second cannot go on from the first, it begins anew.
    pub(super) fn relay(
        &mut self,
        max: usize,
        first: usize,
        changes: &[Change],
        compact: Option<i64>,
        backwards: bool,
    ) {
        self.unpin();
        self.watches = super::Watches::default();
        let early = self.side();
        for change in changes {
            self.txn(std::slice::from_ref(change));
            self.commit();
        }
        compact.into_iter().for_each(|behind| self.compact(behind));
        let late = self.side();
        self.store().background().step(5).unwrap();
        self.store().step(3).unwrap();
        let (one, two) = if backwards { (late, early) } else { (early, late) };

        let mut disk = SimDisk::new(self.applied);
        let mut import = Import::begin(disk.clone(), Path::new("/store"), options()).unwrap();
        let mut export = one.view.export(Cursor::START);
        for _ in 0..first {
            let Some(chunk) = export.next_chunk(max).unwrap() else { break };
            import.chunk(&chunk.bytes).unwrap();
        }
        if import.cursor().is_done() {
            return;
        }
        let mut export = two.view.export_after(&import.held());
        let goes_on = export.goes_on_from_another();
        let alike = one.view.compacted() == two.view.compacted();
        let newest = one.view.revision().min(two.view.revision());
        while let Some(chunk) = export.next_chunk(max).unwrap() {
            match import.chunk(&chunk.bytes) {
                Ok(()) => {}
                Err(ImportError::OutOfPlace { .. })
                    if !goes_on && Chunk::inspect(&chunk.bytes).unwrap().from == Cursor::START =>
                {
                    assert!(
                        !alike || one.view.revision() > newest,
                        "changes that are the same were sent again"
                    );
                    drop(import);
                    disk = SimDisk::new(self.applied + 1);
                    import = Import::begin(disk.clone(), Path::new("/store"), options()).unwrap();
                    import.chunk(&chunk.bytes).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(alike || !goes_on);
        assert_eq!(import.times_gone_on(), u64::from(goes_on));
        let store = import.finish().unwrap();
        inspect(&store.reader().view(), &two.truth);
        let (mut again, mut full) =
            (store.reader().view().export(Cursor::START), two.view.export(Cursor::START));
        while let Some(chunk) = full.next_chunk(max).unwrap() {
            assert_eq!(again.next_chunk(max).unwrap(), Some(chunk), "as if it had come from one of them");
        }
        let Applied { index, .. } = store.applied();
        self.truth = two.truth;
        self.applied = two.applied.max(index);
        self.commits = BTreeMap::from([(index, self.truth.clone())]);
        self.disk = disk;
        self.store = Some(store);
    }
}

/// A state of so many changes, none like another.
fn state(changes: i64) -> Store {
    let mut store = Store::open(SimDisk::new(3), Path::new("/store"), options()).unwrap();
    for number in 0..changes {
        store.txn().put(number.to_string().as_bytes(), &[1; 100], 0).unwrap();
        store.commit(Applied { index: number as u64 + 1, term: 1 }).unwrap();
    }
    store
}

#[test]
fn an_import_takes_no_stream_that_leaves_out_what_it_does_not_have() {
    let (early, late) = (state(20).reader().view(), state(30).reader().view());
    let import = || Import::begin(SimDisk::new(4), Path::new("/store"), options()).unwrap();
    let feed = |import: &mut Import, view: &View, chunks: usize| {
        let mut export = view.export(Cursor::START);
        (0..chunks).for_each(|_| import.chunk(&export.next_chunk(300).unwrap().unwrap().bytes).unwrap());
    };
    let mut far = import();
    feed(&mut far, &early, 5);
    let tables = late.export_after(&far.held()).next_chunk(300).unwrap().unwrap();
    let refused = |import: &mut Import, chunk: &Chunk| {
        let held = import.held();
        assert!(matches!(import.chunk(&chunk.bytes), Err(ImportError::OutOfPlace { .. })));
        assert_eq!(import.held(), held);
    };
    refused(&mut import(), &tables);
    for less in 1..5 {
        let mut import = import();
        feed(&mut import, &early, less);
        refused(&mut import, &tables);
    }
    // The beginning of a stream is none of one that goes on.
    refused(&mut far, &late.export(Cursor::START).next_chunk(300).unwrap().unwrap());
    refused(&mut far, &early.export(Cursor::START).next_chunk(300).unwrap().unwrap());
    far.chunk(&tables.bytes).unwrap();
    // It is of the late state now.
    let mut rest = early.export(far.cursor());
    refused(&mut far, &rest.next_chunk(300).unwrap().unwrap());
    let mut rest = late.export_after(&far.held());
    while let Some(chunk) = rest.next_chunk(300).unwrap() {
        far.chunk(&chunk.bytes).unwrap();
    }
    assert_eq!(far.finish().unwrap().revision(), 31);
}
