//! Commits a second by number of writers and size of record: ketch's log beside the bare disk and other logs.
//!
//! `cargo bench -p ketch-benches --bench wal [--features peers] -- [--seconds 2] [--records 64,300,4096,65536] [--writers 1,8,64] [--only ketch,etcd]`
//!
//! All contenders of a figure are open at once and take turns in slices of a fraction of a second, in an order that changes from turn to turn, so
//! the disk's moods fall on all of them alike; the first slice of each is thrown away. With `peers`, raft-engine and okaywal take part.
//! etcd's log takes part by a small program of `benches/peers/etcd-wal`, which is built here when Go is at hand (or named by `KETCH_ETCD_WAL`).

mod bare;
mod etcd;
mod ketch;
#[cfg(feature = "peers")]
mod peers;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

/// One log under test, open for the whole of a figure.
trait Contender {
    /// Commits records for that long; records a second.
    fn slice(&mut self, time: Duration) -> Result<f64, Failure>;
}

/// What one figure is measured with.
#[derive(Debug, Clone, Copy)]
struct Figure {
    record: usize,
    writers: usize,
}

type Opener = fn(&Path, Figure) -> Result<Box<dyn Contender>, Failure>;

/// In the order of the table's columns. The bare disk has one writer, whatever the figure.
const CONTENDERS: &[(&str, Opener)] = &[
    ("bare disk", bare::open),
    ("ketch", ketch::open),
    ("ketch, tasks", ketch::open_tasks),
    #[cfg(feature = "peers")]
    ("raft-engine", peers::raft_engine),
    #[cfg(feature = "peers")]
    ("okaywal", peers::okaywal),
    ("etcd", etcd::open),
];

/// How often the contenders take turns at each figure.
const TURNS: usize = 7;

/// `commit` from that many threads until the time is over; calls that succeeded, a second.
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

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}

/// The median rate of each contender that takes part; 0 for one that does not.
fn measure(
    open: &[(&str, Opener)],
    figure: Figure,
    time: Duration,
    turns: usize,
) -> Result<Vec<f64>, Failure> {
    let dir = tempfile::tempdir_in(".")?;
    let mut contenders = Vec::new();
    for (name, open) in open {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir)?;
        contenders.push(open(&dir, figure)?);
    }
    let mut rates = vec![Vec::new(); contenders.len()];
    for turn in 0..=turns {
        for i in 0..contenders.len() {
            let at = (turn + i) % contenders.len();
            let rate = contenders[at].slice(time / turns as u32)?;
            if turn > 0 {
                rates[at].push(rate);
            }
        }
    }
    Ok(rates.into_iter().map(median).collect())
}

/// What stands behind `--name`, separated by commas.
fn words(name: &str, default: &str) -> Vec<String> {
    let text = std::env::args().skip_while(|word| word != name).nth(1);
    text.unwrap_or_else(|| default.to_owned()).split(',').map(str::to_owned).collect()
}

fn argument<T: std::str::FromStr>(name: &str, default: &str) -> Result<Vec<T>, Failure> {
    let numbers = words(name, default);
    let numbers =
        numbers.iter().map(|number| number.parse().map_err(|_| format!("{name} {number}: no number")));
    Ok(numbers.collect::<Result<_, _>>()?)
}

fn table(records: &[usize], writers: &[usize], time: Duration, turns: usize) -> Result<(), Failure> {
    let mut contenders = CONTENDERS.to_vec();
    let only = words("--only", "");
    contenders.retain(|(name, _)| only == [""] || only.iter().any(|word| word == name));
    let wanted = contenders.iter().any(|(name, _)| *name == "etcd");
    if wanted && let Err(why) = etcd::program() {
        println!("etcd's log: skipped: {why}");
        contenders.retain(|(name, _)| *name != "etcd");
    }
    let names: Vec<_> = contenders.iter().map(|(name, _)| format!(" {name:>11} |")).collect();
    println!(
        "records a second, median of {turns} slices; in brackets what ketch's rate is as a multiple of it\n"
    );
    println!("| bytes | writers |{}", names.concat());
    println!("| ---: | ---: |{}", " ---: |".repeat(names.len()));
    for &record in records {
        for &writers in writers {
            let rates = measure(&contenders, Figure { record, writers }, time, turns)?;
            let ketch = contenders
                .iter()
                .zip(&rates)
                .find(|((name, _), _)| *name == "ketch")
                .map_or(0.0, |(_, rate)| *rate);
            let cell = |(name, rate): (&str, f64)| match name {
                "ketch" => format!(" {rate:.0} |"),
                _ => format!(" {rate:.0} ({:.2}) |", ketch / rate),
            };
            let cells: String =
                contenders.iter().map(|(name, _)| *name).zip(rates.iter().copied()).map(cell).collect();
            println!("| {record} | {writers} |{cells}");
        }
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    // Without `--bench` this is a test run: one small figure, to see that it works.
    if !std::env::args().any(|argument| argument == "--bench") {
        return table(&[64], &[2], Duration::from_millis(40), 2);
    }
    let seconds: Vec<f64> = argument("--seconds", "2")?;
    let time = Duration::from_secs_f64(seconds[0]);
    table(&argument("--records", "64,300,4096,65536")?, &argument("--writers", "1,8,64")?, time, TURNS)
}
