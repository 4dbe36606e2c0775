//! Flags, environment and exit codes before anything is opened.

use std::process::Command;

use crate::harness::process::{Instance, Process};
use crate::harness::programs;

use super::{Refusal, ended};

fn run(args: &[&str]) -> Refusal {
    let dir = tempfile::tempdir().unwrap();
    ended(Process::spawn(Command::new(programs::ketch()).args(args).current_dir(dir.path())))
}

#[test]
fn version_names_the_api_version() {
    for flag in ["--version", "-version"] {
        let answer = run(&[flag]);
        assert_eq!(answer.code, Some(0), "{answer:#?}");
        assert!(answer.log.lines().any(|line| line == "etcd Version: 3.7.1"), "{answer:#?}");
        assert!(answer.log.contains("Git SHA:"), "{answer:#?}");
    }
}

#[test]
fn help_is_no_error() {
    let answer = run(&["--help"]);
    assert_eq!(answer.code, Some(0), "{answer:#?}");
    for flag in ["--data-dir", "--listen-client-urls", "--initial-cluster"] {
        assert!(answer.log.contains(flag), "{flag} is missing: {answer:#?}");
    }
}

#[test]
fn an_unknown_flag_exits_with_2() {
    for flag in ["--no-such-flag", "-no-such-flag=1"] {
        let answer = run(&[flag]);
        assert_eq!(answer.code, Some(2), "{answer:#?}");
        assert!(answer.log.contains("no-such-flag"), "{answer:#?}");
    }
    let answer = run(&["--heartbeat-interval", "soon"]);
    assert_eq!(answer.code, Some(2), "{answer:#?}");
}

#[test]
fn a_flag_that_does_not_work_yet_stops_the_start() {
    if !programs::is_ketch() {
        return;
    }
    for flags in
        [["--client-cert-auth=true", ""], ["--auto-tls", ""], ["--auth-token", "jwt,sign-method=RS256"]]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Instance::new(programs::ketch(), dir.path().join("data"));
        server.flags = flags.iter().filter(|flag| !flag.is_empty()).map(|flag| (*flag).to_owned()).collect();
        let name = flags[0].trim_start_matches('-').split('=').next().unwrap();
        super::refusal(&server).assert_clear(&[name]);
        assert!(!dir.path().join("data").exists(), "refused, but the data directory was made");
    }
}

#[test]
fn a_flag_and_its_variable_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("data"));
    let answer = ended(Process::spawn(server.command().env("ETCD_NAME", "other")));
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    assert!(answer.log.contains("ETCD_NAME"), "{answer:#?}");
}

#[test]
fn the_default_directory_is_named_after_the_member() {
    let dir = tempfile::tempdir().unwrap();
    let instance = Instance::new(programs::ketch(), dir.path().join("unused"));
    let mut command = instance.command();
    // All of the usual flags but `--data-dir PATH`; a repeated flag's last value wins.
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let at = args.iter().position(|arg| arg == "--data-dir").unwrap();
    command = Command::new(programs::ketch());
    command.args(["-name", "first", "--name=second"]).args(&args[..at]).args(&args[at + 2..]);
    let process = Process::spawn(command.current_dir(dir.path()));
    assert!(process.await_line(crate::harness::process::READY), "{}", process.log());
    assert!(dir.path().join("tester.etcd").is_dir());
}

/// Scripts wait for such lines; the real etcd says them too.
#[test]
fn the_log_says_what_supervisors_look_for() {
    let test = "the_log_says_what_supervisors_look_for";
    let etcd = programs::real_etcd(test).map(|tools| tools.join("etcd"));
    for program in etcd.into_iter().chain([programs::ketch()]) {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Instance::new(&program, dir.path().join("data"));
        server.flags = ["--max-snapshots=10", "--v2-deprecation=gone", "--snapshot-catchup-entries=1000"]
            .map(str::to_owned)
            .into();
        let process = server.start_settled();
        for line in [
            "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8",
            "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input",
            "\"msg\":\"starting an etcd server\"",
            "\"etcd-version\":\"3.7.1\"",
            "\"snapshot-catchup-entries\":1000",
            "\"max-request-bytes\":1572864",
            "\"pre-vote\":true",
            "serving client traffic insecurely; this is strongly discouraged!",
        ] {
            assert!(process.await_line(line), "{}: no {line:?} in\n{}", program.display(), process.log());
        }
    }
}
