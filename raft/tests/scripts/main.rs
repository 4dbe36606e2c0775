//! Replays scripts in the language of etcd's raft tests and compares every line. See `README.md` beside this file.

mod confchange;
mod datadriven;
mod describe;
mod env;
mod handlers;
mod lines;
mod output;
mod quorum;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let named = std::env::var_os("KETCH_RAFT_SCRIPTS").map(PathBuf::from);
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/raft-scripts");
    let root = named.clone().unwrap_or(default);
    if !root.is_dir() {
        println!(
            "skipped: no scripts, because {} is not a folder; name one in KETCH_RAFT_SCRIPTS",
            root.display()
        );
        return if named.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let mut failed = 0;
    let mut total = 0;
    for (kind, run) in [
        ("interaction", env::run as fn(&[datadriven::Directive]) -> Vec<String>),
        ("confchange", confchange::run),
        ("quorum", quorum::run),
    ] {
        for file in files(&root.join(kind)) {
            total += 1;
            match play(&file, run) {
                Ok(commands) => println!("passed: {kind}/{} ({commands} commands)", name(&file)),
                Err(why) => {
                    failed += 1;
                    println!("FAILED: {kind}/{}\n{why}", name(&file));
                }
            }
        }
    }
    println!("{} of {total} script files passed", total - failed);
    if failed == 0 && total > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

/// Runs one file and compares command by command; the first difference ends it.
fn play(file: &Path, run: fn(&[datadriven::Directive]) -> Vec<String>) -> Result<usize, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let directives = datadriven::parse(&text)?;
    let outcome = std::panic::catch_unwind(|| run(&directives));
    let outputs = outcome.map_err(|_| String::from("  the driver gave up; see the message above"))?;
    for (directive, mut actual) in directives.iter().zip(outputs) {
        if !actual.is_empty() && !actual.ends_with('\n') {
            actual.push('\n');
        }
        if actual != directive.expected {
            return Err(difference(directive, &actual));
        }
    }
    Ok(directives.len())
}

fn difference(directive: &datadriven::Directive, actual: &str) -> String {
    let expected: Vec<&str> = directive.expected.lines().collect();
    let actual: Vec<&str> = actual.lines().collect();
    let first = expected.iter().zip(&actual).take_while(|(a, b)| a == b).count();
    let show = |lines: &[&str]| {
        let shown: Vec<String> =
            lines.iter().skip(first).take(12).map(|line| format!("    {line}")).collect();
        shown.join("\n")
    };
    format!(
        "  line {}: `{}` differs from line {} of its output on\n  expected:\n{}\n  actual:\n{}",
        directive.line,
        directive.command,
        first + 1,
        show(&expected),
        show(&actual)
    )
}
