//! Simulates whole clusters, one seed after another, and tells what was exercised.
//!
//! ```text
//! ketch-sim [--scenario NAME] [--seeds N] [--from SEED] [--minutes M]     many runs, a coverage table at the end
//! ketch-sim [--scenario NAME] --seed SEED [--trace]                       one run, in words if asked for
//! ketch-sim --planted                                                     how soon mistakes on purpose are found
//! ```
//!
//! What does not hold ends it with the seed that shows it and the last events before.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use ketch_server::sim::cluster::{self, Bug, Failure, Options, SCENARIOS, Stats};

/// How many lines of a story are told.
const STORY_LINES: usize = 60;

struct Args {
    scenario: String,
    from: u64,
    seeds: u64,
    one: Option<u64>,
    trace: bool,
    planted: bool,
    limit: Option<Duration>,
}

fn main() -> ExitCode {
    let verdict = args().and_then(|args| match args.one {
        _ if args.planted => planted(args.seeds),
        Some(seed) => one(&args, seed),
        None => many(&args),
    });
    match verdict {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn args() -> Result<Args, String> {
    let mut args = Args {
        scenario: "mixed".into(),
        from: 0,
        seeds: 100,
        one: None,
        trace: false,
        planted: false,
        limit: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{name} takes a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text:?} is no number"));
        match name.as_str() {
            "--scenario" => args.scenario = value()?,
            "--seeds" => args.seeds = number(value()?)?,
            "--from" => args.from = number(value()?)?,
            "--seed" => args.one = Some(number(value()?)?),
            "--minutes" => args.limit = Some(Duration::from_secs(60 * number(value()?)?)),
            "--trace" => args.trace = true,
            "--planted" => args.planted = true,
            _ => return Err(usage(&name)),
        }
    }
    Ok(args)
}

fn usage(name: &str) -> String {
    let scenarios = SCENARIOS.iter().map(|(name, what)| format!("  {name:<10} {what}\n"));
    let scenarios: String = scenarios.collect();
    format!(
        "unknown option {name}; known: --scenario NAME, --seeds N, --from SEED, --minutes M, --seed SEED, --trace, --planted\n\
         scenarios (all of them in turn: all):\n{scenarios}"
    )
}

fn options(scenario: &str, seed: u64) -> Result<Options, String> {
    let name = match scenario {
        "all" => SCENARIOS[seed as usize % SCENARIOS.len()].0,
        name => name,
    };
    Options::of(name, seed).ok_or_else(|| usage(&format!("--scenario {scenario}")))
}

fn one(args: &Args, seed: u64) -> Result<(), String> {
    let options = options(&args.scenario, seed)?;
    println!("scenario {}, seed {seed}", options.scenario);
    let (verdict, words) = cluster::play(&options, true);
    if args.trace {
        print!("{words}");
    }
    match verdict {
        Ok(report) => {
            println!("{}digest {:016x}", report.stats, report.digest);
            Ok(())
        }
        Err(failure) => Err(story(&failure, &words)),
    }
}

fn planted(seeds: u64) -> Result<(), String> {
    let mut missed = Vec::new();
    for (bug, scenario) in Bug::ALL {
        match cluster::first_seed(bug, scenario, seeds) {
            Some(seed) => println!("{:<32} {scenario:<10} {:>4}", format!("{bug:?}"), seed + 1),
            None => missed.push(format!("{bug:?}")),
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("not found: {}", missed.join(", "))) }
}

fn many(args: &Args) -> Result<(), String> {
    let started = Instant::now();
    let mut total = Stats::default();
    let mut seeds = 0;
    for seed in args.from..args.from + args.seeds {
        if args.limit.is_some_and(|limit| started.elapsed() > limit) {
            break;
        }
        let options = options(&args.scenario, seed)?;
        match cluster::run(&options) {
            Ok(report) => total.add(&report.stats),
            Err(failure) => {
                println!("{total}");
                let (_, words) = cluster::play(&options, true);
                return Err(story(&failure, &words));
            }
        }
        seeds += 1;
    }
    let wall = started.elapsed().as_secs_f64();
    print!("{total}");
    if total.leaders_lost > 0 {
        let share = 100.0 * total.followed_within_two_timeouts as f64 / total.leaders_lost as f64;
        println!("{share:.1} % of the leaders lost were followed within two election timeouts");
    }
    println!("{seeds} seeds of {} from {} on, {wall:.1} s", args.scenario, args.from);
    println!(
        "{:.0} events/s, {:.1} simulated hours per hour",
        total.events as f64 / wall,
        total.simulated_ms as f64 / 1000.0 / wall
    );
    Ok(())
}

/// The failure, and the last events that may have to do with it.
fn story(failure: &Failure, words: &str) -> String {
    let boring = |line: &&str| !(line.contains("Heartbeat") || line.contains("append 0 after"));
    let lines: Vec<&str> = words.lines().filter(boring).collect();
    let last = &lines[lines.len().saturating_sub(STORY_LINES)..];
    format!(
        "{}\nFAILED {failure}\nreproduce: ketch-sim --scenario {} --seed {} --trace",
        last.join("\n"),
        failure.scenario,
        failure.seed
    )
}
