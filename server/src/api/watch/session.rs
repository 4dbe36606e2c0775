//! One stream's watches: requests go in, responses come out. Synchronous: no clock, no socket, so that a simulation can drive it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ketch_mvcc::{Event, Reader, Wake, WatchBatch, WatchHub, WatchStream};
use ketch_proto::etcdserverpb::watch_request::RequestUnion;
use ketch_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};

use super::create::{self, Refusal};
use super::encode::{Frames, push_events, push_fragments};

/// Answers to requests that may wait to be sent before further requests are read.
const ANSWERS_MAX: usize = 16;
/// About how many events are taken of one watcher before the next one has its turn.
const TAKE_MAX: usize = 1000;
/// About how many events of different watches are put in order before they are sent.
const TOGETHER_MAX: usize = 256;
/// A watch with more events than these to take is behind, and gets several revisions in one response.
const KEEPS_UP_MAX: usize = 64;
/// The id of answers that concern no watch, or all of them.
const NO_WATCH: i64 = -1;

/// Whose responses these are, and how large they may be.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// Responses of that size are split for watchers that accept fragments, in bytes.
    pub fragment_bytes: usize,
}

/// One watch, as the stream knows it.
#[derive(Debug)]
struct Watch {
    /// Compaction ended it. As in etcd its id stays taken until it is cancelled.
    lost: bool,
    fragment: bool,
    /// The start revision, if it lay in the future.
    starts: i64,
    /// The store's revision when it was made: events up to it come late.
    made_at: i64,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unwanted,
    /// The next notice is due at the next tick.
    Wanted,
    /// Events were sent since the last tick, so the next one is left out.
    Elided,
    /// A notice is due now.
    Due,
}

/// A response to be: some events of a batch, or none for the end of a watch that compaction has overtaken.
struct Part<'b> {
    batch: &'b WatchBatch,
    events: &'b [Arc<Event>],
    /// For the header.
    revision: i64,
}

impl Part<'_> {
    fn order(&self) -> i64 {
        self.events.last().map_or(i64::MAX, |event| event.revision())
    }
}

impl Watch {
    /// The responses that `batch` makes. Whoever comes late gets it in one and is told the newest revision; whoever is up to date
    /// gets one for each revision and is told that.
    fn split<'b>(&mut self, batch: &'b WatchBatch, responses: &mut Vec<Part<'b>>) {
        if let [first, .., last] | [first @ last] = &batch.events[..] {
            let late = first.revision() <= self.made_at;
            if late || batch.events.len() > KEEPS_UP_MAX {
                let revision = if late { batch.revision } else { last.revision() };
                responses.push(Part { batch, events: &batch.events, revision });
            } else {
                let revisions = batch.events.chunk_by(|a, b| a.revision() == b.revision());
                let part = |events: &'b [Arc<Event>]| Part { batch, events, revision: events[0].revision() };
                responses.extend(revisions.map(part));
            }
            if self.progress != Progress::Unwanted {
                self.progress = Progress::Elided;
            }
        }
        if batch.compacted.is_some() {
            self.lost = true;
            // etcd names no revision here.
            responses.push(Part { batch, events: &[], revision: 0 });
        }
    }
}

/// The watches of one stream. Dropping it ends them.
#[derive(Debug)]
pub struct Session {
    identity: Identity,
    stream: WatchStream,
    reader: Reader,
    watches: BTreeMap<i64, Watch>,
    next_id: i64,
    answers: VecDeque<WatchResponse>,
    /// Progress was asked for when the store was at this revision.
    asked: Option<i64>,
    /// Some watch's notice may be due.
    ticked: bool,
    wants_progress: bool,
    /// What was asked could not be answered at the last look.
    unclear: bool,
}

impl Session {
    /// A stream without watches; `wake` is called when there is something new for it.
    #[must_use]
    pub fn new(identity: Identity, hub: &WatchHub, reader: Reader, wake: Wake) -> Session {
        Session {
            identity,
            stream: hub.stream(wake),
            reader,
            watches: BTreeMap::new(),
            next_id: 0,
            answers: VecDeque::new(),
            asked: None,
            ticked: false,
            wants_progress: false,
            unclear: false,
        }
    }

