//! What one writer did: the changes of each revision, as a watcher must see them.

use std::collections::BTreeMap;

use ketch_proto::etcdserverpb::request_op::Request;
use ketch_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use ketch_proto::mvccpb::KeyValue;
use ketch_proto::mvccpb::event::EventType;

use crate::harness::random::Random;

/// One change: what an event carries.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) kind: EventType,
    pub(super) kv: KeyValue,
    pub(super) previous: Option<KeyValue>,
}

/// The keys now, and the changes of every revision.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    keys: BTreeMap<Vec<u8>, KeyValue>,
    pub(super) revisions: BTreeMap<i64, Vec<Change>>,
}

/// A key of the test.
pub(super) fn key(number: u64) -> Vec<u8> {
    format!("g/{number:02}").into_bytes()
}

/// How many keys there are.
pub(super) const KEYS: u64 = 20;

/// One transaction's writes.
#[derive(Clone, Debug)]
pub(super) struct Write {
    puts: Vec<(Vec<u8>, Vec<u8>)>,
    delete: Option<(Vec<u8>, Vec<u8>)>,
}

impl Write {
    /// Puts of distinct keys in the lower half, or a delete of some in the upper half, or both.
    pub(super) fn draw(random: &mut Random) -> Write {
        let mut puts = BTreeMap::new();
        for _ in 0..random.between(1, 4) {
            let value = vec![b'v'; usize::try_from(random.between(0, 2000)).unwrap()];
            puts.insert(key(random.next() % KEYS), value);
        }
        let mut delete = None;
        if random.one_in(3) {
            let low = KEYS / 2 + random.next() % (KEYS / 2);
            puts.retain(|put, _| *put < key(KEYS / 2));
            delete = Some((key(low), key(low + 3)));
        }
        Write { puts: puts.into_iter().collect(), delete }
    }

    pub(super) fn request(&self) -> TxnRequest {
        let put = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let (key, value) = (key.clone().into(), value.clone().into());
            Request::RequestPut(PutRequest { key, value, ..Default::default() })
        };
        let delete = |(key, end): &(Vec<u8>, Vec<u8>)| {
            let (key, range_end) = (key.clone().into(), end.clone().into());
            Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, ..Default::default() })
        };
        let writes = self.puts.iter().map(put).chain(self.delete.iter().map(delete));
        let success = writes.map(|request| RequestOp { request: Some(request) }).collect();
        TxnRequest { success, ..Default::default() }
    }
}

impl History {
    /// The newest revision.
    pub(super) fn latest(&self) -> i64 {
        self.revisions.keys().next_back().copied().unwrap_or(1)
    }

    /// Whether `write` would change anything.
    pub(super) fn changes(&self, write: &Write) -> bool {
        let deletes =
            |(low, end): &(Vec<u8>, Vec<u8>)| self.keys.range(low.clone()..end.clone()).next().is_some();
        !write.puts.is_empty() || write.delete.as_ref().is_some_and(deletes)
    }

    /// Carries out what a server has carried out.
    pub(super) fn apply(&mut self, write: &Write) {
        let revision = self.latest() + 1;
        let mut changes = Vec::new();
        for (key, value) in &write.puts {
            let previous = self.keys.get(key).cloned();
            let kv = KeyValue {
                key: key.clone().into(),
                value: value.clone().into(),
                create_revision: previous.as_ref().map_or(revision, |previous| previous.create_revision),
                mod_revision: revision,
                version: previous.as_ref().map_or(1, |previous| previous.version + 1),
                lease: 0,
            };
            self.keys.insert(key.clone(), kv.clone());
            changes.push(Change { kind: EventType::Put, kv, previous });
        }
        if let Some((low, end)) = &write.delete {
            let gone: Vec<Vec<u8>> =
                self.keys.range(low.clone()..end.clone()).map(|(key, _)| key.clone()).collect();
            for key in gone {
                let previous = self.keys.remove(&key);
                let kv = KeyValue { key: key.into(), mod_revision: revision, ..Default::default() };
                changes.push(Change { kind: EventType::Delete, kv, previous });
            }
        }
        if !changes.is_empty() {
            self.revisions.insert(revision, changes);
        }
    }
}
