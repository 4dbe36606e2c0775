//! Client libraries in other languages: programs of `server/tests/clients`, run against the real etcd and against ketch, print
//! the same.
//!
//! `KETCH_CLIENTS=all cargo test -p ketch-server --test it clients` runs all of them; without it those that CI runs.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::harness::process::Instance;
use crate::harness::programs;

/// How the script ends where a language or its packages are missing.
const MISSING: i32 = 3;

/// How to run the program of a language; without its tools or packages, why not.
fn prepare(language: &str) -> Result<Vec<String>, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/prepare.sh");
    let prepared = Command::new(&script).arg(language).stdin(Stdio::null()).output();
    let output = prepared.map_err(|error| format!("{}: {error}", script.display()))?;
    let (words, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0) => Ok(words.lines().map(str::to_owned).collect()),
        Some(MISSING) => Err(errors.lines().last().unwrap_or("something is missing").to_owned()),
        _ => panic!("{language}: {errors}"),
    }
}

/// What a program prints that talks to a new member of `server`.
fn transcript(words: &[String], server: &Path) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(server, dir.path().join("data"));
    let mut process = Some(server.start_settled());
    let mut program = Command::new(&words[0])
        .args(&words[1..])
        .arg(format!("127.0.0.1:{}", server.client_port))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = program.stdin.take().unwrap();
    let errors = program.stderr.take().unwrap();
    let errors = thread::spawn(move || std::io::read_to_string(errors).unwrap_or_default());
    let mut lines = Vec::new();
    for line in BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap) {
        if line == "? restart" {
            process.take().unwrap().kill();
            process = Some(server.start());
            answers.write_all(b"done\n").unwrap();
        }
        if !line.starts_with('#') {
            lines.push(line);
        }
    }
    let status = program.wait().unwrap();
    let errors = errors.join().unwrap();
    let text = lines.join("\n");
    assert!(status.success() && text.ends_with("== done"), "{words:?}: {status}\n{text}\n{errors}");
    lines
}

/// Compares what the program of a language prints.
fn compare(language: &str) {
    let test = format!("clients: {language}");
    let Some(tools) = programs::real_etcd(&test) else { return };
    let words = match prepare(language) {
        Ok(words) => words,
        Err(why) => return skip(&test, &why),
    };
    let expected = transcript(&words, &tools.join("etcd"));
    let found = transcript(&words, &programs::ketch());
    assert!(expected.len() > 20, "{expected:?}");
    assert_eq!(found.join("\n"), expected.join("\n"), "{language}: ketch is left, etcd right");
}

fn on_request(language: &str) {
    match env::var_os("KETCH_CLIENTS").is_some_and(|which| which == "all") {
        true => compare(language),
        false => skip(&format!("clients: {language}"), "runs with KETCH_CLIENTS=all"),
    }
}

fn skip(test: &str, why: &str) {
    // Not through `eprintln`, which the test runner swallows for tests that pass.
    let _told = writeln!(std::io::stderr(), "\nskipped: {test}: {why}");
}

#[test]
fn go() {
    compare("go");
}

#[test]
fn python() {
    compare("python");
}

#[test]
fn rust() {
    on_request("rust");
}

#[test]
fn node() {
    on_request("node");
}

#[test]
fn java() {
    on_request("java");
}
