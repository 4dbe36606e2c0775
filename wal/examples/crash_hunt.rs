//! The crash hunt of the tests as a command: random workloads, crashed everywhere, until the time is over or a bug is found.
//!
//! `cargo run --release -p ketch-wal --features testing --example crash_hunt -- [seconds] [first seed] [states per point]`

use std::process::ExitCode;
use std::time::{Duration, Instant};

#[expect(clippy::unwrap_used, reason = "shared with the tests")]
#[path = "../tests/it/hunt.rs"]
mod hunt;

fn main() -> ExitCode {
    let argument = |at| std::env::args().nth(at).and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(argument(1).unwrap_or(30));
    let (mut seed, bound) = (argument(2).unwrap_or(1000), argument(3).unwrap_or(64));
    let (start, first, mut report) = (Instant::now(), seed, hunt::Report::default());
    println!("first seed {first}, at most {bound} states at each operation");
    while start.elapsed() < time {
        for zero_fill in [true, false] {
            match hunt::hunt(hunt::Plan { seed, steps: 60, bound, zero_fill, again: 5000 }) {
                Ok(more) => report.add(more),
                Err(bug) => {
                    println!("{bug}");
                    return ExitCode::FAILURE;
                }
            }
        }
        seed += 1;
    }
    let hunt::Report { states, points, complete_points, recoveries } = report;
    println!(
        "{states} crash states at {points} operations, {complete_points} of them in every state; {recoveries} of crashed \
         recoveries; {} seeds, no bug",
        seed - first
    );
    ExitCode::SUCCESS
}
