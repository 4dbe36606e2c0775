//! Simulates members, one after another, each from its own seed: `-- [--seeds N] [--from SEED] [--rounds N]`.
//!
//! The seed is printed first, so that a failure names what reproduces it.

use ketch_server::sim::{self, Options};

fn main() -> Result<(), String> {
    let mut options = Options::default();
    let (mut seeds, mut args) = (100, std::env::args().skip(1));
    while let Some(name) = args.next() {
        let value = args.next().and_then(|value| value.parse().ok());
        let number = value.ok_or_else(|| format!("{name} takes a number"))?;
        match name.as_str() {
            "--seeds" => seeds = number,
            "--from" => options.seed = number,
            "--rounds" => options.rounds = number,
            _ => return Err(format!("unknown option {name}; known: --seeds, --from, --rounds")),
        }
    }
    for seed in options.seed..options.seed + seeds {
        print!("seed {seed}: ");
        let report = sim::run(&Options { seed, ..options.clone() }).inspect_err(|_| println!("FAILED"))?;
        println!("{report}");
    }
    Ok(())
}