    /// Whether it takes another request. It does again once [`fill`](Self::fill) has been called.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.answers.len() < ANSWERS_MAX
    }

    /// Whether answers to requests wait to be sent.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Whether a watch wants progress notices, or some watch once did.
    #[must_use]
    pub fn wants_progress(&self) -> bool {
        self.wants_progress
    }

    /// Whether it waits for the hub to hand on what is published.
    #[must_use]
    pub fn waits_for_delivery(&self) -> bool {
        self.asked.is_some()
    }

    /// Takes a request. One without content means nothing.
    pub fn handle(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => {
                let answer = self.create(&request);
                self.answers.push_back(answer);
            }
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.asked = Some(self.reader.revision()),
            None => {}
        }
    }

    /// The time for progress notices has come.
    pub fn tick(&mut self) {
        for watch in self.watches.values_mut() {
            watch.progress = match watch.progress {
                Progress::Unwanted => Progress::Unwanted,
                Progress::Elided => Progress::Wanted,
                Progress::Wanted | Progress::Due => Progress::Due,
            };
            self.ticked |= watch.progress == Progress::Due;
        }
    }

    /// Puts into `frames` what there is to say, until it is full; says how many events that are.
    pub fn fill(&mut self, frames: &mut Frames, term: u64) -> u64 {
        let mut sent = 0;
        for mut answer in self.answers.drain(..) {
            if let Some(header) = &mut answer.header {
                header.raft_term = term;
            }
            frames.push(&answer, &[]);
        }
        while !frames.is_full() {
            let mut batches = self.take_some();
            if batches.is_empty() {
                self.give_notice(frames, term);
                // Not known: a watch is behind, or got an event since the look. Only then is there something to take.
                if !self.unclear {
                    break;
                }
                batches = self.take_some();
                if batches.is_empty() {
                    self.asked = None;
                    break;
                }
            }
            sent += batches.iter().map(|batch| batch.events.len() as u64).sum::<u64>();
            self.push_batches(frames, &batches, term);
        }
        sent
    }

    fn create(&mut self, request: &WatchCreateRequest) -> WatchResponse {
        // Read first: a watch made afterwards misses nothing above it.
        let made_at = self.reader.revision();
        let made = self.try_create(request, made_at);
        let header = Some(self.header(self.reader.revision(), 0));
        match made {
            Ok(watch_id) => WatchResponse { header, watch_id, created: true, ..WatchResponse::default() },
            Err(refusal) => WatchResponse {
                header,
                watch_id: NO_WATCH,
                created: true,
                canceled: true,
                cancel_reason: refusal.reason().to_owned(),
                ..WatchResponse::default()
            },
        }
    }

    fn try_create(&mut self, request: &WatchCreateRequest, made_at: i64) -> Result<i64, Refusal> {
        let wanted = create::convert(request)?;
        let id = match request.watch_id {
            0 => self.free_id(),
            taken if self.watches.contains_key(&taken) => return Err(Refusal::DuplicateId),
            chosen => chosen,
        };
        let watch = Watch {
            lost: false,
            fragment: request.fragment,
            starts: request.start_revision,
            made_at,
            progress: if request.progress_notify { Progress::Wanted } else { Progress::Unwanted },
        };
        self.wants_progress |= request.progress_notify;
        self.watches.insert(id, watch);
        self.stream.watch(id, wanted);
        Ok(id)
    }

    /// Ids that the server chooses count up, around those that the client chose.
    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Ends a watch. One that the stream does not have is not worth an answer.
    fn cancel(&mut self, watch_id: i64) {
        if self.watches.remove(&watch_id).is_some() {
            self.stream.cancel(watch_id);
            let header = Some(self.header(self.reader.revision(), 0));
            self.answers.push_back(WatchResponse {
                header,
                watch_id,
                canceled: true,
                ..WatchResponse::default()
            });
        }
    }

    /// What some of the watches have got, a bounded number of events.
    fn take_some(&mut self) -> Vec<WatchBatch> {
        let (mut batches, mut events) = (Vec::new(), 0);
        while events < TOGETHER_MAX {
            let Some(batch) = self.stream.take(TAKE_MAX) else { break };
            events += batch.events.len().max(1);
            if self.watches.contains_key(&batch.watcher) {
                batches.push(batch);
            }
        }
        batches
    }

    /// Puts batches into `frames` as responses, those of all watches in the order of their revisions.
    fn push_batches(&mut self, frames: &mut Frames, batches: &[WatchBatch], term: u64) {
        let mut responses: Vec<Part<'_>> = Vec::with_capacity(batches.len());
        for batch in batches {
            let Some(watch) = self.watches.get_mut(&batch.watcher) else { continue };
            watch.split(batch, &mut responses);
        }
        responses.sort_by_key(Part::order); // stable: a watch's own order stays
        for Part { batch, events, revision } in responses {
            let fixed = notice(&self.identity, batch.watcher, revision, term);
            match (batch.compacted.filter(|_| events.is_empty()), self.watches.get(&batch.watcher)) {
                (Some(compact_revision), _) => {
                    frames.push(&WatchResponse { canceled: true, compact_revision, ..fixed }, &[]);
                }
                (None, Some(watch)) if watch.fragment => {
                    push_fragments(frames, &fixed, events, batch.previous, self.identity.fragment_bytes);
                }
                (None, _) => push_events(frames, &fixed, events, batch.previous),
            }
        }
    }

    /// Everything taken so far is in `frames`: says how far the watches have come, to those who asked.
    fn give_notice(&mut self, frames: &mut Frames, term: u64) {
        if std::mem::take(&mut self.ticked) {
            for (&watch_id, watch) in &mut self.watches {
                if watch.progress != Progress::Due {
                    continue;
                }
                watch.progress = Progress::Wanted;
                if let Some(revision) = self.stream.progress(watch_id).filter(|&at| at >= watch.starts) {
                    frames.push(&notice(&self.identity, watch_id, revision, term), &[]);
                }
            }
        }
        self.unclear = false;
        let Some(asked_at) = self.asked else { return };
        match self.stream.progress_all() {
            Some(revision) if revision < asked_at => {} // the hub is about to hand on what is missing
            Some(revision) => {
                self.asked = None;
                let started = self.watches.values().all(|watch| !watch.lost && asked_at >= watch.starts);
                if started {
                    frames.push(&notice(&self.identity, NO_WATCH, revision, term), &[]);
                }
            }
            // No watches, or one that is behind. That is no answer in etcd either: the client asks again.
            None => self.unclear = true,
        }
    }

    fn header(&self, revision: i64, term: u64) -> ResponseHeader {
        header(&self.identity, revision, term)
    }
}

fn header(identity: &Identity, revision: i64, term: u64) -> ResponseHeader {
    let &Identity { cluster_id, member_id, .. } = identity;
    ResponseHeader { cluster_id, member_id, revision, raft_term: term }
}

fn notice(identity: &Identity, watch_id: i64, revision: i64, term: u64) -> WatchResponse {
    WatchResponse { header: Some(header(identity, revision, term)), watch_id, ..WatchResponse::default() }
}
