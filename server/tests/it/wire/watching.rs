//! Watch streams to both servers, driven alike: what comes in on them is compared response by response.

use std::collections::BTreeMap;

use bytes::Bytes;
use ketch_proto::etcdserverpb::*;
use ketch_proto::mvccpb::Event;
use ketch_proto::tonic::transport::Channel;

use crate::harness::random::Random;
use crate::harness::watch::{WatchStream, cancel, create, is_progress, progress, revision};

use super::generate::{ENDS, KEYS};
use super::side_by_side::shorten;

/// Key whose puts tell that everything before them has arrived.
pub(super) const BARRIER: &[u8] = b"~";

/// Id of the watcher of [`BARRIER`] on every stream.
const BARRIER_ID: i64 = 1_000_000;

const STREAMS_MAX: usize = 3;
const WATCHERS_MAX: usize = 6;

/// A live watcher, as far as a barrier must know it.
#[derive(Clone, Debug)]
struct Watcher {
    start_revision: i64,
    sees_barrier: bool,
}

/// The same stream to both servers; etcd's is the first.
#[derive(Debug)]
struct Twin {
    number: u64,
    sides: [WatchStream; 2],
    watchers: BTreeMap<i64, Watcher>,
    /// The store's revision when the watcher with this id was made, the last one if there were several: events up to it come
    /// late, and how a server groups those is its own business.
    made_at: BTreeMap<i64, i64>,
    /// Progress was waited for since the last comparison.
    progress_awaited: bool,
    /// It was asked for more often than it had to be answered at once.
    progress_uncertain: bool,
}

/// All streams of a run.
#[derive(Debug)]
pub(super) struct Watching {
    channels: [Channel; 2],
    twins: Vec<Twin>,
    opened: u64,
    /// Responses compared so far.
    pub(super) compared: u64,
    /// Responses of those that went on in another one.
    pub(super) fragments: u64,
    pub(super) differences: Vec<String>,
}

impl Watching {
    pub(super) fn new(channels: [Channel; 2]) -> Watching {
        Watching {
            channels,
            twins: Vec::new(),
            opened: 0,
            compared: 0,
            fragments: 0,
            differences: Vec::new(),
        }
    }

    /// One random step on one stream. Nothing else may be under way, and a cancellation must follow a
    /// barrier: what a server still has to say to a watcher is dropped with it.
    pub(super) async fn act(&mut self, random: &mut Random, now: i64, compacted: i64) {
        if self.twins.is_empty() || (self.twins.len() < STREAMS_MAX && random.one_in(20)) {
            return self.open().await;
        }
        let place = usize::try_from(random.next() % self.twins.len() as u64).unwrap();
        let twin = &mut self.twins[place];
        match random.between(0, 99) {
            0..60 if twin.watchers.len() < WATCHERS_MAX => twin.create(random, now, compacted).await,
            0..75 => {
                let known: Vec<i64> = twin.watchers.keys().copied().collect();
                let id = match known.as_slice() {
                    [_, ..] if !random.one_in(6) => random.pick(&known),
                    _ => random.pick(&[-1, 0, 99, i64::MAX, i64::MIN]),
                };
                twin.cancel(id).await;
            }
            75..95 => twin.progress(now).await,
            95..98 => twin.sides.iter().for_each(|side| side.send(WatchRequest { request_union: None })),
            _ => drop(self.twins.swap_remove(place)),
        }
    }

    /// A watch of everything, in fragments, on one of the streams.
    pub(super) async fn fragmented(&mut self, now: i64) {
        if self.twins.is_empty() {
            self.open().await;
        }
        let request = WatchCreateRequest {
            key: b"\0"[..].into(),
            range_end: b"\0"[..].into(),
            prev_kv: true,
            fragment: true,
            ..Default::default()
        };
        self.twins[0].create_with(request, now, 0).await;
    }

    /// Ends all streams.
    pub(super) fn end(&mut self) {
        self.twins.clear();
    }

    /// Whether some watcher will see the put of the barrier: without one there is nothing to wait for.
    pub(super) fn is_watching(&self) -> bool {
        !self.twins.is_empty()
    }

    async fn open(&mut self) {
        let first = WatchCreateRequest { key: BARRIER.into(), watch_id: BARRIER_ID, ..Default::default() };
        let open = |channel: &Channel| WatchStream::open(channel.clone(), create(first.clone()));
        let (one, other) = tokio::join!(open(&self.channels[0]), open(&self.channels[1]));
        self.opened += 1;
        let mut twin = Twin {
            number: self.opened,
            sides: [one.unwrap(), other.unwrap()],
            watchers: BTreeMap::new(),
            made_at: BTreeMap::new(),
            progress_awaited: false,
            progress_uncertain: false,
        };
        twin.both("created", |response| response.created).await;
        twin.watchers.insert(BARRIER_ID, Watcher { start_revision: 0, sees_barrier: true });
        self.twins.push(twin);
    }

