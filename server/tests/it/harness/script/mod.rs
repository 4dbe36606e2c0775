//! Scripts of etcdctl commands: read, run, masked. Two servers that behave the same have the same outcomes.

pub(crate) mod mask;
mod parse;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) use parse::{Step, parse};

use super::lines;

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Both texts through `mask`.
    pub(crate) fn masked(self, mask: impl Fn(&str) -> String) -> Outcome {
        Outcome { stdout: mask(&self.stdout), stderr: mask(&self.stderr), ..self }
    }

    /// Whether the command ended with an error.
    pub(crate) fn is_refusal(&self) -> bool {
        self.code.is_some_and(|code| code != 0)
    }
}

/// Runs `args`, which are the step's or made of them, with the step's input.
pub(crate) fn run(etcdctl: &Path, endpoints: &str, args: &[String], step: &Step) -> Outcome {
    let mut child = Command::new(etcdctl)
        .args(["--endpoints", endpoints, "--command-timeout", "20s", "--dial-timeout", "10s"])
        .args(args)
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
    let first = step.lines.map(|lines| {
        let first = lines::first(child.stdout.take().unwrap(), lines);
        let _ = child.kill();
        first
    });
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stdout = first.unwrap_or(output.stdout);
    Outcome { code: output.status.code(), stdout: text(&stdout), stderr: text(&output.stderr) }
}

/// Fails if the outcomes of any step differ, and shows those.
pub(crate) fn assert_same<'a>(compared: impl Iterator<Item = (&'a Step, &'a Outcome, &'a Outcome)>) {
    let mut all = 0;
    let mut differences = Vec::new();
    for (step, etcd, ketch) in compared {
        all += 1;
        if etcd != ketch {
            differences
                .push(format!("line {}: {}\n etcd: {etcd:#?}\nketch: {ketch:#?}", step.line, step.text));
        }
    }
    let found = differences.len();
    assert!(differences.is_empty(), "{found} of {all} commands differ:\n{}", differences.join("\n\n"));
}
