//! `walctl` as its users run it: on a sound log, a torn one, a damaged one, one that is not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ketch_wal::{Options, RealDisk, Wal};

use crate::basics::{put, small};

/// The exit code, what was printed, and what was complained about.
fn walctl(arguments: &[&str], dir: &Path) -> (i32, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_walctl")).args(arguments).arg("--dir").arg(dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Three records, the last two of which share no sync with the first.
fn log(dir: &Path) {
    let wal = Wal::open(Arc::new(RealDisk), dir, Options { spare_segments: 0, ..small() }).unwrap().wal;
    put(&wal, "one");
    wal.sync().unwrap();
    put(&wal, "two");
    put(&wal, "three");
    wal.sync().unwrap();
}

fn segment(dir: &Path) -> PathBuf {
    dir.join("0000000000000001.wal")
}

fn flip(dir: &Path, needle: &[u8]) {
    let mut bytes = fs::read(segment(dir)).unwrap();
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at] ^= 1;
    fs::write(segment(dir), bytes).unwrap();
}

#[test]
fn dump_and_verify_show_a_sound_log() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let (code, out, err) = walctl(&["dump", "--data"], dir.path());
    assert_eq!((code, &err[..]), (0, ""));
    assert_eq!(out.lines().count(), 3, "{out}");
    assert!(out.lines().next().unwrap().ends_with("3 B  6f6e65"), "{out}");
    let (_, out, _) = walctl(&["dump", "--json", "--data", "--limit", "1"], dir.path());
    assert!(
        out.starts_with("{\"position\":\"1:") && out.ends_with("\"bytes\":3,\"data\":\"6f6e65\"}\n"),
        "{out}"
    );
    let (code, out, _) = walctl(&["verify"], dir.path());
    assert_eq!(code, 0);
    assert!(out.contains("clean") && out.contains("3, 11 bytes of data"), "{out}");
}

#[test]
fn repair_cuts_a_torn_tail_only_when_told_and_keeps_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    log(&path);
    flip(&path, b"three");
    let before = fs::read(segment(&path)).unwrap();
    let (code, out, err) = walctl(&["verify", "--json"], &path);
    assert_eq!(code, 1);
    assert!(out.contains("\"ok\":false") && err.contains("torn"), "{out}{err}");
    let (code, out, err) = walctl(&["repair"], &path);
    assert_eq!(code, 1);
    assert!(out.contains("would be cut") && err.contains("--yes"), "{out}{err}");
    assert_eq!(fs::read(segment(&path)).unwrap(), before);
    let (code, out, _) = walctl(&["repair", "--yes"], &path);
    assert_eq!(code, 0, "{out}");
    assert_eq!(fs::read(segment(&dir.path().join("log.before-repair-1"))).unwrap(), before);
    assert_eq!(walctl(&["dump"], &path).1.lines().count(), 2);
    assert!(walctl(&["repair"], &path).1.contains("nothing to repair"));
}

#[test]
fn repair_refuses_damage_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    flip(dir.path(), b"one");
    let before = fs::read(segment(dir.path())).unwrap();
    for command in [&["verify"][..], &["repair", "--yes"], &["dump"]] {
        let (code, _, err) = walctl(command, dir.path());
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("segment 1 is damaged at offset"), "{err}");
    }
    assert_eq!(fs::read(segment(dir.path())).unwrap(), before);
    assert_eq!(
        fs::read_dir(dir.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path() != dir.path().join("LOCK"))
            .count(),
        1
    );
}

#[test]
fn what_is_no_log_and_what_is_no_command_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        for command in ["dump", "verify", "repair"] {
            let (code, _, err) = walctl(&[command], &path);
            assert_eq!(code, 2, "{err}");
            assert!(err.contains(path.to_str().unwrap()), "{err}");
        }
    }
    assert!(!dir.path().join("missing").exists());
    for wrong in [&["erase"][..], &["dump", "--from", "7"], &["bench", "--record", "0"], &["verify", "--yes"]]
    {
        assert_eq!(walctl(wrong, dir.path()).0, 64, "{wrong:?}");
    }
}

#[test]
fn bench_ends_with_a_verdict_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = walctl(&["bench", "--seconds", "0.4", "--writers", "1,2"], dir.path());
    assert_eq!(code, 0, "{err}");
    for said in ["log: 2 writer(s)", "log: 2 writers, tasks of one thread", "this disk is "] {
        assert!(out.contains(said), "{out}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
