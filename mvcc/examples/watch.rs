//! A watcher that starts in the past, catches up and goes on live.
//!
//! `cargo run -p ketch-mvcc --example watch`

use std::error::Error;
use std::sync::Arc;

use ketch_mvcc::{Applied, KeyRange, Options, Progress, Store, WatchRequest};
use ketch_wal::RealDisk;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut store = Store::open(Arc::new(RealDisk), dir.path(), Options::default())?;
    let mut index = 0;
    let mut put = |store: &mut Store, key: &str, value: &str| -> Result<(), Box<dyn Error>> {
        store.txn().put(key.as_bytes(), value.as_bytes(), 0)?;
        index += 1;
        Ok(store.commit(Applied { index, term: 1 })?)
    };
    put(&mut store, "job/1", "queued")?;
    put(&mut store, "job/2", "queued")?;
    put(&mut store, "job/1", "running")?;

    let hub = store.hub();
    // A server would wake the task that owns the stream here.
    let stream = hub.stream(Arc::new(|| println!("(woken)")));
    let request =
        WatchRequest { start_revision: 3, previous: true, ..WatchRequest::new(KeyRange::prefix("job/")) };
    stream.watch(1, request);

    put(&mut store, "job/2", "running")?;
    while hub.step(100)? == Progress::More {}
    while let Some(batch) = stream.take(100) {
        for event in batch.events {
            let kv = event.key_value();
            let before = event.previous().map(|kv| kv.value());
            println!("revision {}: {:?} = {:?}, was {before:?}", event.revision(), kv.key(), kv.value());
        }
    }
    println!("nothing is missing up to revision {:?}", stream.progress(1));
    Ok(())
}
