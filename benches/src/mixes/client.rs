//! Requests of the mixes: stamped puts at a rate, and a few others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use ketch_proto::prost::Message;
use ketch_proto::tonic::Status;
use ketch_proto::tonic::transport::{Channel, Endpoint};
use tokio::task::JoinSet;

use super::raw::{self, stamped};

/// HTTP/2 windows wide enough never to be what is measured.
const WINDOW_BYTES: u32 = 16 << 20;
const VALUE_BYTES: usize = 256;
/// So many calls of an open loop may be under way.
const UNDER_WAY_MAX: usize = 20_000;

/// The key with this number.
pub(super) fn key(number: u64) -> Vec<u8> {
    format!("load/{number:019}").into_bytes()
}

/// Connections to one server.
pub(super) struct Client {
    channels: Vec<Channel>,
}

/// What an open loop saw.
pub(super) struct Calls {
    pub(super) count: u64,
    pub(super) p99: Duration,
}

fn failed(status: Status) -> io::Error {
    io::Error::other(format!("{:?}: {}", status.code(), status.message()))
}

impl Client {
    pub(super) async fn connect(url: &str, connections: usize) -> io::Result<Client> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(io::Error::other)?;
        let endpoint =
            endpoint.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let mut channels = Vec::with_capacity(connections);
        for _ in 0..connections {
            channels.push(endpoint.connect().await.map_err(io::Error::other)?);
        }
        Ok(Client { channels })
    }

    pub(super) fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn kv(&self, number: usize) -> KvClient<Channel> {
        KvClient::new(self.channels[number % self.channels.len()].clone())
    }

    /// Puts `rate` times a second for `time`, whatever the server does; a put counts from the moment it was due.
    pub(super) async fn put_open_loop(
        &self,
        rate: f64,
        time: Duration,
        choose: impl Fn(u64) -> u64,
    ) -> io::Result<Calls> {
        let put = |number: u64| {
            let mut kv = self.kv(number as usize);
            let key = key(choose(number)).into();
            async move {
                let value = stamped(VALUE_BYTES).into();
                kv.put(PutRequest { key, value, ..Default::default() }).await.map(drop)
            }
        };
        open_loop(rate, time, put).await
    }

    /// Asks `rate` times a second for a key that is not there, without the quorum: what a call costs that has nothing to do.
    pub(super) async fn ask_open_loop(&self, rate: f64, time: Duration) -> io::Result<Calls> {
        let ask = |number: u64| {
            let mut kv = self.kv(number as usize);
            let request = RangeRequest { key: "none".into(), serializable: true, ..Default::default() };
            async move { kv.range(request).await.map(drop) }
        };
        open_loop(rate, time, ask).await
    }

    /// Puts with `clients` puts under way for `time`; says how many.
    pub(super) async fn put_closed_loop(&self, clients: usize, time: Duration) -> io::Result<u64> {
        let (count, until) = (Arc::new(AtomicU64::new(0)), Instant::now() + time);
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let (mut kv, count) = (self.kv(number), Arc::clone(&count));
            tasks.spawn(async move {
                while Instant::now() < until {
                    let key = key(count.fetch_add(1, Ordering::SeqCst) % 10_000).into();
                    kv.put(PutRequest { key, value: stamped(VALUE_BYTES).into(), ..Default::default() })
                        .await?;
                }
                Ok::<(), Status>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(io::Error::other)?.map_err(failed)?;
        }
        Ok(count.load(Ordering::SeqCst))
    }

    /// Lists every key by `method` of the KV service; says how many bytes came.
    pub(super) async fn list(&self, method: &str) -> io::Result<u64> {
        let request = RangeRequest { key: "load/".into(), range_end: "load0".into(), ..Default::default() };
        raw::call(&self.channels[0], &format!("/etcdserverpb.KV/{method}"), &request.encode_to_vec()).await
    }

    /// Compacts everything up to now.
    pub(super) async fn compact(&self) -> io::Result<()> {
        let mut kv = self.kv(0);
        let latest = RangeRequest { key: "load/".into(), ..Default::default() };
        let answer = kv.range(latest).await.map_err(failed)?.into_inner();
        let revision = answer.header.map_or(0, |header| header.revision);
        kv.compact(CompactionRequest { revision, physical: true }).await.map(drop).map_err(failed)
    }

    /// One get on each connection.
    pub(super) async fn get_on_each(&self) -> io::Result<()> {
        for number in 0..self.channels.len() {
            let request = RangeRequest { key: "load/".into(), ..Default::default() };
            self.kv(number).range(request).await.map_err(failed)?;
        }
        Ok(())
    }
}

async fn open_loop<F>(rate: f64, time: Duration, call: impl Fn(u64) -> F) -> io::Result<Calls>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let total = (rate * time.as_secs_f64()).ceil() as u64;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 100_000_000, 3).map_err(io::Error::other)?;
    let mut under_way = JoinSet::new();
    let start = Instant::now();
    for number in 0..total {
        let due = start + Duration::from_secs_f64(number as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        // The coarseness of the timer is not charged to the server.
        let since = if due.elapsed() < Duration::from_millis(2) { Instant::now() } else { due };
        let call = call(number);
        under_way.spawn(async move { call.await.map(|()| since.elapsed()) });
        while under_way.len() > UNDER_WAY_MAX || number + 1 == total {
            let Some(done) = under_way.join_next().await else { break };
            record(&mut histogram, done)?;
        }
        while let Some(done) = under_way.try_join_next() {
            record(&mut histogram, done)?;
        }
    }
    Ok(Calls { count: total, p99: Duration::from_micros(histogram.value_at_quantile(0.99)) })
}

fn record(
    histogram: &mut Histogram<u64>,
    done: Result<Result<Duration, Status>, tokio::task::JoinError>,
) -> io::Result<()> {
    let took = done.map_err(io::Error::other)?.map_err(failed)?;
    histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
    Ok(())
}
