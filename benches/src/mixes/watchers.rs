//! Watch streams that only measure: how late an event comes after its put was sent.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ketch_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, watch_request};
use ketch_proto::prost::Message;
use ketch_proto::tonic::Request;
use ketch_proto::tonic::client::Grpc;
use ketch_proto::tonic::codegen::http::uri::PathAndQuery;
use ketch_proto::tonic::transport::Channel;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use super::raw::{RawCodec, ages};

/// How long deliveries are awaited after the last put.
const PATIENCE: Duration = Duration::from_secs(20);

/// Open watch streams. Dropping it closes them.
pub(super) struct Watchers {
    seen: Arc<Seen>,
    _streams: JoinSet<()>,
}

struct Seen {
    /// Answers without an event: watchers created.
    created: AtomicU64,
    delivered: AtomicU64,
    /// Microseconds.
    latency: Vec<Mutex<Histogram<u64>>>,
}

impl Watchers {
    /// Opens `streams` streams over `channels` with the watchers that `creates` gives for each, and waits until all are
    /// created.
    pub(super) async fn open(
        channels: &[Channel],
        streams: usize,
        creates: impl Fn(usize) -> Vec<WatchCreateRequest>,
    ) -> io::Result<Watchers> {
        let histogram =
            || Histogram::new_with_bounds(1, 100_000_000, 3).map(Mutex::new).map_err(io::Error::other);
        let latency = (0..streams).map(|_| histogram()).collect::<io::Result<_>>()?;
        let seen = Arc::new(Seen { created: AtomicU64::new(0), delivered: AtomicU64::new(0), latency });
        let mut tasks = JoinSet::new();
        let mut watchers = 0;
        for number in 0..streams {
            let creates = creates(number);
            watchers += creates.len() as u64;
            let channel = channels[number % channels.len()].clone();
            tasks.spawn(stream(channel, creates, Arc::clone(&seen), number));
        }
        await_count(&seen.created, watchers, PATIENCE)
            .await
            .map_err(|found| io::Error::other(format!("{found} of {watchers} watchers were created")))?;
        Ok(Watchers { seen, _streams: tasks })
    }

    /// Waits for `count` deliveries since [`Watchers::reset`]; says whether they came in time.
    pub(super) async fn await_deliveries(&self, count: u64) -> bool {
        await_count(&self.seen.delivered, count, PATIENCE).await.is_ok()
    }

    /// Forgets what has been seen.
    pub(super) fn reset(&self) {
        self.seen.delivered.store(0, Ordering::SeqCst);
        self.seen.latency.iter().for_each(|one| one.lock().unwrap_or_else(PoisonError::into_inner).reset());
    }

    /// The 99th percentile of what has been seen.
    pub(super) fn p99(&self) -> Duration {
        let mut all: Option<Histogram<u64>> = None;
        for one in &self.seen.latency {
            let one = one.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut all {
                Some(all) => drop(all.add(&*one)),
                None => all = Some(one.clone()),
            }
        }
        Duration::from_micros(all.map_or(0, |all| all.value_at_quantile(0.99)))
    }
}

async fn await_count(count: &AtomicU64, wanted: u64, patience: Duration) -> Result<(), u64> {
    let until = Instant::now() + patience;
    while count.load(Ordering::SeqCst) < wanted {
        if Instant::now() > until {
            return Err(count.load(Ordering::SeqCst));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn stream(channel: Channel, creates: Vec<WatchCreateRequest>, seen: Arc<Seen>, number: usize) {
    let requests = creates.into_iter().map(|create| {
        let request_union = Some(watch_request::RequestUnion::CreateRequest(create));
        WatchRequest { request_union }.encode_to_vec()
    });
    let requests = tokio_stream::iter(requests.collect::<Vec<_>>()).chain(tokio_stream::pending());
    let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    if grpc.ready().await.is_err() {
        return;
    }
    let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
    let Ok(answer) = grpc.streaming(Request::new(requests), path, RawCodec).await else { return };
    let mut messages = answer.into_inner();
    while let Ok(Some(message)) = messages.message().await {
        let mut events = 0;
        let mut latency = seen.latency[number].lock().unwrap_or_else(PoisonError::into_inner);
        for age in ages(&message) {
            events += 1;
            latency.saturating_record(u64::try_from(age.as_micros()).unwrap_or(u64::MAX).max(1));
        }
        drop(latency);
        match events {
            0 => seen.created.fetch_add(1, Ordering::SeqCst),
            events => seen.delivered.fetch_add(events, Ordering::SeqCst),
        };
    }
}
