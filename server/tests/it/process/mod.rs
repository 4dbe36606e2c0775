//! What supervisors, scripts and operators rely on: exit codes, the ready line, signals, clear refusals.

mod command_line;
mod refusals;
mod signals;

use crate::harness::process::{Instance, Process};

/// How a process that must not serve ended.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

/// Starts an instance that is expected to refuse.
pub(crate) fn refusal(server: &Instance) -> Refusal {
    ended(server.spawn())
}

/// Waits for a process that is expected to end by itself.
pub(crate) fn ended(mut process: Process) -> Refusal {
    let status = process.wait();
    Refusal { code: status.code(), log: process.log() }
}

impl Refusal {
    /// Exit code 1, one line beyond mere information that says why with all of `words`, no panic and no
    /// readiness.
    pub(crate) fn assert_clear(&self, words: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:#?}");
        let is_info =
            |line: &str| line.contains("\"level\":\"info\"") || line.contains("\"level\":\"debug\"");
        let says = |line: &&str| !is_info(line) && words.iter().all(|word| line.contains(word));
        assert_eq!(self.log.lines().filter(says).count(), 1, "one line with {words:?}: {self:#?}");
        assert!(!self.log.contains("panicked"), "{self:#?}");
        assert!(!self.log.contains(crate::harness::process::READY), "{self:#?}");
    }
}
