//! `versus`: ketch and the real etcd alternately on this machine, the same load, medians and ratios.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use ketch_benches::args::{Args, ArgsError, Usage};
use ketch_benches::server::Program;
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
    let beside = own_dir()?;
    let root = dir.map_or(beside.as_path(), Path::new);
    if is_memory(root)? {
        return Err(io::Error::other(format!("{} is in memory: give a folder on a disk", root.display())));
    }
    let outcomes = measure(setup, root, |line| eprintln!("{line}"))?;
    println!("{}", render(setup, &outcomes));
    Ok(())
}

fn setup(args: &Args) -> Result<Setup, ArgsError> {
    let missing = |error: io::Error| ArgsError(error.to_string());
    let path = |name: &str, default: io::Result<PathBuf>| match args.text(name) {
        Some(path) => Ok(PathBuf::from(path)),
        None => default.map_err(missing),
    };
    let flags = |name: &str| -> Vec<String> {
        let list = args.text(name).unwrap_or_default();
        list.split(',').filter(|flag| !flag.is_empty()).map(str::to_owned).collect()
    };
    let cases = args.text("cases").unwrap_or("put1,put64,put256,put1000,get64");
    Ok(Setup {
        programs: vec![
            Program {
                name: "etcd".to_owned(),
                path: path("etcd", cached_etcd())?,
                flags: flags("etcd-flags"),
            },
            Program {
                name: "ketch".to_owned(),
                path: path("ketch", own_dir().map(|dir| dir.join("ketch")))?,
                flags: flags("ketch-flags"),
            },
        ],
        cases: cases.split(',').map(str::parse).collect::<Result<_, _>>().map_err(ArgsError)?,
        rounds: args.get_or("rounds", 3)?,
        scale: args.get_or("scale", 1.0)?,
        key_space: args.get_or("key-space", 10_000)?,
        value_size: args.get_or("value-size", 256)?,
    })
}

/// The folder of this program: Cargo puts the server there too.
fn own_dir() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    program.parent().map(Path::to_path_buf).ok_or_else(|| io::Error::other("no folder"))
}

/// Where `tools/real-etcd.sh` puts its result.
fn cached_etcd() -> io::Result<PathBuf> {
    let dir = match env::var_os("REAL_ETCD_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let home = env::var_os("HOME").ok_or_else(|| io::Error::other("HOME is not set: give --etcd"))?;
            Path::new(&home).join(".cache/real-etcd/3.7.1")
        }
    };
    let etcd = dir.join("etcd");
    if !etcd.exists() {
        return Err(io::Error::other(format!("{} is missing: run tools/real-etcd.sh", etcd.display())));
    }
    Ok(etcd)
}

/// Whether a folder lies on a file system without a disk: its fsync costs nothing and measures nothing.
fn is_memory(dir: &Path) -> io::Result<bool> {
    let dir = fs::canonicalize(dir)?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let kind = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(mount, _)| dir.starts_with(mount))
        .max_by_key(|(mount, _)| mount.len())
        .map(|(_, kind)| kind);
    Ok(matches!(kind, Some("tmpfs" | "ramfs")))
}
