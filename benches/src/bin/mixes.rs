//! `mixes`: watchers, writers beside something large, large lists and idle connections, ketch and the real etcd on this machine.

use ketch_benches::args::{Args, Usage};
use ketch_benches::mixes::{PARTS, measure};
use ketch_benches::programs::{data_root, etcd_and_ketch};

const USAGE: Usage = Usage {
    help: "\
usage: mixes [options]

  --parts LIST         comma-separated      [lists,prefix,distinct,writers,idle]
  --etcd PATH          the real etcd        [what tools/real-etcd.sh built]
  --ketch PATH         ketch                [beside this program]
  --etcd-flags LIST    comma-separated further flags of etcd
  --ketch-flags LIST   comma-separated further flags of ketch
  --dir PATH           data directories go below it; a tmpfs is refused
                                            [the target folder]",
    options: &["parts", "etcd", "ketch", "etcd-flags", "ketch-flags", "dir"],
    switches: &[],
};

fn main() {
    let args = Args::from_env(&USAGE);
    let programs = etcd_and_ketch(&args).unwrap_or_else(|error| USAGE.fail(&error));
    let parts = match args.text("parts") {
        Some(parts) => parts.split(',').map(str::to_owned).collect(),
        None => PARTS.map(str::to_owned).to_vec(),
    };
    let table = data_root(args.text("dir"))
        .and_then(|root| measure(&programs, &parts, &root, |line| eprintln!("{line}")));
    match table {
        Ok(table) => println!("{table}"),
        Err(error) => {
            eprintln!("mixes: {error}");
            std::process::exit(1);
        }
    }
}
