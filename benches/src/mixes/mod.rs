//! Loads that are more than one kind of request: watchers, writers beside something large, large lists, many idle
//! connections. Each program is started afresh and measured by the same steps; what the real etcd can bear sets the rate for
//! both.

mod client;
mod raw;
mod watchers;

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::WatchCreateRequest;
use tokio::runtime::Handle;

use crate::load::{Length, Operation, Plan, run};
use crate::server::{Program, Server};
use crate::usage::{cpu_time, memory};
use client::Client;
use watchers::Watchers;

/// Keys in the store before anything is measured.
const KEYS: u64 = 100_000;
/// The bound on etcd's delivery latency that chooses the rate.
const BEARABLE: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_secs(3);

/// A measured figure; smaller is better unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured, with its unit.
    pub name: &'static str,
    /// The figure.
    pub value: f64,
}

/// The parts of the measurement, by name.
pub const PARTS: [&str; 5] = ["lists", "prefix", "distinct", "writers", "idle"];

/// Measures `parts` of all `programs` and gives a Markdown table; `progress` hears of each figure.
///
/// # Errors
/// A server does not start or does not answer.
pub fn measure(
    programs: &[Program],
    parts: &[String],
    root: &Path,
    mut progress: impl FnMut(&str),
) -> io::Result<String> {
    raise_file_limit();
    let mut rate = None;
    let mut columns = Vec::new();
    for program in programs {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let beside = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut found = Vec::new();
        for part in parts {
            let server = Server::start(program, root)?;
            let figures = runtime.block_on(measure_part(part, &server, root, &mut rate, beside.handle()))?;
            for figure in &figures {
                progress(&format!("{}: {} {:.3}", program.name, figure.name, figure.value));
            }
            found.extend(figures);
        }
        columns.push(found);
    }
    Ok(render(programs, &columns))
}

async fn measure_part(
    part: &str,
    server: &Server,
    root: &Path,
    rate: &mut Option<f64>,
    beside: &Handle,
) -> io::Result<Vec<Figure>> {
    match part {
        "lists" => lists(server).await,
        "prefix" => prefix(server, rate).await,
        "distinct" => distinct(server, root).await,
        "writers" => writers(server, beside).await,
        "idle" => idle(server).await,
        other => Err(io::Error::other(format!("there is no part {other:?}; there are {PARTS:?}"))),
    }
}

async fn fill(server: &Server, puts: u64) -> io::Result<()> {
    let plan = Plan {
        endpoints: vec![server.url()],
        connections: 8,
        clients: 256,
        operation: Operation::Put,
        sequential: true,
        length: Length::Requests(puts),
        key_space: KEYS,
        ..Plan::default()
    };
    let report = run(&plan).await?;
    if report.failed() > 0 { Err(io::Error::other(format!("puts failed: {report}"))) } else { Ok(()) }
}

/// All keys in one answer, and in a stream of answers.
async fn lists(server: &Server) -> io::Result<Vec<Figure>> {
    fill(server, KEYS).await?;
    let client = Client::connect(&server.url(), 1).await?;
    let mut figures = Vec::new();
    for (name, cpu_name, method) in [
        ("Range of 100 k keys, ms", "its server CPU, ms", "Range"),
        ("RangeStream of 100 k keys, ms", "its server CPU, ms", "RangeStream"),
    ] {
        let mut times = Vec::new();
        let before = cpu_time(server.pid())?;
        for _ in 0..7 {
            let start = Instant::now();
            let bytes = client.list(method).await?;
            if bytes < KEYS * 256 {
                return Err(io::Error::other(format!("{method} gave {bytes} bytes")));
            }
            times.push(start.elapsed());
        }
        times.sort();
        let used = cpu_time(server.pid())?.saturating_sub(before) / 7;
        figures.push(Figure { name, value: millis(times[3]) });
        figures.push(Figure { name: cpu_name, value: millis(used) });
    }
    let name = "anonymous memory after them, MiB";
    figures.push(Figure { name, value: mib(memory(server.pid())?.anonymous) });
    Ok(figures)
}

/// A thousand watchers of one prefix: the rate that etcd (the first program) bears is everybody's.
async fn prefix(server: &Server, rate: &mut Option<f64>) -> io::Result<Vec<Figure>> {
    const WATCHERS: u64 = 1000;
    let client = Client::connect(&server.url(), 10).await?;
    let watchers =
        Watchers::open(client.channels(), 100, |_| (0..10).map(|_| watch(b"load/", b"load0")).collect())
            .await?;
    let chosen = match *rate {
        Some(rate) => rate,
        None => {
            let (mut borne, mut next) = (20.0, 20.0);
            loop {
                let p99 = deliver(&client, &watchers, next, WATCHERS).await?;
                if p99.is_none_or(|p99| p99 >= BEARABLE) {
                    break borne;
                }
                borne = next;
                next *= 1.4;
            }
        }
    };
    *rate = Some(chosen);
    let p99 = deliver(&client, &watchers, chosen, WATCHERS).await?;
    watchers.reset();
    let start = Instant::now();
    let puts = client.put_closed_loop(64, STEP).await?;
    let all = watchers.await_deliveries(puts * WATCHERS).await;
    let sustained = if all { (puts * WATCHERS) as f64 / start.elapsed().as_secs_f64() } else { f64::NAN };
    Ok(vec![
        Figure { name: "1000 watchers of a prefix: puts/s (chosen by etcd)", value: chosen },
        Figure { name: "delivery p99 at that rate, ms", value: p99.map_or(f64::NAN, millis) },
        Figure { name: "sustained deliveries/s (more is better)", value: sustained },
    ])
}

