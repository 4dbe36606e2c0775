//! `ketch snapshot …` on the command line, with the flags, outputs and exit codes of `etcdutl snapshot`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ketch_wal::{Disk, RealDisk};

use super::flags::{self, Flag, Line};
use super::restore::{self, Plan};
use super::{print, status};
use crate::bootstrap::Founding;
use crate::config::{Config, Parsed, url};
use crate::{datadir, wiring};

const USAGE: &str = "\
Usage:
  ketch snapshot status <filename> [-w simple|json|table|fields]
  ketch snapshot restore <filename> --data-dir {output dir} [options]

A snapshot file is taken from a running member with `etcdctl snapshot save <filename>`.

Options of restore:
      --data-dir string                      the new data directory, absent or empty (default \"${name}.etcd\")
      --name string                          name of this member (default \"default\")
      --initial-cluster string               members of the new cluster (default \"default=http://localhost:2380\")
      --initial-cluster-token string         token of the new cluster (default \"etcd-cluster\")
      --initial-advertise-peer-urls string   peer URLs of this member (default \"http://localhost:2380\")
      --skip-hash-check                      do not compare the checksum at the end of the file
      --bump-revision uint                   by how much revisions are raised; needs --mark-compacted
      --mark-compacted                       compact everything up to the raised revision
      --initial-memory-map-size uint         accepted and ignored
      --wal-dir string                       directory for the raft log, absent (default: in the data directory)
";

const DEFAULT_CLUSTER: &str = "default=http://localhost:2380";
const DEFAULT_PEER_URLS: &str = "http://localhost:2380";

const STATUS_FLAGS: [Flag; 3] =
    [value("timeout", None), value("write-out", Some('w')), switch("help", Some('h'))];
const RESTORE_FLAGS: [Flag; 13] = [
    value("data-dir", None),
    value("wal-dir", None),
    value("initial-cluster", None),
    value("initial-cluster-token", None),
    value("initial-advertise-peer-urls", None),
    value("name", None),
    switch("skip-hash-check", None),
    value("initial-memory-map-size", None),
    value("bump-revision", None),
    switch("mark-compacted", None),
    value("timeout", None),
    value("write-out", Some('w')),
    switch("help", Some('h')),
];

const fn value(name: &'static str, short: Option<char>) -> Flag {
    Flag { name, short, is_switch: false }
}

const fn switch(name: &'static str, short: Option<char>) -> Flag {
    Flag { name, short, is_switch: true }
}

/// What the process is to print and how it ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
    /// The exit code.
    pub code: u8,
}

/// A refusal: exit code, message, whether the usage helps.
struct Refusal(u8, String, bool);

impl Refusal {
    const ERROR: u8 = 1;
    const BAD_FORMAT: u8 = 4;
    const BAD_ARGUMENTS: u8 = 128;

    fn error(why: impl ToString) -> Refusal {
        Refusal(Self::ERROR, why.to_string(), false)
    }

    fn syntax(why: String) -> Refusal {
        Refusal(Self::ERROR, why, true)
    }

    fn arguments(why: &str) -> Refusal {
        Refusal(Self::BAD_ARGUMENTS, why.to_owned(), false)
    }
}

/// Carries out `ketch snapshot` followed by `args`.
#[must_use]
pub fn run(args: &[String]) -> Outcome {
    let done = match args.split_first() {
        Some((command, rest)) if command == "status" => run_status(rest),
        Some((command, rest)) if command == "restore" => run_restore(rest),
        None => Ok(USAGE.to_owned()),
        Some((word, _)) if word == "--help" || word == "-h" || word == "help" => Ok(USAGE.to_owned()),
        Some((word, _)) => Err(Refusal::syntax(format!("unknown command {word:?} for \"ketch snapshot\""))),
    };
    match done {
        Ok(out) => Outcome { out, ..Outcome::default() },
        Err(Refusal(code, why, usage)) => {
            let usage = if usage { USAGE } else { "" };
            Outcome { err: format!("Error: {why}\n{usage}"), code, ..Outcome::default() }
        }
    }
}

fn run_status(args: &[String]) -> Result<String, Refusal> {
    let line = flags::parse(args, &STATUS_FLAGS).map_err(Refusal::syntax)?;
    if line.switch("help").map_err(Refusal::syntax)? {
        return Ok(USAGE.to_owned());
    }
    let [file] = &line.words[..] else {
        return Err(Refusal::arguments("snapshot status requires exactly one argument"));
    };
    std::fs::metadata(file).map_err(|error| Refusal::error(format!("stat {file}: {}", reason(&error))))?;
    let format = line.value("write-out").unwrap_or("simple");
    let refused = |why: &str| Refusal(Refusal::BAD_FORMAT, why.to_owned(), false);
    if format == "protobuf" {
        return Err(refused("protobuf not supported as output format"));
    }
    if !["simple", "json", "table", "fields"].contains(&format) {
        return Err(refused("unsupported output format"));
    }
    let status = status(&RealDisk, Path::new(file)).map_err(Refusal::error)?;
    print::print(&status, format).ok_or_else(|| refused("unsupported output format"))
}

fn run_restore(args: &[String]) -> Result<String, Refusal> {
    let line = flags::parse(args, &RESTORE_FLAGS).map_err(Refusal::syntax)?;
    if line.switch("help").map_err(Refusal::syntax)? {
        return Ok(USAGE.to_owned());
    }
    let (skip_hash_check, compacted) = (line.switch("skip-hash-check"), line.switch("mark-compacted"));
    let (skip_hash_check, compacted) =
        (skip_hash_check.map_err(Refusal::syntax)?, compacted.map_err(Refusal::syntax)?);
    let bump = line.number("bump-revision").map_err(Refusal::syntax)?;
    line.number("initial-memory-map-size").map_err(Refusal::syntax)?;
    let [file] = &line.words[..] else {
        return Err(Refusal::arguments("snapshot restore requires exactly one argument"));
    };
    if compacted != (bump > 0) {
        return Err(Refusal::arguments("--mark-compacted required if --revision-bump > 0"));
    }
    let name = line.value("name").unwrap_or("default");
    let founding = founding(&line, name).map_err(Refusal::error)?;
    let data_dir = match line.value("data-dir") {
        None | Some("") => PathBuf::from(format!("{name}.etcd")),
        Some(dir) => PathBuf::from(dir),
    };
    check_empty(&data_dir)?;
    let wal_dir = line.value("wal-dir").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    if let Some(dir) = wal_dir.as_ref().filter(|dir| dir.exists()) {
        return Err(Refusal::error(datadir::DataDirError::LogExists(dir.clone())));
    }
    std::fs::metadata(file).map_err(|error| Refusal::error(format!("open {file}: {}", reason(&error))))?;
    let plan = Plan {
        snapshot: PathBuf::from(file),
        data_dir,
        wal_dir,
        founding,
        skip_hash_check,
        bump,
        log_segment_bytes: wiring::LOG_SEGMENT_BYTES,
        store: ketch_mvcc::Options::default(),
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    restore::restore(&disk, &plan).map_err(Refusal::error)?;
    Ok(format!(
        "restored {file} to {}: member {:x} of cluster {:x}\n",
        plan.data_dir.display(),
        plan.founding.identity.member_id,
        plan.founding.identity.cluster_id
    ))
}

/// The first configuration that the flags describe.
fn founding(line: &Line, name: &str) -> Result<Founding, String> {
    let Ok(Parsed::Run(mut config)) = Config::from_args_env([format!("--name={name}")], []) else {
        return Err(format!("--name {name:?} is no name"));
    };
    config.initial_advertise_peer_urls =
        url::parse_list(line.value("initial-advertise-peer-urls").unwrap_or(DEFAULT_PEER_URLS))?;
    config.initial_cluster = line.value("initial-cluster").unwrap_or(DEFAULT_CLUSTER).to_owned();
    if let Some(token) = line.value("initial-cluster-token") {
        config.initial_cluster_token = token.to_owned();
    }
    let first = config.bootstrap().map_err(|error| {
        let why = error.message();
        why.strip_prefix("error setting up initial cluster: ").unwrap_or(why).to_owned()
    })?;
    Ok(wiring::founding_of(first))
}

fn check_empty(dir: &Path) -> Result<(), Refusal> {
    let empty = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if empty { Ok(()) } else { Err(Refusal::error(datadir::DataDirError::NotEmpty(dir.to_owned()))) }
}

/// A system error without its number, as Go words it.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
