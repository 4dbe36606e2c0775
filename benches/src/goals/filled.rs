//! A store with many keys and many more revisions: lists, counts, transactions, and what large readers do to
//! everybody else's puts.

use std::io;
use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::{CompactionRequest, RangeRequest, WatchCreateRequest};
use ketch_proto::range_end::prefix_end;
use ketch_proto::tonic::transport::Channel;

use super::clients::{connect, open, put_at_rate};
use super::meter::{Peak, p99_ms};
use super::{Figures, Sizes, figure};
use crate::load::{Length, Operation, Plan, run};
use crate::server::Server;
use crate::usage::cpu_time;

/// Puts per second while something large goes on.
const PUT_RATE: f64 = 500.0;

/// Everything on one filled store; the compaction comes last.
pub(super) async fn all(server: &Server, sizes: Sizes) -> io::Result<Figures> {
    let base = Plan { endpoints: vec![server.url()], key_space: sizes.keys, ..Plan::default() };
    let fill = Plan {
        connections: 8,
        clients: 256,
        sequential: true,
        length: Length::Requests(sizes.puts.max(sizes.keys)),
        ..base.clone()
    };
    load(&fill, server).await?;
    let channel = connect(&server.url(), 1).await?.remove(0);
    let mut figures = lists(server, &channel, sizes).await?;
    figures.extend(rates(server, &base).await?);
    figures.extend(mixes(server, sizes).await?);
    Ok(figures)
}

/// The rate, and the server's processor time per request in microseconds.
async fn load(plan: &Plan, server: &Server) -> io::Result<(f64, f64)> {
    let before = cpu_time(server.pid())?;
    let report = run(plan).await?;
    if report.failed() > 0 {
        return Err(io::Error::other(format!("requests failed: {report}")));
    }
    let used = cpu_time(server.pid())?.saturating_sub(before);
    Ok((report.rate(), used.as_secs_f64() * 1e6 / report.succeeded.max(1) as f64))
}

async fn rates(server: &Server, base: &Plan) -> io::Result<Figures> {
    let plan = |operation, clients: usize, requests| Plan {
        operation,
        clients,
        connections: clients.div_ceil(16),
        length: Length::Requests(requests),
        ..base.clone()
    };
    let mut figures = Vec::new();
    for (name, plan) in [
        ("get of one key, 16 clients", plan(Operation::Get, 16, 20_000)),
        ("Range of 500 keys, 16 clients", plan(Operation::Range, 16, 2_000)),
        ("count of all keys, 16 clients", plan(Operation::Count, 16, 400)),
        ("txn (compare + put), 64 clients", plan(Operation::Txn, 64, 30_000)),
    ] {
        let (rate, cpu) = load(&plan, server).await?;
        figures.push(figure(format!("{name}: requests/s"), rate));
        figures.push(figure("the same: server CPU µs/request", cpu));
    }
    Ok(figures)
}

fn everything() -> RangeRequest {
    RangeRequest { key: "load/".into(), range_end: prefix_end(b"load/").into(), ..Default::default() }
}

async fn list(channel: &Channel) -> io::Result<u64> {
    let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    Ok(kv.range(everything()).await.map_err(io::Error::other)?.into_inner().kvs.len() as u64)
}

async fn list_streamed(channel: &Channel) -> io::Result<u64> {
    let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let mut chunks = kv.range_stream(everything()).await.map_err(io::Error::other)?.into_inner();
    let mut keys = 0;
    while let Some(chunk) = chunks.message().await.map_err(io::Error::other)? {
        keys += chunk.range_response.map_or(0, |range| range.kvs.len() as u64);
    }
    Ok(keys)
}

