//! `cluster`: three members of ketch and of the real etcd alternately on this machine.

use ketch_benches::args::{Args, ArgsError, Usage};
use ketch_benches::cluster::{Setup, measure};
use ketch_benches::programs::{data_root, etcd_and_ketch};

const USAGE: Usage = Usage {
    help: "\
usage: cluster [options]

  --parts LIST         loads, failover, catch-up [all]
  --loads LIST         as put64@leader, get64@all [put1,put64,put256,put1000,put256@all,get64@all,get256@all]
  --rounds N                                [3]
  --scale F            factor on requests   [1]
  --kills N            of the leader, in each round [20]
  --mib N              a new member catches up with [1024]
  --only NAME          etcd or ketch alone
  --etcd PATH          the real etcd        [what tools/real-etcd.sh built]
  --ketch PATH         ketch                [beside this program]
  --etcd-flags LIST    comma-separated further flags of etcd
  --ketch-flags LIST   comma-separated further flags of ketch
  --dir PATH           data directories go below it; a tmpfs is refused
                                            [the target folder]",
    options: &[
        "parts",
        "loads",
        "rounds",
        "scale",
        "kills",
        "mib",
        "only",
        "etcd",
        "ketch",
        "etcd-flags",
        "ketch-flags",
        "dir",
    ],
    switches: &[],
};

fn main() {
    let args = Args::from_env(&USAGE);
    let setup = setup(&args).unwrap_or_else(|error| USAGE.fail(&error));
    match measure(&setup, |line| eprintln!("{line}")) {
        Ok(table) => println!("{table}"),
        Err(error) => {
            eprintln!("cluster: {error}");
            std::process::exit(1);
        }
    }
}

fn setup(args: &Args) -> Result<Setup, ArgsError> {
    let loads = args.text("loads").unwrap_or("put1,put64,put256,put1000,put256@all,get64@all,get256@all");
    let parts = args.text("parts").unwrap_or("loads,failover,catch-up");
    let mut programs = etcd_and_ketch(args)?.to_vec();
    if let Some(only) = args.text("only") {
        programs.retain(|program| program.name == only);
    }
    if programs.is_empty() {
        return Err(ArgsError("--only: etcd or ketch".to_owned()));
    }
    Ok(Setup {
        programs,
        parts: parts.split(',').map(str::parse).collect::<Result<_, _>>().map_err(ArgsError)?,
        loads: loads.split(',').map(str::parse).collect::<Result<_, _>>().map_err(ArgsError)?,
        rounds: args.get_or("rounds", 3)?,
        scale: args.get_or("scale", 1.0)?,
        kills: args.get_or("kills", 20)?,
        catch_up_bytes: args.get_or("mib", 1024_u64)? << 20,
        root: data_root(args.text("dir")).map_err(|error| ArgsError(error.to_string()))?,
    })
}
