//! One revision store's work, done by ketch-mvcc and by engines that could be built upon instead.
//!
//! The work: a put finds out what its key was, writes the new version under its revision in the encoding it is answered
//! in, and the key's newest revision, creation and version; a batch of puts is atomic and not synced. A get goes from the key to its newest
//! version; a page does so for keys in order and appends each version to a response, length in front.

use std::sync::Arc;

use bytes::Bytes;
use ketch_mvcc::{Applied, Background, KeyRange, Options, Progress, Query, Store};
use ketch_wal::RealDisk;

/// The value of every put.
pub(crate) const VALUE: [u8; 256] = [7; 256];
/// Puts in a batch.
pub(crate) const BATCH: u64 = 64;

/// Key number `i`: 32 bytes that begin alike, as keys do.
pub(crate) fn key(i: u64) -> [u8; 32] {
    let mut key = *b"/registry/pods/default/000000000";
    let (mut rest, mut at) = (i, 32);
    while rest > 0 && at > 23 {
        at -= 1;
        key[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Appends a message as field 2 of a response.
pub(crate) fn put_message(message: &[u8], out: &mut Vec<u8>) {
    out.push(0x12);
    let mut len = message.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(message);
}

/// See the file's comment.
pub(crate) trait Engine {
    /// What the table calls it.
    const NAME: &'static str;

    fn open() -> Self;

    /// One atomic batch.
    fn put(&mut self, keys: impl Iterator<Item = u64>);

    /// What has to be done beside the batches, as far as the engine has no threads of its own for it.
    fn beside(&mut self) {}

    /// The length of the newest version's encoding.
    fn get(&self, i: u64) -> usize;

    /// Appends up to `limit` key-values from key `i` on to `out`, as fields of a range response; how many there were.
    fn page(&self, i: u64, limit: usize, out: &mut Vec<u8>) -> usize;
}

/// Fills an engine with `keys` keys, in their order or in one that jumps about.
pub(crate) fn load<E: Engine>(engine: &mut E, keys: u64, in_order: bool) {
    let mut from = 0;
    while from < keys {
        let until = (from + BATCH).min(keys);
        engine.put((from..until).map(|i| if in_order { i } else { i.wrapping_mul(7_919_777) % keys }));
        engine.beside();
        from = until;
    }
}

/// ketch-mvcc, with the duties that a server does beside it.
pub(crate) struct Ketch {
    pub(crate) store: Store,
    pub(crate) background: Background,
    index: u64,
    pub(crate) dir: tempfile::TempDir,
}

impl Ketch {
    pub(crate) fn options() -> Options {
        // No sync: the request path has none, and the disk's own speed is the log's bench.
        Options { unsafe_no_sync: true, ..Options::default() }
    }

    pub(crate) fn commit(&mut self) {
        self.index += 1;
        self.store.commit(Applied { index: self.index, term: 1 }).expect("a commit");
        self.store.step(64).expect("a step");
    }

    /// Lets every duty come to its end.
    pub(crate) fn settle(&mut self) {
        while self.background.step(4096).expect("a step") == Progress::More {
            self.store.step(64).expect("a step");
        }
    }
}

impl Engine for Ketch {
    const NAME: &'static str = "ketch-mvcc";

    fn open() -> Ketch {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(Arc::new(RealDisk), dir.path(), Ketch::options()).expect("a store");
        let background = store.background();
        Ketch { store, background, index: 0, dir }
    }

    fn put(&mut self, keys: impl Iterator<Item = u64>) {
        for i in keys {
            self.store.txn().put(&key(i), &VALUE, 0).expect("a put");
        }
        self.commit();
    }

    fn beside(&mut self) {
        self.background.step(512).expect("a step");
    }

    fn get(&self, i: u64) -> usize {
        let view = self.store.reader().view();
        view.get(&key(i)).expect("a get").map_or(0, |kv| kv.as_wire().len())
    }

    fn page(&self, i: u64, limit: usize, out: &mut Vec<u8>) -> usize {
        let from = KeyRange::from_wire(Bytes::copy_from_slice(&key(i)), Bytes::from_static(&[0]));
        let query = Query { limit: limit as u64, ..Query::new(from) };
        let mut found = 0;
        let put = |wire: &[u8]| {
            put_message(wire, out);
            found += 1;
        };
        self.store.reader().view().visit(&query, put).expect("a page");
        found
    }
}
