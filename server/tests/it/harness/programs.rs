//! Which programs are run.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The version that ketch is compared with.
const ETCD_VERSION: &str = "3.7.1";

/// The server under test: ketch, or what `KETCH_UNDER_TEST` names.
pub(crate) fn ketch() -> PathBuf {
    env::var_os("KETCH_UNDER_TEST").map_or_else(|| env!("CARGO_BIN_EXE_ketch").into(), PathBuf::from)
}

/// Whether the server under test is ketch itself: what etcd does otherwise is then not checked.
pub(crate) fn is_ketch() -> bool {
    env::var_os("KETCH_UNDER_TEST").is_none()
}

/// The folder with the real etcd's programs; without it, says why the test named `test` is skipped.
pub(crate) fn real_etcd(test: &str) -> Option<&'static Path> {
    static DIR: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match DIR.get_or_init(find_or_build) {
        Ok(dir) => Some(dir),
        Err(why) => {
            // Not through `eprintln`, which the test runner swallows for tests that pass.
            let _ = writeln!(std::io::stderr(), "\nskipped: {test}: {why}");
            None
        }
    }
}

fn find_or_build() -> Result<PathBuf, String> {
    let dir = match (env::var_os("REAL_ETCD_DIR"), env::var_os("HOME")) {
        (Some(dir), _) => PathBuf::from(dir),
        (None, Some(home)) => Path::new(&home).join(".cache/real-etcd").join(ETCD_VERSION),
        (None, None) => return Err("neither REAL_ETCD_DIR nor HOME is set".to_owned()),
    };
    let complete = || ["etcd", "etcdctl"].iter().all(|tool| dir.join(tool).exists());
    if complete() {
        return Ok(dir);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/real-etcd.sh");
    let built = Command::new(&script).arg(ETCD_VERSION).stdin(Stdio::null()).output();
    match built {
        Ok(_) if complete() => Ok(dir),
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            Err(format!("no real etcd: {}", errors.lines().last().unwrap_or("its build failed")))
        }
        Err(error) => Err(format!("no real etcd: {}: {error}", script.display())),
    }
}
