//! Which programs the comparisons run, and where their data goes.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::args::{Args, ArgsError};
use crate::server::Program;

/// The real etcd and ketch: from the options `etcd`, `ketch`, `etcd-flags` and `ketch-flags`, or where they are
/// built.
///
/// # Errors
///
/// One of them is not there.
pub fn etcd_and_ketch(args: &Args) -> Result<[Program; 2], ArgsError> {
    let program = |name: &str, default: io::Result<PathBuf>| {
        let path = match args.text(name) {
            Some(path) => PathBuf::from(path),
            None => default.map_err(|error| ArgsError(error.to_string()))?,
        };
        let flags = args.text(&format!("{name}-flags")).unwrap_or_default();
        let flags = flags.split(',').filter(|flag| !flag.is_empty()).map(str::to_owned).collect();
        Ok(Program { name: name.to_owned(), path, flags })
    };
    Ok([program("etcd", cached_etcd())?, program("ketch", own_dir().map(|dir| dir.join("ketch")))?])
}

/// The folder for data directories: the one given, or this program's own.
///
/// # Errors
///
/// It does not exist, or lies in memory, where syncing costs nothing and measures nothing.
pub fn data_root(dir: Option<&str>) -> io::Result<PathBuf> {
    let root = match dir {
        Some(dir) => PathBuf::from(dir),
        None => own_dir()?,
    };
    if is_memory(&root)? {
        return Err(io::Error::other(format!("{} is in memory: give a folder on a disk", root.display())));
    }
    Ok(root)
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

/// Whether a folder lies on a file system without a disk.
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
