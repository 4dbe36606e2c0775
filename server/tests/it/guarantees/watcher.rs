//! A watcher that is slow, cancels, asks for progress, loses its server, and goes on where it was.

use std::time::Duration;

use ketch_proto::etcdserverpb::watch_client::WatchClient;
use ketch_proto::etcdserverpb::watch_create_request::FilterType;
use ketch_proto::etcdserverpb::watch_request::RequestUnion;
use ketch_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use ketch_proto::mvccpb::Event;
use ketch_proto::tonic::transport::Endpoint;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::harness::random::Random;

/// A watcher that hears nothing for so long asks how far it is.
const QUIET: Duration = Duration::from_millis(100);

/// How far the writer is, and whether it has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) latest: i64,
    pub(super) over: bool,
}

impl Written {
    /// Whether nothing will come from revision `next` on.
    fn is_behind(self, next: i64) -> bool {
        self.over && next > self.latest
    }
}

/// What a watcher wants.
#[derive(Clone, Debug)]
pub(super) struct Wants {
    pub(super) key: Vec<u8>,
    pub(super) range_end: Vec<u8>,
    pub(super) filters: Vec<FilterType>,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    /// It reads only once the writer has gone on by so many revisions.
    pub(super) slow: i64,
}

/// What a watcher saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Each event with the number of the response it came in.
    pub(super) events: Vec<(usize, Event)>,
    /// Revisions, from and up to, that were compacted before it came to them.
    pub(super) gaps: Vec<(i64, i64)>,
    /// Where it went on, and how many events it had by then.
    pub(super) resumed: Vec<(i64, usize)>,
    /// Progress that it was told of, and how many events it had by then.
    pub(super) bookmarks: Vec<(i64, usize)>,
}

/// How a stream ended.
enum End {
    /// Everything was seen.
    Over,
    /// It has to be opened again.
    Again,
}

/// Watches until the writer is over and everything was seen.
pub(super) async fn run(url: String, wants: Wants, mut written: watch::Receiver<Written>, seed: u64) -> Seen {
    let mut seen = Seen::default();
    let mut random = Random::new(seed);
    let mut next = 2;
    while !matches!(stream(&url, &wants, &mut written, &mut random, &mut seen, &mut next).await, End::Over) {
        seen.resumed.push((next, seen.events.len()));
    }
    seen
}

async fn stream(
    url: &str,
    wants: &Wants,
    written: &mut watch::Receiver<Written>,
    random: &mut Random,
    seen: &mut Seen,
    next: &mut i64,
) -> End {
    if written.borrow().is_behind(*next) {
        return End::Over;
    }
    let Ok(channel) = Endpoint::from_shared(url.to_owned()).unwrap().connect().await else {
        // Between two lives of the server: as soon as there is something new it is there again.
        let _moved = tokio::time::timeout(QUIET, written.changed()).await;
        return End::Again;
    };
    let (requests, receiver) = mpsc::unbounded_channel();
    let ask = |union| drop(requests.send(WatchRequest { request_union: Some(union) }));
    ask(RequestUnion::CreateRequest(WatchCreateRequest {
        key: wants.key.clone().into(),
        range_end: wants.range_end.clone().into(),
        start_revision: *next,
        filters: wants.filters.iter().map(|&filter| filter.into()).collect(),
        prev_kv: wants.prev_kv,
        fragment: wants.fragment,
        ..Default::default()
    }));
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let Ok(answer) = client.watch(UnboundedReceiverStream::new(receiver)).await else { return End::Again };
    let mut responses = answer.into_inner();
    let mut fragments: Vec<Event> = Vec::new();
    let mut canceled = false;
    loop {
        if wants.slow > 0 && !canceled {
            let from = *next;
            let _gone = written.wait_for(|written| written.over || written.latest >= from + wants.slow).await;
        }
        let response: WatchResponse = match tokio::time::timeout(QUIET, responses.message()).await {
            Ok(Ok(Some(response))) => response,
            Ok(_) => return End::Again,
            Err(_quiet) if written.borrow().is_behind(*next) => return End::Over,
            Err(_quiet) => {
                ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
                continue;
            }
        };
        let revision = response.header.as_ref().unwrap().revision;
        if response.created {
            assert!(!response.canceled, "{response:?}");
            continue;
        }
        fragments.extend(response.events);
        if response.fragment {
            assert!(wants.fragment, "a fragment that was not asked for");
            continue;
        }
        if response.canceled {
            if response.compact_revision > 0 {
                assert!(response.compact_revision > *next, "{} is not compacted", *next);
                seen.gaps.push((*next, response.compact_revision));
                *next = response.compact_revision;
            } else {
                assert!(canceled, "canceled without a reason: {}", response.cancel_reason);
            }
            return End::Again;
        }
        if let Some(last) = fragments.last() {
            let number = seen.events.last().map_or(0, |(number, _)| number + 1);
            *next = last.kv.as_ref().unwrap().mod_revision + 1;
            seen.events.extend(fragments.drain(..).map(|event| (number, event)));
        } else {
            seen.bookmarks.push((revision, seen.events.len()));
            *next = (*next).max(revision + 1);
            let written = *written.borrow();
            if written.over && revision >= written.latest {
                return End::Over;
            }
        }
        if random.one_in(8) {
            ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        }
        if random.one_in(12) && !canceled {
            canceled = true;
            ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 }));
        }
    }
}
