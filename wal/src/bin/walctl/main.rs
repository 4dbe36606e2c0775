//! `walctl`: look at a log, verify it, cut a torn tail, measure a disk.

mod args;
mod bench;
mod dump;
mod measure;
mod raw;
mod repair;
mod tasks;
mod verify;

use std::process::ExitCode;

const USAGE: &str = "\
walctl: tools for logs of ketch-wal

  walctl dump   --dir D [--from SEGMENT:OFFSET] [--limit N] [--data] [--json]
        the records in order: position, kind, length; with --data their bytes in hex
  walctl verify --dir D [--json]
        reads every frame; says how the log ends
  walctl repair --dir D [--yes] [--copy FOLDER]
        cuts a torn tail, after keeping a copy of the files it changes; without --yes it only says
        what would go. Damage is never repaired: it would lose what was acknowledged
  walctl bench  --dir D [--seconds 10] [--record 300] [--writers 1,8,64] [--json]
        what the disk can do and what a log on it does, with that many writers as threads and as
        tasks of one thread; lists are allowed for --record too

exit code: 0 well, 1 a torn tail or a refusal, 2 damage or failure, 64 wrong usage
";

/// How a command ends when it does not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    Usage(String),
    Refused(String),
    Failed(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Failed(error.to_string())
    }
}

fn run() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let allowed: &[&str] = match &command[..] {
        "dump" => &["dir", "from", "limit", "data", "json"],
        "verify" => &["dir", "json"],
        "repair" => &["dir", "yes", "copy"],
        "bench" => &["dir", "seconds", "record", "writers", "json"],
        "" | "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return Ok(());
        }
        other => return Err(Failure::Usage(format!("there is no command {other:?}"))),
    };
    let args = args::parse(words, allowed)?;
    match &command[..] {
        "dump" => dump::run(&args),
        "verify" => verify::run(&args),
        "repair" => repair::run(&args),
        _ => bench::run(&args),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(why)) => {
            eprintln!("walctl: {why}");
            ExitCode::from(1)
        }
        Err(Failure::Failed(why)) => {
            eprintln!("walctl: {why}");
            ExitCode::from(2)
        }
        Err(Failure::Usage(why)) => {
            eprint!("walctl: {why}\n\n{USAGE}");
            ExitCode::from(64)
        }
    }
}
