//! Watchers of a simulated member: streams of the real service, on the real hub, read slowly, cancelled, and resumed after every
//! crash.

mod check;
mod truth;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use ketch_proto::etcdserverpb::watch_request::RequestUnion;
use ketch_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use ketch_proto::mvccpb::Event;
use prost::Message;

use self::check::Check;
pub(super) use self::truth::Truth;
use super::{Member, Random, Report};
use crate::api::watch::encode::Frames;
use crate::api::watch::session::{Identity, Session};
use ketch_mvcc::Store;

const STREAMS: usize = 4;
const WATCHES: usize = 5;
/// Small, so that responses are split.
const FRAGMENT_BYTES: usize = 1500;
const TERM: u64 = 1;

/// All watchers of a run.
#[derive(Debug, Default)]
pub struct Watching {
    truth: Truth,
    streams: Vec<Stream>,
}

/// One stream and what its watches have seen.
#[derive(Debug)]
pub(super) struct Stream {
    /// `None` while the member is down.
    session: Option<Session>,
    /// Read once in so many rounds.
    slowness: u64,
    watches: BTreeMap<i64, Watch>,
    next_id: i64,
}

#[derive(Debug)]
struct Watch {
    check: Check,
    /// The response that says that it is there has come.
    created: bool,
    /// Events of fragments whose last one has not come yet.
    fragments: Vec<Event>,
}

impl Watching {
    /// The member died: streams are gone, what they have seen is not.
    pub fn disconnect(&mut self) {
        self.streams.iter_mut().for_each(Stream::disconnect);
    }

    /// One round: the hub hands on, and some stream does something.
    ///
    /// # Errors
    /// A guarantee that does not hold, by its name.
    pub fn step(&mut self, member: &Member, random: &mut Random, report: &mut Report) -> Result<(), String> {
        self.truth.observe(member.store())?;
        while self.streams.len() < STREAMS {
            self.streams.push(Stream::new(1 << (2 * self.streams.len())));
        }
        if random.one_in(3) {
            let step = member.store().hub().step(1 + random.below(20) as usize);
            step.map_err(|fault| fault.to_string())?;
        }
        let stream = &mut self.streams[random.below(STREAMS as u64) as usize];
        stream.connect(member.store(), report);
        stream.act(&self.truth, member.store(), random, report)
    }

    /// Everything that is on its way arrives; afterwards every watch has seen all it wants.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn settle(
        &mut self,
        member: &Member,
        random: &mut Random,
        report: &mut Report,
    ) -> Result<(), String> {
        self.truth.observe(member.store())?;
        for stream in &mut self.streams {
            stream.connect(member.store(), report);
        }
        // Twice: a watch that was behind goes on when its owner has read.
        for _ in 0..200 {
            while member.store().hub().step(100).map_err(|fault| fault.to_string())?
                == ketch_mvcc::Progress::More
            {}
            for stream in &mut self.streams {
                stream.read(&self.truth, member.store(), random, report)?;
            }
        }
        self.streams.iter_mut().try_for_each(|stream| stream.has_all(&self.truth))
    }
}

impl Stream {
    /// A stream that is read once in `slowness` rounds.
    pub(super) fn new(slowness: u64) -> Stream {
        Stream { session: None, slowness, watches: BTreeMap::new(), next_id: 1 }
    }

    /// The connection ends; what was seen stays known.
    pub(super) fn disconnect(&mut self) {
        self.session = None;
    }

    /// Does something that the seed picks.
    pub(super) fn act(
        &mut self,
        truth: &Truth,
        store: &Store,
        random: &mut Random,
        report: &mut Report,
    ) -> Result<(), String> {
        match random.below(6) {
            0 => self.create(random, store.revision()),
            1 if random.one_in(6) => self.cancel(random),
            2 if random.one_in(2) => self.ask_progress(),
            3 => self.tick(),
            _ if random.one_in(self.slowness) => self.read(truth, store, random, report)?,
            _ => {}
        }
        Ok(())
    }

    /// After everything has been read: every watch has seen all it wants.
    pub(super) fn has_all(&mut self, truth: &Truth) -> Result<(), String> {
        self.watches.values_mut().try_for_each(|watch| {
            watch.check.bookmark(truth.seen(), truth).map_err(|why| format!("at the end, {why}"))
        })
    }

    /// Opens the stream and resumes its watches where they were.
    pub(super) fn connect(&mut self, store: &Store, report: &mut Report) {
        if self.session.is_some() {
            return;
        }
        let identity = Identity { cluster_id: 1, member_id: 1, fragment_bytes: FRAGMENT_BYTES };
        // The stream is read again and again; nobody sleeps.
        let nobody = Arc::new(|| {});
        self.session = Some(Session::new(identity, &store.hub(), store.reader(), nobody));
        let ids: Vec<i64> = self.watches.keys().copied().collect();
        for id in ids {
            report.resumed += 1;
            self.resume(id);
        }
    }

