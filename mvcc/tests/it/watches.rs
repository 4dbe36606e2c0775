//! The guarantees of a watch, checked at every batch a consumer takes.
//!
//! * ordered, unique, reliable: what a watcher has been given is always the beginning of what it should get;
//! * atomic: a batch never ends inside a revision;
//! * bookmarkable: a progress notice never overtakes an event;
//! * resumable: a watcher started at any later revision gets the rest (histories start watchers everywhere);
//! * prev_kv, is-create and filters are right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ketch_mvcc::model::{Model, ModelEvent};
use ketch_mvcc::{Event, KeyRange, KeyValue, Store, WatchRequest, WatchStream};

use crate::history::Watch;

/// The watchers of one consumer.
#[derive(Default)]
pub(crate) struct Watches {
    stream: Option<WatchStream>,
    woken: Arc<AtomicBool>,
    running: BTreeMap<i64, Running>,
    next: i64,
}

struct Running {
    watch: Watch,
    range: KeyRange,
    start: i64,
    /// Whether the start is below what was compacted at the time.
    refused: bool,
    got: Vec<Arc<Event>>,
}

impl Watches {
    pub(crate) fn add(&mut self, store: &mut Store, watch: &Watch, model: &Model) {
        let woken = Arc::clone(&self.woken);
        let wake = Arc::new(move || woken.store(true, Ordering::SeqCst));
        let stream = self.stream.get_or_insert_with(|| store.hub().stream(wake));
        let start = watch.behind.map_or(0, |behind| (model.revision() - behind).max(1));
        let request = WatchRequest {
            range: watch.range.clone(),
            start_revision: start,
            previous: watch.previous,
            no_put: watch.no_put,
            no_delete: watch.no_delete,
        };
        let id = self.next;
        self.next += 1;
        assert!(stream.watch(id, request.clone()));
        assert!(!stream.watch(id, request), "a name is taken once");
        let start = if start == 0 { model.revision() + 1 } else { start };
        let refused = start < model.compacted();
        let running =
            Running { watch: watch.clone(), range: watch.range.clone(), start, refused, got: Vec::new() };
        self.running.insert(id, running);
    }

    pub(crate) fn cancel(&mut self, nth: usize) {
        let (Some(stream), Some(&id)) = (&self.stream, self.running.keys().nth(nth)) else { return };
        assert!(stream.cancel(id) && !stream.cancel(id));
        self.running.remove(&id);
    }

    /// Takes one batch; false when there was none.
    pub(crate) fn take(&mut self, max: usize, model: &Model) -> bool {
        let Some(stream) = &self.stream else { return false };
        let Some(batch) = stream.take(max) else { return false };
        let running = self.running.get_mut(&batch.watcher).expect("a batch of a watcher that runs");
        running.got.extend(batch.events);
        let expected = running.expected(model);
        running.check_beginning(&expected, model);
        if let Some(last) = running.got.last() {
            let next = expected.get(running.got.len()).map(|event| event.revision.main);
            assert_ne!(next, Some(last.revision()), "a batch ends inside a revision");
            assert!(batch.revision >= last.revision());
        }
        if let Some(progress) = stream.progress(batch.watcher) {
            let due = expected.iter().filter(|event| event.revision.main <= progress).count();
            assert_eq!(running.got.len(), due, "progress {progress} overtakes an event");
        }
        if let Some(compacted) = batch.compacted {
            assert!(compacted <= model.compacted());
            let next = running.got.last().map_or(running.start, |last| last.revision() + 1);
            assert!(next < compacted || running.start < compacted, "lost without reason");
            self.running.remove(&batch.watcher);
        } else {
            assert!(!running.refused, "a start below the compaction point is served");
        }
        true
    }

    /// After everything was handed on and taken, nothing is missing.
    pub(crate) fn check_complete(&self, model: &Model) {
        for (id, running) in &self.running {
            let expected = running.expected(model);
            assert_eq!(running.got.len(), expected.len(), "watcher {id} misses events");
            assert!(!running.refused);
            let progress = self.stream.as_ref().and_then(|stream| stream.progress(*id));
            assert_eq!(progress, Some(model.revision()), "an idle watcher is up to date");
        }
        if let Some(stream) = &self.stream {
            let all = (!self.running.is_empty()).then(|| model.revision());
            assert_eq!(stream.progress_all(), all);
        }
    }
}

impl Running {
    fn expected(&self, model: &Model) -> Vec<ModelEvent> {
        let mut events = model.events(&self.range, self.start);
        events.retain(|event| !(if event.delete { self.watch.no_delete } else { self.watch.no_put }));
        events
    }

    /// What was got is the beginning of what is expected, event by event.
    fn check_beginning(&self, expected: &[ModelEvent], model: &Model) {
        assert!(self.got.len() <= expected.len(), "more events than there are");
        for (event, expected) in self.got.iter().zip(expected) {
            assert_eq!(event.key_value(), expected.kv, "order, uniqueness or content");
            assert_eq!(event.is_delete(), expected.delete);
            let previous = expected.previous.is_some();
            assert_eq!(event.is_create(), !expected.delete && !previous, "is-create");
            assert_eq!(event.wire(false), wire(expected.delete, &expected.kv, None), "the plain encoding");
            if self.watch.previous {
                let previous = event.previous();
                assert_eq!(event.wire(true), wire(expected.delete, &expected.kv, previous.as_ref()));
                let before = model.get(&expected.kv.key(), expected.revision.main - 1);
                // One revision below the compaction point there is nothing to read, as in etcd.
                if expected.revision.main > model.compacted() {
                    assert_eq!(event.previous(), before, "what the key was before");
                }
            }
        }
    }
}

/// The encoding of `mvccpb.Event`, spelled out.
fn wire(delete: bool, kv: &KeyValue, previous: Option<&KeyValue>) -> Vec<u8> {
    let mut out = if delete { vec![0x08, 1] } else { Vec::new() };
    for (tag, kv) in [(0x12, Some(kv)), (0x1a, previous)] {
        let Some(kv) = kv else { continue };
        out.push(tag);
        let mut len = kv.as_wire().len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend_from_slice(kv.as_wire());
    }
    out
}
