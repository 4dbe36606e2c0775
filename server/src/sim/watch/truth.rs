//! What watchers must be told: the changes of each revision, found by reading the store at that revision and comparing it with the
//! one before. Nothing of it passes through the watch hub.

use std::collections::BTreeMap;

use bytes::Bytes;
use ketch_mvcc::{KeyRange, Query, ReadError, Store};
use ketch_proto::mvccpb::{Event, KeyValue, event::EventType};
use prost::Message;

type State = BTreeMap<Bytes, KeyValue>;

/// The changes of every revision so far.
#[derive(Debug, Default)]
pub(in crate::sim) struct Truth {
    /// Up to where the store has been read.
    seen: i64,
    /// The keys at revision `seen`; `None` if it was compacted before it could be read.
    state: Option<State>,
    /// The events of a revision with what was before; a revision that could not be read, or not compared, is absent.
    events: BTreeMap<i64, Vec<Event>>,
}

impl Truth {
    /// Reads what the store has published since the last call.
    ///
    /// # Errors
    /// A read that failed for another reason than compaction, or a store that has lost revisions.
    pub(super) fn observe(&mut self, store: &Store) -> Result<(), String> {
        if store.revision() < self.seen {
            return Err(format!("the store is at revision {}, it was at {}", store.revision(), self.seen));
        }
        while self.seen < store.revision() {
            let revision = self.seen + 1;
            let now = read(store, revision)?;
            if let (Some(before), Some(now)) = (&self.state, &now) {
                self.events.insert(revision, changes(before, now, revision));
            }
            (self.seen, self.state) = (revision, now);
        }
        Ok(())
    }

    /// Learns of the events of the next revision from somebody who knows them.
    pub(in crate::sim) fn tell(&mut self, revision: i64, events: Vec<Event>) {
        self.events.insert(revision, events);
        self.seen = revision;
    }

    /// The newest revision looked at.
    #[must_use]
    pub(super) fn seen(&self) -> i64 {
        self.seen
    }

    /// The events of `revision`; `None` if it is not known.
    #[must_use]
    pub(super) fn events(&self, revision: i64) -> Option<&[Event]> {
        self.events.get(&revision).map(Vec::as_slice)
    }
}

fn read(store: &Store, revision: i64) -> Result<Option<State>, String> {
    let range = KeyRange::Span { start: Bytes::new(), end: None };
    match store.reader().view().range(&Query { revision, ..Query::new(range) }) {
        Ok(found) => {
            let pairs = found.kvs.iter().map(|kv| KeyValue::decode(kv.as_wire().clone()));
            let pairs = pairs.map(|kv| kv.map(|kv| (kv.key.clone(), kv)).map_err(|error| error.to_string()));
            pairs.collect::<Result<State, String>>().map(Some)
        }
        Err(ReadError::Compacted { .. }) => Ok(None),
        Err(error) => Err(format!("revision {revision} is not readable: {error}")),
    }
}

fn changes(before: &State, now: &State, revision: i64) -> Vec<Event> {
    let put = now.values().filter(|kv| kv.mod_revision == revision).map(|kv| Event {
        r#type: EventType::Put as i32,
        kv: Some(kv.clone()),
        prev_kv: before.get(&kv.key).cloned(),
    });
    let deleted = before.values().filter(|kv| !now.contains_key(&kv.key)).map(|kv| Event {
        r#type: EventType::Delete as i32,
        kv: Some(KeyValue { key: kv.key.clone(), mod_revision: revision, ..KeyValue::default() }),
        prev_kv: Some(kv.clone()),
    });
    put.chain(deleted).collect()
}