async fn lists(server: &Server, channel: &Channel, sizes: Sizes) -> io::Result<Figures> {
    const REPEATS: u32 = 5;
    let mut figures = Vec::new();
    for (name, streamed) in [("Range", false), ("RangeStream", true)] {
        let peak = Peak::start(server.pid())?;
        let before = cpu_time(server.pid())?;
        let start = Instant::now();
        for _ in 0..REPEATS {
            let keys = if streamed { list_streamed(channel).await? } else { list(channel).await? };
            if keys != sizes.keys {
                return Err(io::Error::other(format!("{name}: {keys} of {} keys", sizes.keys)));
            }
        }
        let elapsed = (start.elapsed() / REPEATS).as_secs_f64() * 1e3;
        let used = (cpu_time(server.pid())?.saturating_sub(before) / REPEATS).as_secs_f64() * 1e3;
        figures.push(figure(format!("{name} of {} keys: ms", sizes.keys), elapsed));
        figures.push(figure("the same: server CPU ms", used));
        figures.push(figure("the same: anonymous memory grows by MiB", peak.growth_mib()));
    }
    Ok(figures)
}

/// Puts at a fixed rate: alone, then beside each of three large things.
async fn mixes(server: &Server, sizes: Sizes) -> io::Result<Figures> {
    let putter = connect(&server.url(), 2).await?;
    let other = connect(&server.url(), 1).await?.remove(0);
    let time = Duration::from_secs_f64(sizes.seconds);
    let puts =
        || put_at_rate(&putter, PUT_RATE, time, |number| format!("mix/{}", number % 1000).into_bytes());
    let name = |beside: &str| format!("{PUT_RATE} puts/s {beside}: put p99 ms");
    let mut figures = vec![figure(name("alone"), p99_ms(puts().await?))];

    let behind = async {
        let mut seconds = Vec::new();
        loop {
            seconds.push(catch_up(&other, sizes).await?);
            if seconds.iter().sum::<f64>() > sizes.seconds {
                return io::Result::Ok(seconds.iter().sum::<f64>() / seconds.len() as f64);
            }
        }
    };
    let (latencies, caught_up) = tokio::join!(puts(), behind);
    figures
        .push(figure(name(&format!("beside a watcher {} revisions behind", sizes.puts)), p99_ms(latencies?)));
    figures.push(figure("the same: the watcher catches up in s", caught_up?));

    let lists = async {
        let start = Instant::now();
        while start.elapsed() < time {
            list(&other).await?;
        }
        io::Result::Ok(())
    };
    let (latencies, listed) = tokio::join!(puts(), lists);
    listed?;
    figures.push(figure(name(&format!("beside lists of {} keys", sizes.keys)), p99_ms(latencies?)));

    let compact = async {
        let mut kv = KvClient::new(other.clone());
        let found = kv.range(RangeRequest { key: "mix/0".into(), ..Default::default() }).await;
        let header = found.map_err(io::Error::other)?.into_inner().header.unwrap_or_default();
        let request = CompactionRequest { revision: header.revision, physical: true };
        kv.compact(request).await.map(drop).map_err(io::Error::other)
    };
    let (latencies, compacted) = tokio::join!(puts(), compact);
    compacted?;
    figures
        .push(figure(name(&format!("beside a compaction of {} revisions", sizes.puts)), p99_ms(latencies?)));
    Ok(figures)
}

/// Seconds until a watcher from the first revision on has seen all puts of the fill.
async fn catch_up(channel: &Channel, sizes: Sizes) -> io::Result<f64> {
    let start = Instant::now();
    let end = prefix_end(b"load/");
    let create = WatchCreateRequest {
        key: "load/".into(),
        range_end: end.into(),
        start_revision: 1,
        ..Default::default()
    };
    let mut responses = open(channel.clone(), vec![create]).await?;
    let mut seen = 0;
    while seen < sizes.puts {
        let response = responses.message().await.map_err(io::Error::other)?;
        seen += response.ok_or_else(|| io::Error::other("the watch stream ended"))?.events.len() as u64;
    }
    Ok(start.elapsed().as_secs_f64())
}
