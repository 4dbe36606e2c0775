//! One script of etcdctl commands, against the real etcd and against ketch, with the same answers.
//!
//! Compared are exit code, standard output and standard error of every command. Masked are only sizes,
//! durations, the port of the endpoint and etcdctl's own log lines.

mod mask;
mod parse;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::process::Instance;
use crate::harness::{lines, programs};

use parse::Step;

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

#[test]
fn etcdctl_sees_no_difference() {
    let Some(tools) = programs::real_etcd("etcdctl_sees_no_difference") else { return };
    let steps = parse::parse(include_str!("commands.txt"));
    assert!(steps.len() >= 200, "{} commands", steps.len());
    let dir = tempfile::tempdir().unwrap();
    let etcdctl = tools.join("etcdctl");

    let etcd = Instance::new(tools.join("etcd"), dir.path().join("etcd"));
    let ketch = Instance::new(programs::ketch(), dir.path().join("ketch"));
    let (_etcd_process, _ketch_process) = (etcd.start_settled(), ketch.start_settled());
    let mut differences = Vec::new();
    let mut refused = 0;
    for step in &steps {
        let expected = run(&etcdctl, &etcd, step);
        let found = run(&etcdctl, &ketch, step);
        refused += usize::from(expected.code.is_some_and(|code| code != 0));
        if expected != found {
            differences
                .push(format!("line {}: {}\n etcd: {expected:#?}\nketch: {found:#?}", step.line, step.text));
        }
    }
    // Neither a broken script nor one without errors to compare would say much.
    assert!((10..=steps.len() / 2).contains(&refused), "{refused} of {} commands refused", steps.len());
    let (found, all) = (differences.len(), steps.len());
    assert!(differences.is_empty(), "{found} of {all} commands differ:\n{}", differences.join("\n\n"));
}

fn run(etcdctl: &Path, server: &Instance, step: &Step) -> Outcome {
    let mut child = Command::new(etcdctl)
        .args(["--endpoints", &server.url(), "--command-timeout", "20s", "--dial-timeout", "10s"])
        .args(&step.args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone before this: that is no error.
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(step.input.as_bytes());
    let first_lines = step.lines.map(|lines| {
        let first = lines::first(child.stdout.take().unwrap(), lines);
        let _ = child.kill();
        first
    });
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| mask::mask(&String::from_utf8_lossy(bytes), server.client_port);
    let stdout = first_lines.unwrap_or(output.stdout);
    Outcome { code: output.status.code(), stdout: text(&stdout), stderr: text(&output.stderr) }
}