    fn ask(&mut self, request: RequestUnion) {
        if let Some(session) = &mut self.session {
            session.handle(WatchRequest { request_union: Some(request) });
        }
    }

    fn resume(&mut self, id: i64) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.created = false;
        watch.check.resumed = true;
        watch.fragments.clear();
        let request = WatchCreateRequest {
            start_revision: watch.check.next,
            watch_id: id,
            ..watch.check.request.clone()
        };
        self.ask(RequestUnion::CreateRequest(request));
    }

    /// A watch of something, from some revision on.
    fn create(&mut self, random: &mut Random, newest: i64) {
        if self.watches.len() >= WATCHES {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        let key = |number: u64| Bytes::from(format!("key{number:02}"));
        let first = random.below(24);
        let range_end = match random.below(3) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            _ => key(first + 1 + random.below(6)),
        };
        let next = (newest + 5 - random.below(40) as i64).max(2);
        let request = WatchCreateRequest {
            key: key(first),
            range_end,
            progress_notify: random.one_in(2),
            filters: if random.one_in(3) { vec![random.below(2) as i32] } else { Vec::new() },
            prev_kv: random.one_in(2),
            fragment: random.one_in(2),
            ..WatchCreateRequest::default()
        };
        let check = Check { request, next, resumed: false };
        self.watches.insert(id, Watch { check, created: false, fragments: Vec::new() });
        self.resume(id);
    }

    /// Cancels some watch, and half of the time makes it anew where it was.
    fn cancel(&mut self, random: &mut Random) {
        let nth = random.below(WATCHES as u64) as usize;
        let Some(&id) = self.watches.keys().nth(nth) else { return };
        self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id }));
        let Some(watch) = self.watches.remove(&id) else { return };
        if random.one_in(2) {
            let anew = self.next_id;
            self.next_id += 1;
            self.watches.insert(anew, watch);
            self.resume(anew);
        }
    }

    fn ask_progress(&mut self) {
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    fn tick(&mut self) {
        if let Some(session) = &mut self.session {
            session.tick();
        }
    }

    /// Reads what the stream has to say, and checks it.
    pub(super) fn read(
        &mut self,
        truth: &Truth,
        store: &Store,
        random: &mut Random,
        report: &mut Report,
    ) -> Result<(), String> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let mut frames = Frames::default();
        session.fill(&mut frames, TERM);
        let mut wire = Vec::new();
        while let Some(piece) = frames.pop() {
            wire.extend_from_slice(&piece);
        }
        let mut wire = &wire[..];
        while wire.has_remaining() {
            let _uncompressed = wire.get_u8();
            let (message, rest) = wire[4..].split_at((&wire[..4]).get_u32() as usize);
            wire = rest;
            let response = WatchResponse::decode(message).map_err(|error| error.to_string())?;
            random.mix(message.len() as u64);
            self.heard(response, truth, store, report)?;
        }
        Ok(())
    }

    fn heard(
        &mut self,
        response: WatchResponse,
        truth: &Truth,
        store: &Store,
        report: &mut Report,
    ) -> Result<(), String> {
        let revision = response.header.map_or(0, |header| header.revision);
        if response.watch_id == -1 {
            report.bookmarks += 1;
            let mut created = self.watches.values_mut().filter(|watch| watch.created);
            return created.try_for_each(|watch| watch.check.bookmark(revision, truth));
        }
        // A watch that was cancelled may have been answered before that.
        let Some(watch) = self.watches.get_mut(&response.watch_id) else { return Ok(()) };
        if response.created {
            watch.created = true;
        } else if response.compact_revision > 0 {
            if watch.check.next >= response.compact_revision {
                return Err(format!("lost at {} without need: {watch:?}", response.compact_revision));
            }
            report.lost_watches += 1;
            let id = response.watch_id;
            watch.check.next = response.compact_revision;
            self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id }));
            self.resume(id);
        } else if response.canceled {
            // The end of the watch's earlier life under this id.
        } else if !watch.created {
            return Err(format!("a response before the watch was announced: {response:?}"));
        } else if response.events.is_empty() {
            report.bookmarks += 1;
            watch.check.bookmark(revision, truth)?;
        } else {
            report.watched += response.events.len() as u64;
            watch.fragments.extend(response.events);
            if !response.fragment {
                let events = std::mem::take(&mut watch.fragments);
                let compacted = store.compacted();
                watch.check.told(&events, truth, compacted).map_err(|why| format!("{why} ({watch:?})"))?;
            }
        }
        Ok(())
    }
}
