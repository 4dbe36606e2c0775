//! What the clients know of the store.

use std::collections::BTreeMap;

/// What a writer asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Put one key.
    Put { key: String, value: String },
    /// Put all these keys to one value in one transaction.
    PutAll { keys: Vec<String>, value: String },
    /// Delete all of the writer's keys that start so.
    Delete { prefix: String },
    /// Compact.
    Compact { revision: i64 },
}

/// One request of a writer and how it ended.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) ask: Ask,
    /// The answer's revision; none: the process was killed before it answered.
    pub(super) revision: Option<i64>,
}

/// A key's value and the revision that wrote it, if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) value: String,
    pub(super) revision: i64,
}

/// All keys at one revision, as a reader saw them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) revision: i64,
    pub(super) keys: BTreeMap<String, Held>,
}

/// An acknowledged change of one key.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: i64,
    pub(super) key: String,
    /// None: deleted.
    pub(super) value: Option<String>,
}

/// Everything known, over all lives of the process.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// What each key must hold now.
    pub(super) keys: BTreeMap<String, Held>,
    /// Requests without an answer, at most one a writer; the next check finds out what became of them.
    pub(super) open: Vec<Event>,
    /// Acknowledged changes.
    pub(super) changes: Vec<Change>,
    /// How many of them were checked at least once.
    pub(super) checked: usize,
    /// Sights of the last life.
    pub(super) sights: Vec<Sight>,
    /// Highest revision that is known to have been given out.
    pub(super) highest: i64,
    /// Revisions below this are gone; those below `maybe_compacted` may be.
    pub(super) compacted: i64,
    pub(super) maybe_compacted: i64,
    /// Raft's term in the last life.
    pub(super) term: u64,
    /// Acknowledged requests by revision.
    given_out: BTreeMap<i64, Ask>,
}

impl History {
    /// Takes note of one life's events, in each writer's order.
    pub(super) fn record(&mut self, events: Vec<Event>) {
        let before = self.highest;
        for event in events {
            match (event.revision, &event.ask) {
                (Some(revision), Ask::Compact { revision: at }) => {
                    self.compacted = self.compacted.max(*at);
                    self.maybe_compacted = self.maybe_compacted.max(*at);
                    self.highest = self.highest.max(revision);
                }
                (Some(revision), _) => self.acknowledged(&event, revision, before),
                (None, ask) => {
                    if let Ask::Compact { revision } = ask {
                        self.maybe_compacted = self.maybe_compacted.max(*revision);
                    }
                    self.open.push(event);
                }
            }
        }
    }

    fn acknowledged(&mut self, event: &Event, revision: i64, before: i64) {
        let gone = self.apply(&event.ask, revision);
        self.highest = self.highest.max(revision);
        let changed = match &event.ask {
            Ask::Put { key, value } => vec![(key.clone(), Some(value.clone()))],
            Ask::PutAll { keys, value } => {
                keys.iter().map(|key| (key.clone(), Some(value.clone()))).collect()
            }
            Ask::Delete { .. } => gone.into_iter().map(|key| (key, None)).collect(),
            Ask::Compact { .. } => Vec::new(),
        };
        if changed.is_empty() {
            return; // A delete of nothing has no revision of its own.
        }
        assert!(revision > before, "revision {revision} of {event:?} was given out in an earlier life");
        let other = self.given_out.insert(revision, event.ask.clone());
        assert_eq!(other, None, "revision {revision} was given out twice, now for {event:?}");
        self.changes.extend(changed.into_iter().map(|(key, value)| Change { revision, key, value }));
    }

    /// Changes what the keys must hold; returns the keys that are gone.
    pub(super) fn apply(&mut self, ask: &Ask, revision: i64) -> Vec<String> {
        let held = |value: &String| Held { value: value.clone(), revision };
        match ask {
            Ask::Put { key, value } => {
                self.keys.insert(key.clone(), held(value));
            }
            Ask::PutAll { keys, value } => {
                self.keys.extend(keys.iter().map(|key| (key.clone(), held(value))));
            }
            Ask::Delete { prefix } => {
                let gone: Vec<String> =
                    self.keys.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
                gone.iter().for_each(|key| drop(self.keys.remove(key)));
                return gone;
            }
            Ask::Compact { .. } => {}
        }
        Vec::new()
    }
}
