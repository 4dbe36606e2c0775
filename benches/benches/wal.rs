//! Commits a second by number of writers and size of record: ketch's log beside others, in turns in the same run.
//!
//! `cargo bench -p ketch-benches --bench wal [--features peers] -- [seconds for each figure]`. With `peers`, raft-engine and okaywal;
//! and etcd's log if `KETCH_ETCD_WAL` names the program built from `benches/peers/etcd-wal` (`go build`).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ketch_wal::{Batch, Options, Progress, RealDisk, Wal};

type Outcome = Result<f64, Box<dyn std::error::Error>>;

/// One log under test: `run` gives records a second.
struct Peer {
    name: &'static str,
    run: fn(&Path, usize, usize, Duration) -> Outcome,
}

const PEERS: &[Peer] = &[
    Peer { name: "ketch", run: ketch },
    #[cfg(feature = "peers")]
    Peer { name: "raft-engine", run: peers::raft_engine },
    #[cfg(feature = "peers")]
    Peer { name: "okaywal", run: peers::okaywal },
    Peer { name: "etcd", run: etcd },
];

/// How often the peers take turns at each figure.
const TURNS: u32 = 3;

/// `commit` from that many threads until the time is over; records a second.
fn drive(writers: usize, time: Duration, commit: impl Fn(usize) -> bool + Sync) -> f64 {
    let (count, start) = (AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        for writer in 0..writers {
            let (count, commit) = (&count, &commit);
            scope.spawn(move || {
                while start.elapsed() < time && commit(writer) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

thread_local! {
    static BATCH: std::cell::RefCell<Batch> = std::cell::RefCell::default();
}

fn ketch(dir: &Path, record: usize, writers: usize, time: Duration) -> Outcome {
    let wal = Wal::open(Arc::new(RealDisk), dir, Options::default())?.wal;
    while wal.step(1 << 20)? == Progress::More {}
    let (over, data) = (AtomicBool::new(false), vec![0x5a; record]);
    let rate = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                let segments = wal.segments();
                let keep = segments[segments.len().saturating_sub(2)].first;
                if wal.purge_before(keep).is_err() || !matches!(wal.step(256 << 10), Ok(Progress::More)) {
                    thread::sleep(Duration::from_millis(2));
                }
            }
        });
        let rate = drive(writers, time, |_| {
            BATCH.with_borrow_mut(|batch| {
                batch.clear();
                batch.push(1, &[&data]);
                wal.commit(batch).is_ok()
            })
        });
        over.store(true, Ordering::Release);
        rate
    });
    Ok(rate)
}

/// etcd's log, by a program of its own; 0 where it was not built.
fn etcd(dir: &Path, record: usize, writers: usize, time: Duration) -> Outcome {
    let Some(program) = std::env::var_os("KETCH_ETCD_WAL") else { return Ok(0.0) };
    let numbers = [record.to_string(), writers.to_string(), time.as_secs_f64().to_string()];
    let output = Command::new(program).arg(dir.join("wal")).args(numbers).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

#[cfg(feature = "peers")]
mod peers {
    use super::{Duration, Outcome, Path, drive};

    pub(super) fn raft_engine(dir: &Path, record: usize, writers: usize, time: Duration) -> Outcome {
        let config = raft_engine::Config {
            dir: dir.to_string_lossy().into_owned(),
            enable_log_recycle: true,
            batch_compression_threshold: raft_engine::ReadableSize(0),
            ..raft_engine::Config::default()
        };
        let engine = raft_engine::Engine::open(config)?;
        let data = vec![0x5a; record];
        Ok(drive(writers, time, |writer| {
            let mut batch = raft_engine::LogBatch::default();
            let put = batch.put(writer as u64 + 1, b"k".to_vec(), data.clone());
            put.is_ok() && engine.write(&mut batch, true).is_ok()
        }))
    }

    pub(super) fn okaywal(dir: &Path, record: usize, writers: usize, time: Duration) -> Outcome {
        let log = okaywal::WriteAheadLog::recover(dir, okaywal::LogVoid)?;
        let data = vec![0x5a; record];
        Ok(drive(writers, time, |_| {
            let Ok(mut entry) = log.begin_entry() else { return false };
            entry.write_chunk(&data).is_ok() && entry.commit().is_ok()
        }))
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Without `--bench` this is a test run: one small figure, to see that it works.
    let real = std::env::args().any(|argument| argument == "--bench");
    let seconds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1.5);
    let time =
        if real { Duration::from_secs_f64(seconds / f64::from(TURNS)) } else { Duration::from_millis(20) };
    let records: &[usize] = if real { &[64, 300, 4096, 65536] } else { &[64] };
    let writers: &[usize] = if real { &[1, 8, 64] } else { &[2] };
    let names: Vec<_> = PEERS.iter().map(|peer| format!("{:>12}", peer.name)).collect();
    println!("commits a second, median of {TURNS}\n bytes writers {}", names.concat());
    for record in records {
        for writers in writers {
            let mut rates = vec![Vec::new(); PEERS.len()];
            for _ in 0..TURNS {
                for (peer, rates) in PEERS.iter().zip(&mut rates) {
                    let dir = tempfile::tempdir_in(".")?;
                    rates.push((peer.run)(dir.path(), *record, *writers, time)?);
                }
            }
            let rates: Vec<_> = rates.into_iter().map(|rates| format!("{:>12.0}", median(rates))).collect();
            println!("{record:>6} {writers:>7} {}", rates.concat());
        }
    }
    Ok(())
}