async fn deliver(client: &Client, watchers: &Watchers, rate: f64, each: u64) -> io::Result<Option<Duration>> {
    watchers.reset();
    let puts = client.put_open_loop(rate, STEP, |number| number).await?;
    let all = watchers.await_deliveries(puts.count * each).await;
    Ok(all.then(|| watchers.p99()))
}

/// Ten thousand watchers, each of a key of its own.
async fn distinct(server: &Server, root: &Path) -> io::Result<Vec<Figure>> {
    const WATCHERS: u64 = 10_000;
    let client = Client::connect(&server.url(), 10).await?;
    let watchers = Watchers::open(client.channels(), 100, |stream| {
        (0..100).map(|number| watch(&client::key(stream as u64 * 100 + number), b"")).collect()
    })
    .await?;
    let puts = client.put_open_loop(1000.0, STEP, |number| number.wrapping_mul(7919) % WATCHERS).await?;
    let all = watchers.await_deliveries(puts.count).await;
    let p99 = if all { millis(watchers.p99()) } else { f64::NAN };
    let calls = client.ask_open_loop(1000.0, STEP).await?;
    let (bare, dir) = (Duration::from_micros(1000), root.to_owned());
    let bare = tokio::task::spawn_blocking(move || bare_syncs(&dir, bare)).await??;
    Ok(vec![
        Figure { name: "10,000 watchers of distinct keys, 1000 puts/s: p99, ms", value: p99 },
        Figure { name: "of which the puts themselves: p99, ms", value: millis(puts.p99) },
        Figure { name: "1000 calls/s that have nothing to do: p99, ms", value: millis(calls.p99) },
        Figure { name: "1000 bare syncs/s of 512 bytes, no server: p99, ms", value: millis(bare) },
        Figure { name: "anonymous memory with them, MiB", value: mib(memory(server.pid())?.anonymous) },
    ])
}

/// The 99th percentile of a write and its sync, one due every `every`: what no server that syncs can be below.
fn bare_syncs(dir: &Path, every: Duration) -> io::Result<Duration> {
    const BLOCKS: u32 = 2048;
    let file = tempfile::tempfile_in(dir)?;
    file.write_all_at(&vec![0; 512 * BLOCKS as usize], 0)?;
    file.sync_all()?;
    let (start, mut took) = (Instant::now(), Vec::new());
    for number in 0.. {
        let due = start + every * number;
        if due > start + STEP {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        file.write_all_at(&[1; 512], u64::from(number % BLOCKS) * 512)?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    took.sort();
    Ok(took[took.len() * 99 / 100])
}

/// Puts at a fixed rate, alone and beside something large. What is beside them has a thread of its own in the generator too: puts
/// do not queue behind it before they are even sent.
async fn writers(server: &Server, beside: &Handle) -> io::Result<Vec<Figure>> {
    const RATE: f64 = 2000.0;
    fill(server, 5 * KEYS).await?;
    let client = Client::connect(&server.url(), 4).await?;
    let url = server.url();
    let other = beside.spawn(async move { Client::connect(&url, 1).await }).await??;
    let other = Arc::new(other);
    let random = |number: u64| number.wrapping_mul(7919) % KEYS;
    let put = || client.put_open_loop(RATE, STEP, random);
    let _warm = put().await?;
    let alone = put().await?.p99;

    let lister = Arc::clone(&other);
    let lists = beside.spawn(async move { while lister.list("Range").await.is_ok() {} });
    let list = put().await?.p99;
    if lists.is_finished() {
        return Err(io::Error::other("a list failed"));
    }
    lists.abort();

    let channels = other.channels().to_vec();
    let late = beside.spawn(async move {
        let all = |_| vec![WatchCreateRequest { start_revision: 2, ..watch(b"load/", b"load0") }];
        Watchers::open(&channels, 1, all).await
    });
    let watch = put().await?.p99;
    drop(late.await??);

    let compaction = beside.spawn(async move { other.compact().await });
    let compact = put().await?.p99;
    compaction.await??;
    Ok(vec![
        Figure { name: "put p99 at 2000/s alone, ms", value: millis(alone) },
        Figure { name: "beside lists of 100 k keys, ms", value: millis(list) },
        Figure { name: "beside a watcher 500 k revisions behind, ms", value: millis(watch) },
        Figure { name: "beside a compaction of 500 k revisions, ms", value: millis(compact) },
    ])
}

/// Ten thousand connections that have asked once and are silent.
async fn idle(server: &Server) -> io::Result<Vec<Figure>> {
    let before = memory(server.pid())?.anonymous;
    let connections = Client::connect(&server.url(), 10_000).await?;
    connections.get_on_each().await?;
    let after = memory(server.pid())?.anonymous;
    let name = "10,000 idle connections: anonymous memory, MiB";
    Ok(vec![Figure { name, value: mib(after.saturating_sub(before)) }])
}

fn watch(key: &[u8], end: &[u8]) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_vec().into(), range_end: end.to_vec().into(), ..Default::default() }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn render(programs: &[Program], columns: &[Vec<Figure>]) -> String {
    let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
    let mut text = format!(
        "| work | {} | ratio |\n| --- |{} ---: |\n",
        names.join(" | "),
        " ---: |".repeat(names.len())
    );
    for (row, figure) in columns.first().into_iter().flatten().enumerate() {
        let values: Vec<f64> =
            columns.iter().filter_map(|column| column.get(row)).map(|one| one.value).collect();
        let cells: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
        let ratio = values.last().zip(values.first()).map_or(f64::NAN, |(last, first)| last / first);
        text.push_str(&format!("| {} | {} | **{ratio:.2}** |\n", figure.name, cells.join(" | ")));
    }
    text
}

/// Ten thousand connections need as many files, here and in the servers, which inherit the limit.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a valid pointer to a plain structure.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
