//! The nine guarantees of a watch, each by its name: ordered, unique, atomic, reliable, resumable, bookmarkable, previous
//! key-value, is-create, filter. One [`Check`] follows one watch over all its lives.

use bytes::Bytes;
use ketch_proto::etcdserverpb::{WatchCreateRequest, watch_create_request::FilterType};
use ketch_proto::mvccpb::{Event, KeyValue, event::EventType};

use super::truth::Truth;

/// What one watch wants, and how far it has come.
#[derive(Debug, Clone)]
pub(super) struct Check {
    /// What it asks for whenever it is made.
    pub(super) request: WatchCreateRequest,
    /// The first revision of which it has seen nothing.
    pub(super) next: i64,
    /// It was made anew and has seen nothing since.
    pub(super) resumed: bool,
}

impl Check {
    /// Whether the watch is to be told of `event`.
    fn wants(&self, event: &Event) -> bool {
        let Some(kv) = &event.kv else { return false };
        let key = &kv.key;
        let in_range = match &self.request.range_end[..] {
            [] => *key == self.request.key,
            [0] => *key >= self.request.key,
            end => *key >= self.request.key && &key[..] < end,
        };
        in_range && !self.filters(event)
    }

    fn filters(&self, event: &Event) -> bool {
        let kind = match event.r#type() {
            EventType::Put => FilterType::Noput,
            EventType::Delete => FilterType::Nodelete,
        };
        self.request.filters.contains(&(kind as i32))
    }

    fn wanted(&self, truth: &Truth, revision: i64) -> Option<Vec<Event>> {
        let events = truth.events(revision)?;
        Some(events.iter().filter(|event| self.wants(event)).cloned().collect())
    }

    /// Nothing that the watch wants lies between what it has seen and `upto`.
    fn nothing_missed(&self, truth: &Truth, upto: i64, guarantee: &str) -> Result<(), String> {
        for revision in self.next..=upto {
            if let Some(missed) = self.wanted(truth, revision).filter(|missed| !missed.is_empty()) {
                return Err(format!("{guarantee}: revision {revision} was passed over: {missed:?}"));
            }
        }
        Ok(())
    }

    /// The watch was told `events`, all of one response or of all its fragments. Below `compacted` what was before is gone.
    ///
    /// # Errors
    /// The guarantee that does not hold.
    pub(super) fn told(&mut self, events: &[Event], truth: &Truth, compacted: i64) -> Result<(), String> {
        for of_one in events.chunk_by(|a, b| revision(a) == revision(b)) {
            let at = of_one.first().map_or(0, revision);
            if at < self.next {
                return Err(format!("ordered: revision {at} came after {}", self.next - 1));
            }
            let guarantee = if self.resumed { "resumable" } else { "reliable" };
            self.nothing_missed(truth, at - 1, guarantee)?;
            self.told_of_one(of_one, truth, at, compacted)?;
            (self.next, self.resumed) = (at + 1, false);
        }
        Ok(())
    }

    fn told_of_one(&self, told: &[Event], truth: &Truth, at: i64, compacted: i64) -> Result<(), String> {
        if let Some(event) = told.iter().find(|event| self.filters(event)) {
            return Err(format!("filter: {event:?} was to be left out"));
        }
        let key = |event: &Event| event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
        let mut keys: Vec<Bytes> = told.iter().map(key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("unique: a key comes twice in {told:?}"));
        }
        let Some(wanted) = self.wanted(truth, at) else { return Ok(()) };
        if told.len() < wanted.len() {
            return Err(format!("atomic: of revision {at} only {told:?} came, not all of {wanted:?}"));
        }
        for event in told {
            let Some(right) = wanted.iter().find(|wanted| key(wanted) == key(event)) else {
                return Err(format!("reliable: {event:?} never happened"));
            };
            self.same(event, right, at, compacted)?;
        }
        Ok(())
    }

    fn same(&self, event: &Event, right: &Event, at: i64, compacted: i64) -> Result<(), String> {
        if (event.r#type, &event.kv) != (right.r#type, &right.kv) {
            return Err(format!("reliable: {event:?} should be {right:?}"));
        }
        if is_create(event) != (right.r#type() == EventType::Put && right.prev_kv.is_none()) {
            return Err(format!("is-create: {event:?} after {:?}", right.prev_kv));
        }
        let gone = event.prev_kv.is_none() && at <= compacted;
        let before = if self.request.prev_kv { right.prev_kv.as_ref() } else { None };
        if event.prev_kv.as_ref() != before && !gone {
            return Err(format!("previous key-value: {:?} should be {before:?}", event.prev_kv));
        }
        Ok(())
    }

    /// The watch was told that it has seen everything up to `revision`.
    ///
    /// # Errors
    /// It has not.
    pub(super) fn bookmark(&mut self, revision: i64, truth: &Truth) -> Result<(), String> {
        self.nothing_missed(truth, revision, "bookmarkable")?;
        self.next = self.next.max(revision + 1);
        Ok(())
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// As clients tell: a put whose key was made by it.
fn is_create(event: &Event) -> bool {
    let made = |kv: &KeyValue| kv.create_revision == kv.mod_revision;
    event.r#type() == EventType::Put && event.kv.as_ref().is_some_and(made)
}
