//! Directories and ports that a server must not touch: one clear line and exit code 1.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::harness::process::{Instance, READY, copy_dir};
use crate::harness::programs;

use super::refusal;

fn instance(dir: &Path) -> Instance {
    Instance::new(programs::ketch(), dir.join("data"))
}

#[test]
fn a_second_process_on_the_same_directory() {
    if !programs::is_ketch() {
        return; // etcd waits for the first one to go.
    }
    let dir = tempfile::tempdir().unwrap();
    let _first = instance(dir.path()).start();
    refusal(&instance(dir.path())).assert_clear(&["data", "in use"]);
}

#[test]
fn a_directory_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    // Permissions mean nothing to a test that runs as root; a file where a folder should be does.
    fs::write(dir.path().join("file"), "").unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("file").join("data"));
    refusal(&server).assert_clear(&["file/data"]);
}

#[test]
fn a_port_in_use() {
    let dir = tempfile::tempdir().unwrap();
    for client in [true, false] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut server = instance(dir.path());
        if client {
            server.client_port = port;
        } else {
            server.peer_port = port;
        }
        let refusal = refusal(&server);
        assert_eq!(refusal.code, Some(1), "{refusal:#?}");
        assert!(refusal.log.contains(&port.to_string()), "{refusal:#?}");
        assert!(refusal.log.to_lowercase().contains("in use"), "{refusal:#?}");
        assert!(!refusal.log.contains("panicked"), "{refusal:#?}");
    }
}

#[test]
fn a_directory_of_the_real_etcd() {
    let Some(tools) = programs::real_etcd("a_directory_of_the_real_etcd") else { return };
    if !programs::is_ketch() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    Instance::new(tools.join("etcd"), dir.path().join("data")).start().kill();
    let before = listing(dir.path());
    refusal(&instance(dir.path())).assert_clear(&["data", "etcd"]);
    assert_eq!(listing(dir.path()), before, "the refused directory was touched");
}

#[test]
fn the_real_etcd_refuses_ours() {
    let Some(tools) = programs::real_etcd("the_real_etcd_refuses_ours") else { return };
    if !programs::is_ketch() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ours = instance(dir.path());
    ours.start().kill();
    let refused = refusal(&Instance { program: tools.join("etcd"), ..ours.clone() });
    assert_ne!(refused.code, Some(0), "{refused:#?}");
    assert!(!refused.log.contains(READY), "{refused:#?}");
    // And it has done no harm.
    ours.start();
}

#[test]
fn an_empty_or_foreign_directory() {
    if !programs::is_ketch() {
        return;
    }
    // Empty is fine: it is what a volume looks like when it was just made.
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    instance(dir.path()).start().kill();

    // Something under a name of ours, but nothing says that it is ours.
    for name in ["identity", "log", "store"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data").join(name);
        if name == "identity" {
            fs::create_dir(dir.path().join("data")).unwrap();
            fs::write(path, "dear diary").unwrap();
        } else {
            fs::create_dir_all(path).unwrap();
        }
        refusal(&instance(dir.path())).assert_clear(&["data", name, "KETCH"]);
    }
}

#[test]
fn a_directory_of_an_unknown_format() {
    if !programs::is_ketch() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = instance(dir.path());
    server.start().kill();
    let marker = server.data_dir.join("KETCH");
    ketch_wal::blob::write(&ketch_wal::RealDisk, &marker, b"ketch data directory, format 7\n").unwrap();
    refusal(&server).assert_clear(&["data", "format", "7"]);
}

#[test]
fn a_copied_directory_starts() {
    let dir = tempfile::tempdir().unwrap();
    let server = instance(dir.path());
    server.start().kill();
    copy_dir(&server.data_dir, &dir.path().join("copy"));
    Instance { data_dir: dir.path().join("copy"), ..server }.start();
}

#[test]
fn a_raft_log_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let with = |server: &Instance, log: &str| {
        let log = dir.path().join(log).display().to_string();
        let flags = server.flags.iter().cloned().chain(["--wal-dir".to_owned(), log]).collect();
        Instance { flags, ..server.clone() }
    };
    let (one, mut two) = (instance(dir.path()), Instance::new(programs::ketch(), dir.path().join("other")));
    two.flags = vec!["--initial-cluster-token=other".to_owned()];
    with(&one, "log").start().kill();
    // Once more, with what is there.
    let running = with(&one, "log").start();
    if !programs::is_ketch() {
        return; // etcd founds a new cluster beside a log that it does not find.
    }
    assert!(!one.data_dir.join("log").exists());
    refusal(&with(&two, "log")).assert_clear(&["log", "in use"]);
    drop(running);
    refusal(&with(&two, "log")).assert_clear(&["wal-dir", "does not hold the raft log"]);
    refusal(&with(&one, "empty")).assert_clear(&["wal-dir", "does not hold the raft log"]);
    refusal(&one).assert_clear(&["raft log", "must not serve"]);
    with(&two, "log of two").start().kill();
    refusal(&with(&one, "log of two")).assert_clear(&["wal-dir", "does not hold the raft log"]);
    with(&one, "log").start();
}

/// All files with their sizes.
fn listing(dir: &Path) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(listing(&entry.path()));
        } else {
            files.push((entry.path().display().to_string(), entry.metadata().unwrap().len()));
        }
    }
    files.sort();
    files
}