    /// Waits until every watcher that sees the barrier's put at `at` got it, and compares all that came in.
    pub(super) async fn barrier(&mut self, at: i64) {
        for twin in &mut self.twins {
            let awaited: Vec<i64> = twin
                .watchers
                .iter()
                .filter(|(_, watcher)| watcher.sees_barrier && watcher.start_revision <= at)
                .map(|(id, _)| *id)
                .collect();
            for id in awaited {
                let what = format!("barrier {at} for watcher {id} of stream {}", twin.number);
                twin.both(&what, |response| {
                    response.watch_id == id
                        && response
                            .events
                            .last()
                            .is_some_and(|event| event.kv.as_ref().is_some_and(|kv| kv.mod_revision == at))
                })
                .await;
            }
            let log = &twin.sides[0].log;
            self.fragments += log.iter().filter(|response| response.fragment).count() as u64;
            self.compared += twin.compare(&mut self.differences);
        }
    }
}

impl Twin {
    /// Reads both sides until the response that is `wanted`; etcd's is returned.
    async fn both(&mut self, what: &str, wanted: impl Fn(&WatchResponse) -> bool) -> WatchResponse {
        self.both_from([0, 0], what, wanted).await
    }

    async fn both_from(
        &mut self,
        from: [usize; 2],
        what: &str,
        wanted: impl Fn(&WatchResponse) -> bool,
    ) -> WatchResponse {
        let [one, other] = &mut self.sides;
        let (names, wanted) = ([format!("{what} from etcd"), format!("{what} from ketch")], &wanted);
        let places =
            tokio::join!(one.until(&names[0], from[0], wanted), other.until(&names[1], from[1], wanted));
        self.sides[0].log[places.0].clone()
    }

    fn send(&self, request: &WatchRequest) -> [usize; 2] {
        self.sides.each_ref().map(|side| {
            side.send(request.clone());
            side.log.len()
        })
    }

    async fn create(&mut self, random: &mut Random, now: i64, compacted: i64) {
        let request = self.draw(random, now, compacted);
        self.create_with(request, now, compacted).await;
    }

    async fn create_with(&mut self, request: WatchCreateRequest, now: i64, compacted: i64) {
        let from = self.send(&create(request.clone()));
        let what = format!("answer to {request:?}");
        let created = self.both_from(from, &what, |response| response.created).await;
        if created.canceled {
            return;
        }
        let id = created.watch_id;
        self.made_at.insert(id, now);
        let start_revision = request.start_revision;
        if start_revision != 0 && start_revision < compacted {
            self.both_from(from, &format!("end of {request:?}"), |response| {
                response.watch_id == id && response.compact_revision != 0
            })
            .await;
            // As clients do; until then the id stays taken and the stream states no progress.
            let from = self.send(&cancel(id));
            self.both_from(from, "second cancellation", |response| response.canceled).await;
            return;
        }
        let watcher = Watcher { start_revision, sees_barrier: sees_barrier(&request) };
        self.watchers.insert(id, watcher);
        if start_revision != 0 && start_revision <= now {
            // Before anything else happens it must have caught up: how far it is shows in its responses.
            let [one, other] = &mut self.sides;
            let asked = tokio::join!(one.synced(), other.synced());
            self.progress_awaited = true;
            self.progress_uncertain |= asked != (1, 1);
        }
    }

    /// A request to create a watcher: legal, odd or illegal.
    fn draw(&self, random: &mut Random, now: i64, compacted: i64) -> WatchCreateRequest {
        let waits = self.watchers.values().any(|watcher| watcher.start_revision > now);
        let start_revision = match random.between(0, 19) {
            // Whether it caught up cannot be asked while another waits for the future.
            0..6 if !waits => random.between((compacted - 1).max(1), now),
            6..8 => now + random.between(1, 30),
            8 => random.pick(&[-1, i64::MIN, i64::MAX]),
            _ => 0,
        };
        let known: Vec<i64> = self.watchers.keys().copied().collect();
        let watch_id = match random.between(0, 9) {
            0 => random.pick(&known),
            1 => random.pick(&[1, 2, 7, i64::MAX, -7]),
            _ => 0,
        };
        let filters = match random.between(0, 9) {
            0 => vec![0],
            1 => vec![1],
            2 => vec![0, 1],
            3 => vec![7, -1],
            4 => vec![1, 1],
            _ => Vec::new(),
        };
        WatchCreateRequest {
            key: if random.one_in(12) { Bytes::new() } else { Bytes::from_static(random.pick(&KEYS)) },
            range_end: Bytes::from_static(random.pick(&ENDS)),
            start_revision,
            progress_notify: random.one_in(4),
            filters,
            prev_kv: random.one_in(3),
            watch_id,
            fragment: random.one_in(4),
        }
    }

