//! An error under a memory map: named, and the end of the process.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ketch_wal::{RealDisk, Wal, name_bus_errors};

use crate::basics::{put, small};

const DIR: &str = "KETCH_WAL_TEST_CUT_UNDER_A_MAP";

#[test]
fn a_file_cut_under_a_map_ends_the_process_by_name() {
    if let Some(dir) = std::env::var_os(DIR) {
        return cut_and_read(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let this = "signal::a_file_cut_under_a_map_ends_the_process_by_name";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(libc::SIGBUS), "{said}");
    assert!(said.contains("ketch-wal: SIGBUS") && said.contains("inode"), "{said}");
}

/// The other process: it reads a record whose file somebody just cut.
fn cut_and_read(dir: &Path) {
    name_bus_errors().unwrap();
    name_bus_errors().unwrap();
    let wal = Wal::open(Arc::new(RealDisk), dir, small()).unwrap().wal;
    let at = put(&wal, "under the map");
    assert_eq!(wal.read(at).unwrap().data, "under the map");
    let file = std::fs::OpenOptions::new().write(true).open(dir.join("0000000000000001.wal")).unwrap();
    file.set_len(0).unwrap();
    let _ = wal.read(at);
    unreachable!("a byte beyond the file was read");
}
