//! What happened, as watchers were told: the changes of each revision, and from them every key at every revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use ketch_proto::mvccpb::event::EventType;
use ketch_proto::mvccpb::{Event, KeyValue};

/// How far back clients read, and more.
const KEPT: i64 = 400;

/// Every revision from the second on.
#[derive(Debug)]
pub(crate) struct Truth {
    latest: i64,
    /// The changes of each revision that was not forgotten.
    pub(crate) events: BTreeMap<i64, Vec<Event>>,
    /// Each key's versions; `None` is a tombstone.
    keys: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
}

impl Truth {
    pub(crate) fn new() -> Truth {
        Truth { latest: 1, events: BTreeMap::new(), keys: BTreeMap::new() }
    }

    pub(crate) fn latest(&self) -> i64 {
        self.latest
    }

    /// The next revision's changes.
    ///
    /// # Errors
    /// It is not the next one, or what it says of a key does not follow from what that key was.
    pub(crate) fn extend(&mut self, revision: i64, events: &[Event]) -> Result<(), String> {
        if revision != self.latest + 1 {
            return Err(format!("reliable: after revision {} comes {revision}", self.latest));
        }
        for event in events {
            self.follows(revision, event)?;
        }
        for event in events {
            let kv = event.kv.clone().unwrap_or_default();
            let now = (event.r#type() == EventType::Put).then(|| kv.clone());
            self.keys.entry(kv.key).or_default().push((revision, now));
        }
        self.latest = revision;
        self.events.insert(revision, events.to_vec());
        Ok(())
    }

    fn follows(&self, revision: i64, event: &Event) -> Result<(), String> {
        let kv = event.kv.clone().unwrap_or_default();
        let before = self.at(&kv.key, self.latest);
        let right = match (event.r#type(), before) {
            (EventType::Delete, None) => return Err(format!("a delete of nothing: {event:?}")),
            (EventType::Delete, Some(_)) => {
                KeyValue { key: kv.key.clone(), mod_revision: revision, ..Default::default() }
            }
            (EventType::Put, before) => KeyValue {
                create_revision: before.map_or(revision, |before| before.create_revision),
                mod_revision: revision,
                version: before.map_or(1, |before| before.version + 1),
                ..kv.clone()
            },
        };
        if kv != right || event.prev_kv.as_ref() != before {
            return Err(format!("{event:?} should be {right:?} after {before:?}"));
        }
        Ok(())
    }

    /// A key at a revision.
    pub(crate) fn at(&self, key: &Bytes, revision: i64) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        let after = versions.partition_point(|(made, _)| *made <= revision);
        versions[..after].last()?.1.as_ref()
    }

    /// All keys from `from` up to `end` at a revision, in order.
    pub(crate) fn all(&self, from: &[u8], end: &[u8], revision: i64) -> Vec<KeyValue> {
        let keys = self.keys.keys().filter(|key| &key[..] >= from && &key[..] < end);
        keys.filter_map(|key| self.at(key, revision)).cloned().collect()
    }

    /// Only the last revisions and what is there now matter from here on.
    pub(crate) fn forget(&mut self) {
        self.events.clear();
        let from = self.latest - KEPT;
        for versions in self.keys.values_mut() {
            let after = versions.partition_point(|(made, _)| *made <= from);
            versions.drain(..after.saturating_sub(1));
        }
    }
}
