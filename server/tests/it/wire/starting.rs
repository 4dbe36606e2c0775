//! What the log says at the start about space and sockets, field by field, and who may start.

use super::Pair;
use crate::harness::process::{Instance, READY};
use crate::harness::programs;

/// The value of a field, and its line without it.
fn without(line: &str, field: &str) -> String {
    let name = format!("\"{field}\":");
    let (before, rest) = line.split_once(&name).unwrap_or_else(|| panic!("no {field} in {line}"));
    let rest = rest.trim_start_matches(|c| c != ',' && c != '}');
    format!("{before}{name}…{rest}")
}

#[test]
fn ports_are_shared_by_those_who_want_to() {
    let test = "ports_are_shared_by_those_who_want_to";
    let Some(tools) = programs::real_etcd(test) else { return };
    for flags in [&["--socket-reuse-port"][..], &["--socket-reuse-port", "--socket-reuse-address"], &[]] {
        let [expected, found] = [tools.join("etcd"), programs::ketch()].map(|program| {
            let dir = tempfile::tempdir().unwrap();
            let mut first = Instance::new(program, dir.path().join("first"));
            first.flags = flags.iter().map(ToString::to_string).collect();
            let second = Instance { data_dir: dir.path().join("second"), ..first.clone() };
            let starts = first.start();
            let mut follows = second.spawn();
            let both = follows.await_line(READY);
            if !both {
                assert_eq!(follows.wait().code(), Some(1), "{}", follows.log());
            }
            let log = starts.log();
            let options = log.lines().find(|line| line.contains("\"configuring socket options\""));
            (both, options.map(|line| without(&without(line, "ts"), "caller")))
        });
        assert_eq!(expected.0, !flags.is_empty(), "{flags:?}");
        assert_eq!(found, expected, "{flags:?}: ketch is left, etcd right");
    }
}

#[test]
fn lines_go_to_every_output() {
    let Some(tools) = programs::real_etcd("lines_go_to_every_output") else { return };
    for program in [tools.join("etcd"), programs::ketch()] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lines");
        std::fs::write(&file, "before\n").unwrap();
        let mut server = Instance::new(program, dir.path().join("data"));
        server.flags = vec![format!("--log-outputs=stdout,{}", file.display())];
        let process = server.start();
        let lines = std::fs::read_to_string(&file).unwrap();
        let (first, lines) = lines.split_once('\n').unwrap();
        assert_eq!(first, "before");
        let ready = lines.lines().position(|line| line.contains(READY)).unwrap_or_else(|| panic!("{lines}"));
        let log = process.log();
        // What comes behind may be on its way to the other output.
        assert!(
            lines.lines().take(ready + 1).all(|line| log.lines().any(|found| found == line)),
            "{lines}\n{log}"
        );
    }
}

#[test]
fn outputs_that_cannot_be_opened_are_refused_alike() {
    let Some(tools) = programs::real_etcd("outputs_that_cannot_be_opened_are_refused_alike") else { return };
    let dir = tempfile::tempdir().unwrap();
    for (output, why) in [("none/lines", "no such file or directory"), ("", "is a directory")] {
        let output = format!("{}/{output}", dir.path().display());
        for program in [tools.join("etcd"), programs::ketch()] {
            let mut server = Instance::new(program, dir.path().join("data"));
            server.flags = vec![format!("--log-outputs={output}")];
            let mut process = server.spawn();
            assert_eq!(process.wait().code(), Some(1), "{}", process.log());
            let told = process.log().replace("\\\"", "\"");
            let expected = format!("open sink \"{output}\": open {output}: {why}");
            assert!(told.contains(&expected), "no {expected} in {told}");
        }
    }
}

#[test]
fn space_is_told_of_alike() {
    const DB: [&str; 4] = [
        "current-db-size-bytes",
        "current-db-size",
        "current-db-size-in-use-bytes",
        "current-db-size-in-use",
    ];
    let quotas = ["0", "-1", "9", "2147483648", "8589934592", "8589934593", "9950000000"];
    for quota in quotas {
        let flags =
            [format!("--quota-backend-bytes={quota}"), "--bootstrap-defrag-threshold-megabytes=100".into()];
        let flags = flags.each_ref().map(String::as_str);
        let Some(pair) = Pair::start_with("space_is_told_of_alike", &flags) else { return };
        let [expected, found] = pair.processes.each_ref().map(|process| {
            let log = process.log();
            let told = log.lines().filter(|line| line.contains("quota\"") || line.contains("quota with"));
            let quotas =
                told.chain(log.lines().filter(|line| line.contains("quota exceeds"))).map(str::to_owned);
            let skips = log.lines().filter(|line| line.contains("\"Skipping defragmentation\""));
            let skips =
                skips.map(|line| DB.iter().fold(line.to_owned(), |line, field| without(&line, field)));
            let all = quotas.chain(skips).map(|line| without(&without(&line, "ts"), "caller"));
            all.collect::<Vec<_>>()
        });
        assert!(expected.len() >= 2, "{expected:?}");
        assert_eq!(found.join("\n"), expected.join("\n"), "ketch is left, etcd right");
    }
}
