//! An event: one change as watchers see it, encoded once for all of them.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::encoding::put_varint;
use crate::error::Fault;
use crate::log::Log;
use crate::log::record::{CREATE, Change};
use crate::planted::{Bug, planted};
use crate::types::KeyValue;

/// One change of one key. Shared by all watchers that want it; what only some of them want is made on demand, once.
#[derive(Debug)]
pub struct Event {
    change: Change,
    /// The key-value before the transaction, once somebody has asked; `None` inside when there was none.
    previous: OnceLock<Option<Bytes>>,
    plain: OnceLock<Bytes>,
    with_previous: OnceLock<Bytes>,
}

const TYPE_DELETE: [u8; 2] = [0x08, 1];
const KV: u8 = 0x12;
const PREVIOUS: u8 = 0x1a;

impl Event {
    pub(crate) fn new(change: Change) -> Event {
        Event { change, previous: OnceLock::new(), plain: OnceLock::new(), with_previous: OnceLock::new() }
    }

    /// The revision of the transaction.
    pub fn revision(&self) -> i64 {
        self.change.revision.main
    }

    /// Whether it is a deletion.
    pub fn is_delete(&self) -> bool {
        self.change.is_delete()
    }

    /// Whether it is a put of a key that did not exist.
    pub fn is_create(&self) -> bool {
        self.change.kind == CREATE
    }

    /// The key-value; of a deletion it has key and mod_revision only.
    pub fn key_value(&self) -> KeyValue {
        KeyValue::trusted(self.change.wire.clone())
    }

    /// The key-value before the transaction; `None` when there was none, when it is compacted away, and when no watcher
    /// that wants it has been served.
    pub fn previous(&self) -> Option<KeyValue> {
        self.previous.get().cloned().flatten().map(KeyValue::trusted)
    }

    /// The protobuf encoding of `mvccpb.Event`, with the previous key-value or without.
    pub fn wire(&self, with_previous: bool) -> Bytes {
        let cell =
            if with_previous && !planted(Bug::EncodingsShared) { &self.with_previous } else { &self.plain };
        let previous = if with_previous { self.previous.get().cloned().flatten() } else { None };
        cell.get_or_init(|| encode(&self.change, previous)).clone()
    }

    /// What it holds in memory, without encodings that are made later.
    pub(crate) fn bytes(&self) -> usize {
        let previous = self.previous.get().and_then(Option::as_ref).map_or(0, Bytes::len);
        self.change.wire.len() + previous + size_of::<Event>()
    }

    pub(crate) fn change(&self) -> &Change {
        &self.change
    }

    /// Makes sure [`Event::previous`] has its answer. As in etcd that is what the key was one revision earlier, unless
    /// that revision is below the compaction point.
    pub(crate) fn load_previous(&self, log: &Log, compacted: i64) -> Result<(), Fault> {
        if self.previous.get().is_none() {
            let compacted_away = self.revision() - 1 < compacted;
            let found = if compacted_away { None } else { self.find_previous(log)? };
            let _ = self.previous.set(found);
        }
        Ok(())
    }

    fn find_previous(&self, log: &Log) -> Result<Option<Bytes>, Fault> {
        let mut at = self.change.clone();
        // Versions of the same transaction are passed over.
        while !at.previous.is_none() {
            if at.kind == CREATE && at.previous.main < self.revision() {
                return Ok(None);
            }
            let Some(before) = log.find(at.previous)? else { return Ok(None) };
            if before.revision.main < self.revision() || planted(Bug::PreviousOfTheSameTransaction) {
                return Ok((!before.is_delete()).then_some(before.wire));
            }
            at = before;
        }
        Ok(None)
    }
}

fn encode(change: &Change, previous: Option<Bytes>) -> Bytes {
    let previous_len = previous.as_ref().map_or(0, |previous| previous.len() + 11);
    let mut out = Vec::with_capacity(change.wire.len() + previous_len + 13);
    if change.is_delete() {
        out.extend_from_slice(&TYPE_DELETE);
    }
    let parts = [(KV, Some(&change.wire)), (PREVIOUS, previous.as_ref())];
    for (tag, message) in parts.into_iter().filter_map(|(tag, message)| Some((tag, message?))) {
        out.push(tag);
        put_varint(message.len() as u64, &mut out);
        out.extend_from_slice(message);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{Fields, encode as encode_fields};
    use crate::log::record::{DELETE, UPDATE};
    use crate::revision::Revision;

    fn event(kind: u8) -> Event {
        let mut wire = Vec::new();
        encode_fields(&Fields { key: b"k", mod_revision: 5, ..Fields::default() }, &mut wire);
        let (revision, previous) = (Revision::new(5, 0), Revision::new(4, 0));
        Event::new(Change { revision, kind, previous, wire: wire.into() })
    }

    #[test]
    fn the_bytes_are_those_of_mvccpb_event() {
        assert_eq!(event(UPDATE).wire(false)[..], [0x12, 5, 0x0a, 1, b'k', 0x18, 5]);
        assert_eq!(event(DELETE).wire(false)[..], [0x08, 1, 0x12, 5, 0x0a, 1, b'k', 0x18, 5]);
    }

    #[test]
    fn the_two_encodings_do_not_mix() {
        let event = event(UPDATE);
        event.previous.set(Some(Bytes::from_static(&[0x0a, 1, b'k']))).unwrap();
        let plain = event.wire(false);
        assert_eq!(event.wire(true)[..plain.len()], plain[..]);
        assert_eq!(event.wire(true)[plain.len()..], [0x1a, 3, 0x0a, 1, b'k']);
        assert_eq!(event.wire(false), plain);
        assert_eq!(event.wire(false).as_ptr(), plain.as_ptr(), "encoded once for all");
    }
}