    async fn cancel(&mut self, id: i64) {
        if id == BARRIER_ID {
            return;
        }
        let from = self.send(&cancel(id));
        // An id that is not known is not answered.
        if self.watchers.remove(&id).is_some() {
            self.both_from(from, &format!("cancellation of {id}"), |response| {
                response.canceled && response.watch_id == id
            })
            .await;
        }
    }

    async fn progress(&mut self, now: i64) {
        let from = self.send(&progress());
        // With a watcher that waits for the future there is no answer.
        if self.watchers.values().all(|watcher| watcher.start_revision <= now) {
            self.both_from(from, &format!("progress {now}"), |response| {
                response.watch_id == -1 && is_progress(response) && revision(response) == now
            })
            .await;
        } else {
            // Nor may there be one because it is only read when that future has come: what follows it is answered at once, since
            // the id is taken.
            let taken = WatchCreateRequest { watch_id: BARRIER_ID, ..WatchCreateRequest::default() };
            let from = self.send(&create(taken));
            let answer = self.both_from(from, "refusal of a taken id", |response| response.created).await;
            assert!(answer.canceled, "{answer:?}");
        }
    }

    /// Compares what came in, watcher by watcher: how those of one stream interleave is nobody's business.
    fn compare(&mut self, differences: &mut Vec<String>) -> u64 {
        let awaited = std::mem::take(&mut self.progress_awaited);
        let keep_progress = !awaited && !self.progress_uncertain;
        let mut count = 0;
        let [expected, found] = self.sides.each_mut().map(|side| {
            let mut by_watcher: BTreeMap<i64, Vec<WatchResponse>> = BTreeMap::new();
            for response in side.log.drain(..) {
                if keep_progress || !is_progress(&response) {
                    count += 1;
                    let made_at = self.made_at.get(&response.watch_id).copied().unwrap_or_default();
                    let so_far = by_watcher.entry(response.watch_id).or_default();
                    by_revision(response, made_at).into_iter().for_each(|part| add(so_far, part, made_at));
                }
            }
            by_watcher
        });
        if expected != found {
            let ids = expected.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>();
            for id in ids.into_iter().filter(|id| expected.get(id) != found.get(id)) {
                let side = |of: &BTreeMap<i64, Vec<WatchResponse>>| {
                    let responses = of.get(id).into_iter().flatten();
                    responses.map(|response| format!("  {response:?}\n")).collect::<String>()
                };
                let (etcd, ketch) = (shorten(&side(&expected)), shorten(&side(&found)));
                differences.push(format!(
                    "stream {}, watcher {id} {:?}\n etcd:\n{etcd}ketch:\n{ketch}",
                    self.number,
                    self.watchers.get(id)
                ));
            }
        }
        count / 2
    }
}

/// A response with the events of several revisions as one response for each: how many revisions a server
/// has ready for a watcher when it writes to it is a matter of time. The header must be as far as the events.
fn by_revision(response: WatchResponse, made_at: i64) -> Vec<WatchResponse> {
    let Some(last) = response.events.last() else { return vec![response] };
    assert!(revision(&response) >= revision_of(last), "{response:?}");
    let parts = response.events.chunk_by(|one, other| revision_of(one) == revision_of(other));
    let part = |events: &[Event]| {
        let revision = revision_of(&events[0]);
        let mut part = WatchResponse { events: events.to_vec(), ..response.clone() };
        part.header.as_mut().unwrap().revision = revision;
        part.fragment &= revision > made_at;
        part
    };
    parts.map(part).collect()
}

/// Adds a response. One with events that come late is joined to what came of the same revision before it: for such, servers cut
/// fragments at different places.
fn add(so_far: &mut Vec<WatchResponse>, part: WatchResponse, made_at: i64) {
    let late = part.events.first().map(revision_of).filter(|&revision| revision <= made_at);
    match so_far.last_mut() {
        Some(before) if late.is_some() && before.events.last().map(revision_of) == late => {
            before.events.extend(part.events);
        }
        _ => so_far.push(part),
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().unwrap().mod_revision
}

/// Whether a watcher gets the puts of [`BARRIER`].
fn sees_barrier(request: &WatchCreateRequest) -> bool {
    let key = if request.key.is_empty() { &b"\0"[..] } else { &request.key };
    let inside = match &request.range_end[..] {
        b"" => key == BARRIER,
        b"\0" => key <= BARRIER,
        end => key <= BARRIER && BARRIER < end,
    };
    inside && !request.filters.contains(&0)
}
