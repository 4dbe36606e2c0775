//! Command lines and variables, judged by ketch's configuration and by the real etcd: same exit code, same words.
//!
//! Only what etcd refuses, or answers without starting, is compared here: nothing listens.

use std::process::{Command, Output, Stdio};
use std::thread;

use ketch_server::config::{Config, Parsed, table};

use crate::harness::programs;

/// A verdict: exit code, and the message of a refusal.
type Verdict = (i32, String);

/// Arguments and variables.
type Invocation = (Vec<String>, Vec<(&'static str, &'static str)>);

/// What ketch makes of an invocation. A configuration that stands is carried on to the bootstrap.
fn by_ketch(args: &[String], env: &[(&str, &str)]) -> Verdict {
    let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let refused = match Config::from_args_env(args.iter().cloned(), env) {
        Ok(Parsed::Run(config)) => match config.bootstrap() {
            Ok(_) => return (0, "would start".to_owned()),
            Err(error) => error,
        },
        Ok(_) => return (0, String::new()),
        Err(error) => error,
    };
    (i32::from(refused.exit_code()), refused.message().to_owned())
}

/// What the real etcd makes of it.
fn by_etcd(args: &[String], env: &[(&str, &str)]) -> Verdict {
    let dir = programs::real_etcd("flags").unwrap();
    let mut command = Command::new(dir.join("etcd"));
    let output =
        command.args(args).env_clear().envs(env.iter().copied()).stdin(Stdio::null()).output().unwrap();
    let code = output.status.code().unwrap();
    (code, if code == 0 { String::new() } else { message_of(&output, code) })
}

