//! `walctl bench`: what the disk can do, what a log on it does, and whether that is enough.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ketch_wal::{Batch, Error, Options, Progress, RealDisk, Wal};

use crate::Failure;
use crate::args::{Args, quote};
use crate::measure::Measure;
use crate::{raw, tasks};

/// The latency that a cluster with the usual heartbeat of 100 ms can live with, as etcd's manual has it.
const GOOD_P99_US: f64 = 10_000.0;
/// Beyond this elections become likely.
const BAD_P99_US: f64 = 50_000.0;

const TURNS: u32 = 4;

/// A folder of our own in the one given, gone afterwards.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It lies in a folder the user chose for measuring; what cannot be removed is seen there.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let seconds: f64 = args.number("seconds", 10.0)?;
    let (records, writers) = (args.numbers("record", "300")?, args.numbers("writers", "1,8,64")?);
    let scratch = Scratch(args.dir()?.join(format!("walctl-bench-{}", std::process::id())));
    fs::create_dir_all(&scratch.0)?;
    let writers: Vec<Writers> = writers.into_iter().flat_map(Writers::of).collect();
    let rounds = records.len() * (writers.len() + 5);
    let time = Duration::from_secs_f64((seconds / rounds as f64).max(0.05));
    let json = args.is_set("json");
    let mut lines = Vec::new();
    for &record in &records {
        let others = raw::others(&scratch.0, record, time)?;
        let (bare, logs) = side_by_side(&scratch.0, record, &writers, time)?;
        if json {
            let all = std::iter::once(&bare).chain(&others).chain(&logs);
            let all: Vec<String> = all.map(Measure::json).collect();
            let verdict = quote(&verdict(&bare, &logs));
            lines.push(format!(
                "{{\"record_bytes\":{record},\"measures\":[{}],\"verdict\":{verdict}}}",
                all.join(",")
            ));
        } else {
            report(record, &bare, &others, &logs);
        }
    }
    if json {
        println!("[{}]", lines.join(","));
    }
    Ok(())
}

/// Who writes to the log.
#[derive(Debug, Clone, Copy)]
enum Writers {
    Threads(usize),
    /// Of one thread.
    Tasks(usize),
}

impl Writers {
    /// One writer is the same as a task and as a thread.
    fn of(n: usize) -> impl Iterator<Item = Writers> {
        [Some(Writers::Threads(n)), (n > 1).then_some(Writers::Tasks(n))].into_iter().flatten()
    }

    fn name(self) -> String {
        match self {
            Writers::Threads(n) => format!("log: {n} writer(s)"),
            Writers::Tasks(n) => format!("log: {n} writers, tasks of one thread"),
        }
    }
}

/// The disk and the log take turns, so that a slow minute of the machine falls on both. Both are made before the first turn, and the log is one for all: its
/// files are filled once, and what that leaves the device to do is over when it matters.
fn side_by_side(
    dir: &Path,
    record: usize,
    writers: &[Writers],
    time: Duration,
) -> Result<(Measure, Vec<Measure>), Failure> {
    let mut filled = raw::Filled::new(dir, record)?;
    let path = dir.join("log");
    let wal = Wal::open(Arc::new(RealDisk), &path, Options::default())?.wal;
    while wal.step(1 << 20)? == Progress::More {}
    let (mut bare, mut logs) = (Vec::new(), Vec::from_iter(writers.iter().map(|_| Vec::new())));
    for _ in 0..TURNS {
        bare.push(filled.measure(time / TURNS)?);
        for (log_turns, &n) in logs.iter_mut().zip(writers) {
            log_turns.push(log(&wal, record, n, time / TURNS)?);
        }
    }
    drop(wal);
    fs::remove_dir_all(&path)?;
    Ok((Measure::merge(bare), logs.into_iter().map(Measure::merge).collect()))
}

fn report(record: usize, bare: &Measure, others: &[Measure], logs: &[Measure]) {
    println!("records of {record} bytes");
    for measure in others.iter().chain([bare]) {
        println!("  {}", measure.line());
    }
    for measure in logs {
        println!("  {}   {:.2} × the disk", measure.line(), measure.rate() / bare.rate());
    }
    if let Some(measure) = logs.first() {
        println!("  latency of a commit, {}", measure.name);
        print!("{}", measure.histogram());
    }
    println!("{}\n", verdict(bare, logs));
}

/// A sentence for an operator.
fn verdict(bare: &Measure, logs: &[Measure]) -> String {
    let p99 = logs.first().unwrap_or(bare).percentile(99.0);
    let most = logs.iter().map(Measure::rate).fold(0.0, f64::max);
    let good = match p99 {
        p99 if p99 <= GOOD_P99_US => "good enough for a cluster",
        p99 if p99 <= BAD_P99_US => "usable, with longer heartbeat and election timeouts",
        _ => "too slow for a cluster",
    };
    format!(
        "this disk is {good}: 99 % of syncs take less than {:.1} ms; it carries at most {most:.0} records (or puts) of \
         this size a second",
        p99 / 1000.0
    )
}

/// Writers that commit one record at a time, beside a thread for the background duties.
fn log(wal: &Wal, record: usize, writers: Writers, time: Duration) -> Result<Measure, Failure> {
    let (over, data) = (AtomicBool::new(false), vec![0x5a; record]);
    let start = Instant::now();
    let latencies: Result<Vec<u64>, Error> = thread::scope(|scope| {
        let background = scope.spawn(|| serve(wal, &over));
        let latencies = match writers {
            Writers::Threads(n) => threads(wal, &data, n, time),
            Writers::Tasks(n) => tasks::run(wal, &data, n, time),
        };
        over.store(true, Ordering::Release);
        let served = background.join().unwrap_or(Ok(()));
        served.and(latencies)
    });
    let elapsed = start.elapsed();
    Ok(Measure::new(writers.name(), latencies?, elapsed))
}

fn threads(wal: &Wal, data: &[u8], writers: usize, time: Duration) -> Result<Vec<u64>, Error> {
    let start = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(|| commit(wal, data, start, time))).collect();
        let latencies = threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(Vec::new())));
        latencies.collect::<Result<Vec<_>, _>>().map(|latencies| latencies.concat())
    })
}

fn commit(wal: &Wal, data: &[u8], start: Instant, time: Duration) -> Result<Vec<u64>, Error> {
    let (mut batch, mut latencies) = (Batch::new(), Vec::new());
    while start.elapsed() < time {
        let begun = Instant::now();
        batch.clear();
        batch.push(1, &[data]);
        wal.commit(&mut batch)?;
        latencies.push(begun.elapsed().as_nanos() as u64);
    }
    Ok(latencies)
}

/// Keeps spares ready, and the log short: what lies some segments back is purged and used again.
fn serve(wal: &Wal, over: &AtomicBool) -> Result<(), Error> {
    while !over.load(Ordering::Acquire) {
        let segments = wal.segments();
        if segments.len() > 2 {
            wal.purge_before(segments[segments.len() - 2].first)?;
        }
        if wal.step(256 << 10)? == Progress::Idle {
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}
