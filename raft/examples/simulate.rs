//! Runs many seeds and prints what they exercised.
//!
//!     cargo run --release -p ketch-raft --features sim --example simulate -- --seeds 10000
//!     … -- --from 1234 --seeds 1      (one seed alone)

use std::process::ExitCode;
use std::time::Instant;

use ketch_raft::sim::{Journal, Options, Simulation, Stats};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let option =
        |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)?.parse().ok());
    let (from, seeds) = (option("--from").unwrap_or(0), option("--seeds").unwrap_or(100u64));
    let seconds: Option<u64> = option("--seconds");
    println!("seeds {from}..{}", from + seeds);
    let (start, mut total, mut ran) = (Instant::now(), Stats::default(), 0);
    for seed in from..from + seeds {
        match Simulation::new(seed, Options::from_seed(seed), Journal::default()).run() {
            Ok(report) => total.add(&report.stats),
            Err(failure) => {
                println!("FAILED {failure}");
                return ExitCode::FAILURE;
            }
        }
        ran += 1;
        if seconds.is_some_and(|limit| start.elapsed().as_secs() >= limit) {
            break;
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    print!("{total}");
    println!(
        "{ran} seeds held in {elapsed:.1} s: {:.0} seeds a minute, {:.0} events a second",
        f64::from(ran) * 60.0 / elapsed,
        total.events as f64 / elapsed
    );
    ExitCode::SUCCESS
}