/// The message in etcd's output: the first line after a syntax error, a field of a log line otherwise.
fn message_of(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    if code == 2 {
        return text.lines().next().unwrap_or_default().to_owned();
    }
    let field = |line: &serde_json::Value, name: &str| line[name].as_str().map(str::to_owned);
    let lines = || text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines().filter_map(|line| field(&line, "error")).next_back().unwrap_or_else(|| {
        let last = lines().next_back().unwrap_or_default();
        // ketch names the variable in the line itself.
        let name = field(&last, "environment-variable").unwrap_or_default();
        format!("{}: {name}", field(&last, "msg").unwrap_or_default().replace("))", ")"))
    })
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn compare(cases: &[Invocation]) {
    let mut wrong = Vec::new();
    // Two at a time: most of a case is etcd's start.
    thread::scope(|scope| {
        let halves = cases.chunks(cases.len().div_ceil(2).max(1)).map(|half| {
            scope.spawn(|| {
                let differs = |(args, env): &&Invocation| by_ketch(args, env) != by_etcd(args, env);
                half.iter().filter(differs).collect::<Vec<_>>()
            })
        });
        for half in halves.collect::<Vec<_>>() {
            wrong.extend(half.join().unwrap());
        }
    });
    for (args, env) in &wrong {
        eprintln!("{args:?} {env:?}\n  ketch {:?}\n  etcd  {:?}", by_ketch(args, env), by_etcd(args, env));
    }
    assert!(wrong.is_empty(), "{} of {} verdicts differ", wrong.len(), cases.len());
}

#[test]
fn values_of_every_kind_are_judged_alike() {
    if programs::real_etcd("values_of_every_kind_are_judged_alike").is_none() {
        return;
    }
    // With --version etcd ends after it has read the command line.
    let judge =
        |flag: &str, value: &str| (vec![format!("--{flag}={value}"), "--version".to_owned()], Vec::new());
    let mut cases: Vec<_> = table::all().map(|flag| judge(flag.name, "!")).collect();
    let values = [
        "",
        "0",
        "7",
        "-1",
        "0x1f",
        "1_0",
        "99999999999",
        "99999999999999999999",
        "true",
        "5s",
        "1.5h",
        "*",
        "http://127.0.0.1:1",
        "http://a:1,unix://b",
        "http://a",
        "a:1",
        "127.0.0.1:1",
        "http://a:1/p",
        "new",
        "AllBeta=true",
        "AllBeta=x",
        "http://a:x",
        "ftp://a:1",
        "http:// a:1",
    ];
    for flag in [
        "pre-vote",
        "heartbeat-interval",
        "max-concurrent-streams",
        "quota-backend-bytes",
        "grpc-keepalive-timeout",
        "initial-cluster-state",
        "v2-deprecation",
        "listen-client-urls",
        "cors",
        "feature-gates",
        "snapshot",
    ] {
        cases.extend(values.iter().map(|value| judge(flag, value)));
    }
    compare(&cases);
}

#[test]
fn refusals_have_the_same_code_and_words() {
    if programs::real_etcd("refusals_have_the_same_code_and_words").is_none() {
        return;
    }
    let lines = [
        "--nope",
        "-nope=1",
        "---name",
        "--=1",
        "--name",
        "--name x --heartbeat-interval",
        "--pre-vote=maybe",
        "--pre-vote false",
        "positional",
        "--version positional",
        "-- --name x",
        "--name - x",
        "--heartbeat-interval 0",
        "--election-timeout 0",
        "--heartbeat-interval 300",
        "--election-timeout 60000",
        "--election-timeout 50001 --heartbeat-interval 1",
        "--heartbeat-interval 100 --heartbeat-interval=900",
        "--listen-client-urls http://127.0.0.1:0",
        "--listen-client-urls http://example.com:1",
        "--listen-peer-urls http://foo:1",
        "--listen-peer-urls http://[fe80::1%25en0]:1",
        "--listen-peer-urls http://:1",
        "--listen-metrics-urls http://foo:1",
        "--initial-advertise-peer-urls http://:1",
        "--advertise-client-urls http://:1,http://a:1",
        "--discovery-fallback proxy",
        "--discovery-token x",
        "--discovery-srv x --initial-cluster a=http://a:1",
        "--discovery-srv x --discovery-endpoints y --discovery-token z",
        "--discovery-endpoints=",
        "--logger capnslog",
        "--logger x",
        "--log-format xml",
        "--log-outputs default,stdout",
        "--log-outputs stderr,ftp://x/y",
        "--log-outputs a:b",
        "--log-outputs file://x/y",
        "--auto-compaction-mode x",
        "--auto-compaction-mode=",
        "--compact-hash-check-time 0s",
        "--compact-hash-check-time=-1m",
        "--feature-gates LeaseCheckpointPersist=true",
    ];
    let mut cases: Vec<_> = lines.iter().map(|line| (words(line), Vec::new())).collect();
    for env in [vec![("ETCD_NAME", "x")], vec![("ETCD_NAME", "")]] {
        cases.push((words("--name x"), env));
    }
    for env in [
        ("ETCD_HEARTBEAT_INTERVAL", "x"),
        ("ETCD_PRE_VOTE", "x"),
        ("ETCD_LISTEN_PEER_URLS", "x"),
        ("ETCD_ELECTION_TIMEOUT", "100"),
        ("ETCD_INITIAL_CLUSTER_STATE", "x"),
    ] {
        cases.push((Vec::new(), vec![env]));
    }
    compare(&cases);
}

#[test]
fn bootstraps_are_refused_in_the_same_words() {
    if programs::real_etcd("bootstraps_are_refused_in_the_same_words").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lines = [
        "--initial-cluster b=http://127.0.0.1:1",
        "--initial-cluster=",
        "--initial-cluster a=x",
        "--initial-cluster a",
        "--initial-cluster a=http://127.0.0.1:1 --initial-advertise-peer-urls http://127.0.0.1:2",
        "--initial-cluster a=http://127.0.0.1:1,a=http://127.0.0.1:2 --initial-advertise-peer-urls http://127.0.0.1:2",
        "--initial-cluster a=http://127.0.0.1:1 --initial-advertise-peer-urls http://127.0.0.1:1,http://127.0.0.1:2",
        "--initial-cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 --initial-advertise-peer-urls http://127.0.0.1:1",
    ];
    let cases: Vec<_> = lines.iter().enumerate().map(|(n, line)| {
        let listen = "--name a --listen-peer-urls http://127.0.0.1:0 --listen-client-urls http://127.0.0.1:0 \
                      --advertise-client-urls http://127.0.0.1:1";
        let mut args = words(&format!("{listen} {line}"));
        args.push(format!("--data-dir={}/{n}", dir.path().display()));
        (args, Vec::new())
    }).collect();
    compare(&cases);
}
