//! `restart`: time to the ready line after many puts, the real etcd beside ketch.

use std::io;

use ketch_benches::args::{Args, ArgsError, Usage};
use ketch_benches::programs::{data_root, etcd_and_ketch};
use ketch_benches::restart::measure;
use ketch_benches::server::Program;

const USAGE: Usage = Usage {
    help: "\
usage: restart [options]

  --puts N             puts before the restart  [1000000]
  --keys N             different keys           [100000]
  --value-size BYTES                            [256]
  --only NAME          etcd or ketch            [both]
  --etcd PATH, --ketch PATH, --etcd-flags LIST, --ketch-flags LIST, --dir PATH: as for versus",
    options: &["puts", "keys", "value-size", "only", "etcd", "ketch", "etcd-flags", "ketch-flags", "dir"],
    switches: &[],
};

fn main() {
    let args = Args::from_env(&USAGE);
    let programs = etcd_and_ketch(&args).unwrap_or_else(|error| USAGE.fail(&error));
    let numbers = numbers(&args).unwrap_or_else(|error| USAGE.fail(&error));
    let only = args.text("only");
    let chosen = programs.iter().filter(|program| only.is_none_or(|only| only == program.name));
    for program in chosen {
        if let Err(error) = restart(program, numbers, args.text("dir")) {
            eprintln!("restart: {}: {error}", program.name);
            std::process::exit(1);
        }
    }
}

/// Puts, keys and bytes of a value.
fn numbers(args: &Args) -> Result<(u64, u64, usize), ArgsError> {
    Ok((args.get_or("puts", 1_000_000)?, args.get_or("keys", 100_000)?, args.get_or("value-size", 256)?))
}

fn restart(
    program: &Program,
    (puts, keys, value_size): (u64, u64, usize),
    dir: Option<&str>,
) -> io::Result<()> {
    println!("{}", measure(program, &data_root(dir)?, puts, keys, value_size)?);
    Ok(())
}
