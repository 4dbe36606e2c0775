//! Connections, watchers that time what reaches them, and puts at a given rate.

use std::io;
use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::watch_client::WatchClient;
use ketch_proto::etcdserverpb::watch_request::RequestUnion;
use ketch_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest};
use ketch_proto::tonic::Streaming;
use ketch_proto::tonic::transport::{Channel, Endpoint};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::meter::{Latencies, age, stamped};

/// HTTP/2 windows wide enough never to be what is measured.
const WINDOW_BYTES: u32 = 16 << 20;

/// Open connections, in the order of asking.
pub(super) async fn connect(url: &str, count: usize) -> io::Result<Vec<Channel>> {
    let mut channels = Vec::with_capacity(count);
    for _ in 0..count {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(io::Error::other)?
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        channels.push(endpoint.connect().await.map_err(io::Error::other)?);
    }
    Ok(channels)
}

/// Opens one stream with these watchers, awaits that all are created and then times every event on a task of
/// its own, which ends with the runtime.
pub(super) async fn watch(
    channel: Channel,
    watchers: Vec<WatchCreateRequest>,
    latencies: Latencies,
) -> io::Result<()> {
    let mut responses = open(channel, watchers).await?;
    tokio::spawn(async move {
        while let Ok(Some(response)) = responses.message().await {
            for kv in response.events.iter().filter_map(|event| event.kv.as_ref()) {
                age(&kv.value).into_iter().for_each(|latency| latencies.add(latency));
            }
        }
    });
    Ok(())
}

/// A stream on which all these watchers are created.
pub(super) async fn open(
    channel: Channel,
    watchers: Vec<WatchCreateRequest>,
) -> io::Result<Streaming<ketch_proto::etcdserverpb::WatchResponse>> {
    let (sender, requests) = unbounded_channel();
    let count = watchers.len();
    for create in watchers {
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        sender.send(request).map_err(io::Error::other)?;
    }
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let requests = UnboundedReceiverStream::new(requests);
    let mut responses = client.watch(requests).await.map_err(io::Error::other)?.into_inner();
    // The stream lives as long as somebody could still ask for more.
    tokio::spawn(async move { sender.closed().await });
    let mut created = 0;
    while created < count {
        let response = responses.message().await.map_err(io::Error::other)?;
        let response = response.ok_or_else(|| io::Error::other("the watch stream ended"))?;
        created += usize::from(response.created);
    }
    Ok(responses)
}

/// Puts at `rate` per second for `time`, each on its way when it is due, whatever became of the others. Returns
/// the latencies, counted from when a put was due.
pub(super) async fn put_at_rate(
    channels: &[Channel],
    rate: f64,
    time: Duration,
    key: impl Fn(u64) -> Vec<u8>,
) -> io::Result<Vec<u32>> {
    let latencies = Latencies::default();
    let start = Instant::now();
    let mut under_way = JoinSet::new();
    for number in 0.. {
        let due = start + Duration::from_secs_f64(number as f64 / rate);
        if due >= start + time {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let mut client = KvClient::new(channels[number as usize % channels.len()].clone());
        let put = PutRequest { key: key(number).into(), value: stamped(due).into(), ..Default::default() };
        let latencies = latencies.clone();
        under_way.spawn(async move {
            let result = client.put(put).await;
            latencies.add(due.elapsed());
            result.map(drop)
        });
        while let Some(done) = under_way.try_join_next() {
            done.map_err(io::Error::other)?.map_err(io::Error::other)?;
        }
    }
    while let Some(done) = under_way.join_next().await {
        done.map_err(io::Error::other)?.map_err(io::Error::other)?;
    }
    Ok(latencies.take())
}
