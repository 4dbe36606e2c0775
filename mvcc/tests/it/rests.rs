//! Long reads call for rests, and answer the same.

use std::cell::Cell;
use std::path::Path;

use ketch_mvcc::{Applied, Cursor, KeyRange, Options, Query, SortOrder, SortTarget, Store, View};
use ketch_wal::SimDisk;

const KEYS: usize = 2000;

thread_local! { static RESTS: Cell<usize> = const { Cell::new(0) }; }

/// What `read` gives with and without rests, which must be the same, and how many rests there were.
fn rests<T: PartialEq + std::fmt::Debug>(view: &View, read: impl Fn(&View) -> T) -> usize {
    RESTS.set(0);
    let without = read(view);
    assert_eq!(RESTS.get(), 0);
    assert_eq!(read(&view.clone().resting(|| RESTS.set(RESTS.get() + 1))), without);
    RESTS.get()
}

#[test]
fn every_long_read_rests() {
    let mut store = Store::open(SimDisk::new(1), Path::new("/s"), Options::default()).unwrap();
    for round in 0..2u64 {
        for number in 0..KEYS {
            let key = format!("{:05}", number * 7919 % 10_007);
            store.txn().put(key.as_bytes(), format!("{}", number * 31 % 977).as_bytes(), 0).unwrap();
        }
        store.commit(Applied { index: round + 1, term: 1 }).unwrap();
    }
    let view = store.reader().view();
    let all = || Query::new(KeyRange::all());
    let by = |target, order| Query { sort: Some((target, order)), ..all() };
    for query in [
        all(),
        Query { keys_only: true, ..all() },
        Query { revision: 1 + KEYS as i64, ..all() },
        Query { min_mod_revision: 1, ..all() },
        by(SortTarget::Key, SortOrder::Descend),
        by(SortTarget::Mod, SortOrder::Descend),
        by(SortTarget::Version, SortOrder::Ascend),
        by(SortTarget::Create, SortOrder::Descend),
        by(SortTarget::Value, SortOrder::Ascend),
    ] {
        let rests = rests(&view, |view| view.range(&query).unwrap());
        assert!(rests >= KEYS / 100, "{rests}: {query:?}");
    }
    let iter =
        rests(&view, |view| view.iter(KeyRange::all(), 0).unwrap().collect::<Result<Vec<_>, _>>().unwrap());
    let hash = rests(&view, |view| view.hash(1 + KEYS as i64).unwrap());
    let export = rests(&view, |view| {
        let mut export = view.export(Cursor::START);
        std::iter::from_fn(|| export.next_chunk(1 << 20).unwrap())
            .map(|chunk| chunk.bytes.to_vec())
            .collect::<Vec<_>>()
    });
    assert!(iter.min(hash).min(export) >= KEYS / 100, "{iter} {hash} {export}");

    store.compact(1 + 2 * KEYS as i64).unwrap();
    store.commit(Applied { index: 3, term: 1 }).unwrap();
    let compacted = rests(&store.reader().view(), |view| view.hash(0).unwrap());
    assert!(compacted >= KEYS / 100, "{compacted}");
    assert_eq!(rests(&view, |view| view.get(b"00000").unwrap()), 0);
}
