//! Time travel: what a key was, at any revision that is not compacted away.
//!
//! `cargo run -p ketch-mvcc --example history`

use std::error::Error;
use std::sync::Arc;

use ketch_mvcc::{Applied, KeyRange, Options, Query, ReadError, Store};
use ketch_wal::RealDisk;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut store = Store::open(Arc::new(RealDisk), dir.path(), Options::default())?;

    for (i, city) in ["Rome", "Ravenna", "Florence", "Turin", "Rome"].iter().enumerate() {
        let mut txn = store.txn();
        txn.put(b"capital", city.as_bytes(), 0)?;
        let revision = txn.finish();
        store.commit(Applied { index: i as u64 + 1, term: 1 })?;
        println!("revision {revision}: capital = {city}");
    }

    let view = store.reader().view();
    let at = |revision| Query { revision, ..Query::new(KeyRange::Single("capital".into())) };
    for revision in [2, 4, 6] {
        let kv = &view.range(&at(revision))?.kvs[0];
        println!("read at {revision}: {:?}, its version {}", kv.value(), kv.version());
    }

    store.compact(4)?;
    store.commit(Applied { index: 6, term: 1 })?;
    match store.reader().view().range(&at(3)) {
        Err(ReadError::Compacted { requested, compacted }) => {
            println!("read at {requested}: refused, the oldest is {compacted}");
        }
        other => println!("unexpected: {other:?}"),
    }
    println!("the view from before still reads 3: {:?}", view.range(&at(3))?.kvs[0].value());
    Ok(())
}
