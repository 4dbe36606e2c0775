//! `versus`: ketch and the real etcd alternately on this machine, the same load, medians and ratios.

use std::io;

use ketch_benches::args::{Args, ArgsError, Usage};
use ketch_benches::programs::{data_root, etcd_and_ketch};
use ketch_benches::versus::{Setup, measure, render};

const USAGE: Usage = Usage {
    help: "\
usage: versus [options]

  --etcd PATH          the real etcd        [what tools/real-etcd.sh built]
  --ketch PATH         ketch                [beside this program]
  --etcd-flags LIST    comma-separated further flags of etcd
  --ketch-flags LIST   comma-separated further flags of ketch
  --cases LIST         comma-separated      [put1,put64,put256,put1000,get64]
  --rounds N                                [3]
  --scale F            factor on requests   [1]
  --key-space N        different keys       [10000]
  --value-size BYTES                        [256]
  --dir PATH           data directories go below it; a tmpfs is refused
                                            [the target folder]",
    options: &[
        "etcd",
        "ketch",
        "etcd-flags",
        "ketch-flags",
        "cases",
        "rounds",
        "scale",
        "key-space",
        "value-size",
        "dir",
    ],
    switches: &[],
};

fn main() {
    let args = Args::from_env(&USAGE);
    let setup = setup(&args).unwrap_or_else(|error| USAGE.fail(&error));
    if let Err(error) = versus(&setup, args.text("dir")) {
        eprintln!("versus: {error}");
        std::process::exit(1);
    }
}

fn versus(setup: &Setup, dir: Option<&str>) -> io::Result<()> {
    let outcomes = measure(setup, &data_root(dir)?, |line| eprintln!("{line}"))?;
    println!("{}", render(setup, &outcomes));
    Ok(())
}

fn setup(args: &Args) -> Result<Setup, ArgsError> {
    let cases = args.text("cases").unwrap_or("put1,put64,put256,put1000,get64");
    Ok(Setup {
        programs: etcd_and_ketch(args)?.to_vec(),
        cases: cases.split(',').map(str::parse).collect::<Result<_, _>>().map_err(ArgsError)?,
        rounds: args.get_or("rounds", 3)?,
        scale: args.get_or("scale", 1.0)?,
        key_space: args.get_or("key-space", 10_000)?,
        value_size: args.get_or("value-size", 256)?,
    })
}
