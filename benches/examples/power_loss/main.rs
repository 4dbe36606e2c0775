//! A real process, real system calls, and a file system that loses power: `power_loss [--unsafe] [seconds] [seed]`. With `--unsafe` the
//! writer does not sync, and the loss must be found.
//!
//! A FUSE file system is mounted whose content is the simulated disk of ketch-wal. A writer, a process of its own, commits records to
//! a log there and says after each which number it was. It is killed at some moment; then the disk forgets, tears and reorders what
//! was not synced, the log is opened again through the kernel, and everything that the writer had said must be there.
//!
//! `cargo run --release -p ketch-benches --features power-loss --example power_loss -- 60`. Wants Linux, /dev/fuse and the right to mount.

mod mount;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ketch_wal::{Batch, Options, Position, RealDisk, SimDisk, Wal, Worker};

type Failure = Box<dyn std::error::Error>;

/// What a process started by this one is told to do.
const WRITE: &str = "--write";
const WRITE_UNSAFE: &str = "--write-unsafe";

fn options() -> Options {
    Options { segment_bytes: 64 << 10, ..Options::default() }
}

/// Commits records that begin with their number, purges what is far behind, and says each number once it is durable.
fn write(dir: &Path, unsafe_no_sync: bool) -> Result<(), Failure> {
    let wal = Wal::open(Arc::new(RealDisk), dir, Options { unsafe_no_sync, ..options() })?.wal;
    let _worker = Worker::spawn(&wal)?;
    let last = wal.iter(Position::START).last().transpose()?;
    let mut number = last.map_or(0, |record| number_of(&record.data)) + 1;
    let (mut batch, mut out) = (Batch::new(), std::io::stdout().lock());
    loop {
        batch.clear();
        batch.push(1, &[&number.to_le_bytes(), &vec![number as u8; (number * 97 % 3000) as usize]]);
        let appended = wal.commit(&mut batch)?;
        writeln!(out, "{number}")?;
        if number.is_multiple_of(100) {
            wal.purge_before(appended.first)?;
        }
        number += 1;
    }
}

fn number_of(data: &[u8]) -> u64 {
    data.first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
}

/// The last number that a writer, killed after some milliseconds, said.
fn run_writer(dir: &Path, mode: &str, time: Duration) -> Result<u64, Failure> {
    let mut child =
        Command::new(std::env::current_exe()?).arg(mode).arg(dir).stdout(Stdio::piped()).spawn()?;
    let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
    let reader = std::thread::spawn(move || {
        output.lines().map_while(Result::ok).filter_map(|line| line.parse().ok()).last().unwrap_or(0)
    });
    std::thread::sleep(time);
    if let Some(status) = child.try_wait()? {
        return Err(format!("the writer ended by itself: {status}").into());
    }
    child.kill()?;
    child.wait()?;
    reader.join().map_err(|_| "the reader of the writer's answers failed".into())
}

/// The log holds everything up to `said`, without a gap, each record as it was written; gives its last number.
fn check(dir: &Path, said: u64) -> Result<u64, Failure> {
    let wal = Wal::open(Arc::new(RealDisk), dir, options())?.wal;
    let mut before = None;
    for record in wal.iter(Position::START) {
        let data = record?.data;
        let number = number_of(&data);
        if before.is_some_and(|before| before + 1 != number) {
            return Err(format!("record {number} follows {before:?}").into());
        }
        if data.len() != 8 + (number * 97 % 3000) as usize
            || data[8..].iter().any(|byte| *byte != number as u8)
        {
            return Err(format!("record {number} is not as it was written").into());
        }
        before = Some(number);
    }
    match before {
        None if said == 0 => Ok(0),
        Some(last) if last >= said => Ok(last),
        _ => Err(format!("record {said} was acknowledged, the log ends with {before:?}").into()),
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).peekable();
    for (mode, unsafe_no_sync) in [(WRITE, false), (WRITE_UNSAFE, true)] {
        if arguments.next_if_eq(mode).is_some() {
            return write(&PathBuf::from(arguments.next().ok_or("a writer wants a folder")?), unsafe_no_sync);
        }
    }
    let mode = if arguments.next_if_eq("--unsafe").is_some() { WRITE_UNSAFE } else { WRITE };
    let seconds: u64 = arguments.next().map_or(Ok(30), |word| word.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(1), |word| word.parse())?;
    let (start, folder) = (Instant::now(), tempfile::tempdir()?);
    let (disk, mut said, mut losses, mut random) = (SimDisk::new(seed), 0, 0u64, seed);
    println!("seed {seed}");
    while start.elapsed() < Duration::from_secs(seconds) {
        let session = match mount::mount(&disk, folder.path()) {
            Ok(session) => session,
            Err(why) => {
                println!("SKIPPED: no file system can be mounted here: {why}");
                return Ok(());
            }
        };
        said = check(&folder.path().join("log"), said)
            .map_err(|error| format!("after {losses} losses: {error}"))?;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let time = Duration::from_millis(20 + (random >> 33) % 300);
        said = said.max(run_writer(&folder.path().join("log"), mode, time)?);
        drop(session);
        disk.crash();
        losses += 1;
    }
    println!("{losses} power losses, {said} records committed, none that was acknowledged is gone");
    Ok(())
}
