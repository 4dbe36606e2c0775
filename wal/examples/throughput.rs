//! What appending and recovering cost without the disk: `throughput append [batches] [records per batch] [bytes]`, for instruction
//! counts under `valgrind --tool=callgrind --toggle-collect='*measured*'`, `throughput recover [MiB]`; and with the disk
//! `throughput commit [writers] [seconds] [bytes]`, beside what one thread gets out of a bare file in turns.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ketch_wal::{Batch, Options, Position, Progress, RealDisk, Wal};

/// How long each turn is.
const SLICE: Duration = Duration::from_millis(100);

#[inline(never)]
fn measured_appends(
    wal: &Wal,
    batch: &mut Batch,
    data: &[u8],
    batches: u64,
    records: u64,
) -> Result<(), ketch_wal::Error> {
    for _ in 0..batches {
        batch.clear();
        for _ in 0..records {
            batch.push(1, &[data]);
        }
        wal.append(batch)?;
    }
    Ok(())
}

/// One thread on a bare file that was filled with zeroes, then the writers on the log; calls a second of both.
fn commits(dir: &Path, writers: u64, seconds: u64, bytes: u64) -> Result<(), Box<dyn std::error::Error>> {
    let wal = Wal::open(Arc::new(RealDisk), &dir.join("log"), Options::default())?.wal;
    while wal.step(4 << 20)? == Progress::More {}
    let (file, data) = (File::create_new(dir.join("bare"))?, vec![0x5a; bytes as usize]);
    file.write_all_at(&vec![0; 64 << 20], 0)?;
    file.sync_all()?;
    let (turns, mut at, mut rates) = (5 * seconds, 0, [0.0, 0.0]);
    for _ in 0..turns {
        let (start, before) = (Instant::now(), at);
        let bare = || {
            while start.elapsed() < SLICE {
                file.write_all_at(&data, at % ((64 << 20) - bytes))?;
                file.sync_data()?;
                at += bytes;
            }
            std::io::Result::Ok(())
        };
        // On a thread of its own, as the writers are.
        thread::scope(|scope| scope.spawn(bare).join()).map_err(|_| "a thread panicked")??;
        rates[0] += ((at - before) / bytes) as f64 / start.elapsed().as_secs_f64() / turns as f64;
        let (start, before) = (Instant::now(), wal.stats().records);
        thread::scope(|scope| {
            for _ in 0..writers {
                scope.spawn(|| {
                    let mut batch = Batch::new();
                    while start.elapsed() < SLICE {
                        batch.clear();
                        batch.push(1, &[&data]);
                        if wal.commit(&mut batch).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        rates[1] += (wal.stats().records - before) as f64 / start.elapsed().as_secs_f64() / turns as f64;
    }
    let (stats, [bare, log]) = (wal.stats(), rates);
    println!(
        "{writers} writers of {bytes} bytes: {log:.0} commits a second, {:.2} × the bare {bare:.0}; {:.1} a sync, {} spare misses",
        log / bare,
        stats.records as f64 / stats.syncs as f64,
        stats.spare_misses
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_else(|| "append".to_owned());
    let numbers: Vec<u64> = arguments.map(|n| n.parse()).collect::<Result<_, _>>()?;
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let dir = std::env::temp_dir().join(format!("ketch-wal-throughput-{}", std::process::id()));
    if mode == "commit" {
        std::fs::create_dir(&dir)?;
        let outcome = commits(&dir, number(0, 64), number(1, 2), number(2, 300));
        std::fs::remove_dir_all(&dir)?;
        return outcome;
    }
    let options = Options { unsafe_no_sync: true, ..Options::default() };
    let open = || Wal::open(Arc::new(RealDisk), Path::new(&dir), options.clone());
    let wal = open()?.wal;
    let mut batch = Batch::new();
    if mode == "append" {
        let (batches, records, bytes) = (number(0, 2000), number(1, 64), number(2, 300));
        while wal.step(4 << 20)? == Progress::More {}
        let data = vec![0x5a; bytes as usize];
        measured_appends(&wal, &mut batch, &data, 10, records)?;
        let start = Instant::now();
        measured_appends(&wal, &mut batch, &data, batches, records)?;
        let each = start.elapsed().as_nanos() as f64 / (batches * records) as f64;
        println!("{batches} batches of {records} records of {bytes} bytes: {each:.0} ns a record");
    } else {
        let mib = number(0, 1024);
        for _ in 0..mib {
            measured_appends(&wal, &mut batch, &[0x5a; 1000], 16, 64)?;
            wal.sync()?;
        }
        drop(wal);
        let start = Instant::now();
        let opened = open()?;
        let seconds = start.elapsed().as_secs_f64();
        let read = opened.recovery.bytes_read as f64;
        println!("recovery read {:.0} MB in {seconds:.3} s: {:.2} GB/s", read / 1e6, read / 1e9 / seconds);
        let start = Instant::now();
        let records = opened.wal.iter(Position::START).count();
        println!("iteration: {records} records in {:.3} s", start.elapsed().as_secs_f64());
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
