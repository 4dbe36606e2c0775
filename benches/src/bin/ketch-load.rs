//! `ketch-load`: drives any etcd endpoint and prints rate, latency percentiles and errors.

use std::time::Duration;

use ketch_benches::args::{Args, ArgsError, Usage};
use ketch_benches::load::{Length, Operation, Plan, run};

const USAGE: Usage = Usage {
    help: "\
usage: ketch-load put|get|range|count|txn [options]

  --endpoints LIST     comma-separated URLs             [http://127.0.0.1:2379]
  --connections N      HTTP/2 connections               [1]
  --clients N          requests under way               [1]
  --total N            number of requests               [10000]
  --seconds S          time to run, instead of --total
  --rate R             requests per second: open loop   [closed loop]
  --prefix TEXT        start of every key               [load/]
  --key-size BYTES                                      [24]
  --value-size BYTES                                    [256]
  --key-space N        number of different keys         [100000]
  --limit N            keys per range, 0: no limit      [500]
  --seed N             choice of keys                   [1]
  --sequential         keys in order, not at random
  --serializable       reads without the quorum
  --fill               first put every key of the key space once (not measured)
  --json               print one JSON object

The exit code is 1 when a request failed.",
    options: &[
        "endpoints",
        "connections",
        "clients",
        "total",
        "seconds",
        "rate",
        "prefix",
        "key-size",
        "value-size",
        "key-space",
        "limit",
        "seed",
    ],
    switches: &["sequential", "serializable", "fill", "json"],
};

fn main() {
    let args = Args::from_env(&USAGE);
    let plan = plan(&args).unwrap_or_else(|error| USAGE.fail(&error));
    match load(&plan, args.is_set("fill"), args.is_set("json")) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(error) => {
            eprintln!("ketch-load: {error}");
            std::process::exit(1);
        }
    }
}

/// Whether every request succeeded.
fn load(plan: &Plan, fill: bool, json: bool) -> std::io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if fill {
        let fill = Plan {
            operation: Operation::Put,
            length: Length::Requests(plan.key_space),
            rate: None,
            sequential: true,
            clients: 64,
            ..plan.clone()
        };
        let report = runtime.block_on(run(&fill))?;
        if report.failed() > 0 {
            eprintln!("fill: {report}");
            return Ok(false);
        }
    }
    let report = runtime.block_on(run(plan))?;
    if json {
        println!("{}", report.to_json());
    } else {
        println!("{report}");
    }
    Ok(report.failed() == 0)
}

fn plan(args: &Args) -> Result<Plan, ArgsError> {
    let default = Plan::default();
    let [operation] = args.words.as_slice() else {
        return Err(ArgsError("exactly one operation is needed".to_owned()));
    };
    let seconds: Option<f64> = args.get("seconds")?;
    Ok(Plan {
        operation: operation.parse().map_err(|()| ArgsError(format!("unknown operation {operation:?}")))?,
        endpoints: match args.text("endpoints") {
            Some(list) => list.split(',').map(str::to_owned).collect(),
            None => default.endpoints,
        },
        connections: args.get_or("connections", default.connections)?,
        clients: args.get_or("clients", default.clients)?,
        length: match seconds {
            Some(seconds) => Length::Time(Duration::from_secs_f64(seconds.clamp(0.0, 1e6))),
            None => Length::Requests(args.get_or("total", 10_000)?),
        },
        rate: args.get("rate")?,
        prefix: args.text("prefix").map_or(default.prefix, str::to_owned),
        key_size: args.get_or("key-size", default.key_size)?,
        value_size: args.get_or("value-size", default.value_size)?,
        key_space: args.get_or("key-space", default.key_space)?,
        sequential: args.is_set("sequential"),
        limit: args.get_or("limit", default.limit)?,
        serializable: args.is_set("serializable"),
        seed: args.get_or("seed", default.seed)?,
    })
}
