//! Many watchers: of one prefix, and of a key each.

use std::io;
use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::WatchCreateRequest;
use ketch_proto::range_end::prefix_end;
use ketch_proto::tonic::transport::Channel;

use super::clients::{connect, put_at_rate, watch};
use super::meter::{Latencies, mib, p99_ms};
use super::{Figures, Sizes, figure};
use crate::server::Server;
use crate::usage::{cpu_time, memory};

const CONNECTIONS: usize = 10;

/// Put rates that are tried, per second.
const RATES: [f64; 9] = [5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 130.0, 200.0];

/// A rate is held while events reach 99 of 100 watchers in this time.
const HELD_MS: f64 = 100.0;

/// How long a rate is tried.
const TRY: Duration = Duration::from_millis(1500);

/// Puts per second to the watchers of a key each.
const DISTINCT_RATE: f64 = 1000.0;

/// Watchers of one prefix, a stream each. The first program finds the highest rate that it holds; all are
/// measured at that rate, and at four times that for what they deliver at most.
pub(super) async fn one_prefix(server: &Server, sizes: Sizes, rate: &mut Option<f64>) -> io::Result<Figures> {
    let channels = connect(&server.url(), CONNECTIONS).await?;
    let latencies = Latencies::default();
    let end = prefix_end(b"fan/");
    for number in 0..sizes.fan_out {
        let create =
            WatchCreateRequest { key: "fan/".into(), range_end: end.clone().into(), ..Default::default() };
        watch(channels[number % CONNECTIONS].clone(), vec![create], latencies.clone()).await?;
    }
    let putter = connect(&server.url(), 1).await?;
    let held = match *rate {
        Some(held) => held,
        None => highest_held(&putter, sizes, &latencies).await?,
    };
    *rate = Some(held);
    let time = Duration::from_secs_f64(sizes.seconds);
    let at_rate = drive(&putter, held, time, sizes.fan_out, &latencies).await?;
    let before = cpu_time(server.pid())?;
    let start = Instant::now();
    let flat_out = drive(&putter, held * 4.0, time, sizes.fan_out, &latencies).await?;
    let elapsed = start.elapsed().as_secs_f64();
    let used = cpu_time(server.pid())?.saturating_sub(before);
    let delivered = flat_out.len() as f64;
    Ok(vec![
        figure(
            format!("{} watchers of a prefix, {held} puts/s: delivery p99 ms", sizes.fan_out),
            p99_ms(at_rate),
        ),
        figure(format!("the same at {} puts/s: deliveries/s", held * 4.0), delivered / elapsed),
        figure("the same: server CPU µs/delivery", used.as_secs_f64() * 1e6 / delivered),
    ])
}

async fn highest_held(putter: &[Channel], sizes: Sizes, latencies: &Latencies) -> io::Result<f64> {
    let mut held = RATES[0];
    for rate in RATES {
        if p99_ms(drive(putter, rate, TRY, sizes.fan_out, latencies).await?) > HELD_MS {
            break;
        }
        held = rate;
    }
    Ok(held)
}

/// Puts, and waits until every watcher has seen every put, or nothing more comes.
async fn drive(
    putter: &[Channel],
    rate: f64,
    time: Duration,
    watchers: usize,
    latencies: &Latencies,
) -> io::Result<Vec<u32>> {
    latencies.take();
    let puts = put_at_rate(putter, rate, time, |number| format!("fan/{}", number % 100).into_bytes()).await?;
    let expected = puts.len() * watchers;
    let mut seen = Vec::with_capacity(expected);
    for _ in 0..2000 {
        seen.append(&mut latencies.take());
        if seen.len() >= expected {
            return Ok(seen);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(io::Error::other(format!("{} of {expected} events arrived", seen.len())))
}

/// Watchers of a key each, a hundred to a stream.
pub(super) async fn distinct_keys(server: &Server, sizes: Sizes) -> io::Result<Figures> {
    let empty = memory(server.pid())?.anonymous;
    let channels = connect(&server.url(), CONNECTIONS).await?;
    let latencies = Latencies::default();
    let create = |number: usize| WatchCreateRequest {
        key: format!("distinct/{number:08}").into(),
        ..Default::default()
    };
    let numbers: Vec<usize> = (0..sizes.distinct).collect();
    for (stream, part) in numbers.chunks(100).enumerate() {
        let watchers = part.iter().map(|number| create(*number)).collect();
        watch(channels[stream % CONNECTIONS].clone(), watchers, latencies.clone()).await?;
    }
    let putter = connect(&server.url(), 2).await?;
    let time = Duration::from_secs_f64(sizes.seconds);
    let key = |number: u64| {
        let number = number.wrapping_mul(7919) % sizes.distinct as u64;
        format!("distinct/{number:08}").into_bytes()
    };
    let before = cpu_time(server.pid())?;
    let puts = put_at_rate(&putter, DISTINCT_RATE, time, key).await?;
    let mut seen = Vec::new();
    for _ in 0..500 {
        seen.append(&mut latencies.take());
        if seen.len() >= puts.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if seen.len() < puts.len() {
        return Err(io::Error::other(format!("{} of {} events arrived", seen.len(), puts.len())));
    }
    let used = cpu_time(server.pid())?.saturating_sub(before);
    let anonymous = memory(server.pid())?.anonymous;
    let name = |what| format!("{} watchers of a key each, {DISTINCT_RATE} puts/s: {what}", sizes.distinct);
    Ok(vec![
        figure(name("delivery p99 ms"), p99_ms(seen)),
        figure("the same: server CPU µs/put", used.as_secs_f64() * 1e6 / puts.len() as f64),
        figure("the same: anonymous MiB", mib(anonymous)),
        figure("the same: of which grown since the start", mib(anonymous.saturating_sub(empty))),
    ])
}
