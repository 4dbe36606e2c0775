//! The guarantees by name (etcd's "Watch API guarantees"), each an assertion over what one watcher saw and the history.

use std::collections::{BTreeMap, BTreeSet};

use ketch_proto::etcdserverpb::watch_create_request::FilterType;
use ketch_proto::mvccpb::event::EventType;
use ketch_proto::mvccpb::{Event, KeyValue};

use super::history::{Change, History};
use super::watcher::{Seen, Wants};

/// One watcher, what it saw and what it should have seen.
pub(super) struct Case<'a> {
    wants: &'a Wants,
    seen: &'a Seen,
    /// Changes it wants, without those that were compacted before it came to them.
    wanted: Vec<&'a Change>,
    /// The last compaction: previous versions below it need not be there.
    compacted: i64,
}

fn kv(event: &Event) -> &KeyValue {
    event.kv.as_ref().unwrap()
}

impl<'a> Case<'a> {
    pub(super) fn new(wants: &'a Wants, seen: &'a Seen, history: &'a History, compacted: i64) -> Case<'a> {
        let mut case = Case { wants, seen, wanted: Vec::new(), compacted };
        let in_gap = |revision| seen.gaps.iter().any(|&(from, to)| (from..to).contains(&revision));
        let changes = history.revisions.iter().filter(|&(&revision, _)| !in_gap(revision));
        case.wanted = changes.flat_map(|(_, changes)| changes).filter(|change| case.wants(change)).collect();
        case
    }

    fn in_range(&self, key: &[u8]) -> bool {
        match &self.wants.range_end[..] {
            [] => key == self.wants.key,
            [0] => key >= &self.wants.key[..],
            end => key >= &self.wants.key[..] && key < end,
        }
    }

    fn passes(&self, kind: EventType) -> bool {
        let unwanted = match kind {
            EventType::Put => FilterType::Noput,
            EventType::Delete => FilterType::Nodelete,
        };
        !self.wants.filters.contains(&unwanted)
    }

    fn wants(&self, change: &Change) -> bool {
        self.in_range(&change.kv.key) && self.passes(change.kind)
    }

    pub(super) fn check(&self) {
        self.ordered();
        self.unique();
        self.atomic();
        self.reliable();
        self.resumable();
        self.bookmarkable();
        self.previous_values();
        self.creations();
        self.filtered();
    }

    fn events(&self) -> impl Iterator<Item = &'a Event> {
        self.seen.events.iter().map(|(_, event)| event)
    }

    fn ordered(&self) {
        let revisions: Vec<i64> = self.events().map(|event| kv(event).mod_revision).collect();
        assert!(revisions.is_sorted(), "{:?}: {revisions:?}", self.wants);
    }

    fn unique(&self) {
        let mut seen = BTreeSet::new();
        for event in self.events() {
            let name = (kv(event).mod_revision, kv(event).key.clone());
            assert!(seen.insert(name), "{:?}: twice {event:?}", self.wants);
        }
    }

    fn atomic(&self) {
        let mut responses: BTreeMap<i64, usize> = BTreeMap::new();
        for (response, event) in &self.seen.events {
            let first = *responses.entry(kv(event).mod_revision).or_insert(*response);
            assert_eq!(first, *response, "{:?}: a revision in two responses: {event:?}", self.wants);
        }
    }

    fn reliable(&self) {
        let name = |kind: EventType, kv: &KeyValue| (kv.mod_revision, kind, kv.key.clone());
        let seen: Vec<_> = self.events().map(|event| name(event.r#type(), kv(event))).collect();
        let wanted: Vec<_> = self.wanted.iter().map(|change| name(change.kind, &change.kv)).collect();
        assert_eq!(seen, wanted, "{:?}", self.wants);
    }

    fn resumable(&self) {
        for &(next, had) in &self.seen.resumed {
            if let Some((_, event)) = self.seen.events.get(had) {
                assert!(kv(event).mod_revision >= next, "{:?}: resumed at {next}: {event:?}", self.wants);
            }
        }
    }

    fn bookmarkable(&self) {
        for &(revision, had) in &self.seen.bookmarks {
            let wanted = self.wanted.iter().filter(|change| change.kv.mod_revision <= revision).count();
            assert_eq!(had, wanted, "{:?}: progress {revision} overtook an event", self.wants);
        }
    }

    fn previous_values(&self) {
        for (event, change) in self.events().zip(&self.wanted) {
            let compacted = change.kv.mod_revision - 1 < self.compacted && event.prev_kv.is_none();
            let wanted = change.previous.as_ref().filter(|_| self.wants.prev_kv && !compacted);
            assert_eq!(event.prev_kv.as_ref(), wanted, "{:?}: {event:?}", self.wants);
        }
    }

    fn creations(&self) {
        for (event, change) in self.events().zip(&self.wanted) {
            assert_eq!(*kv(event), change.kv, "{:?}", self.wants);
            let creates = kv(event).create_revision == kv(event).mod_revision;
            assert_eq!(creates, change.kind == EventType::Put && change.previous.is_none());
        }
    }

    fn filtered(&self) {
        for event in self.events() {
            assert!(
                self.in_range(&kv(event).key) && self.passes(event.r#type()),
                "{:?}: {event:?}",
                self.wants
            );
        }
    }
}
