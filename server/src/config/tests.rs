//! Whole command lines, without a real etcd.

use super::*;

fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Parsed, ConfigError> {
    let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Config::from_args_env(args.iter().map(ToString::to_string), env)
}

fn run(args: &[&str]) -> Config {
    run_env(args, &[])
}

fn run_env(args: &[&str], env: &[(&str, &str)]) -> Config {
    match parse(args, env) {
        Ok(Parsed::Run(config)) => *config,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

fn refused(args: &[&str], env: &[(&str, &str)]) -> (u8, String) {
    match parse(args, env) {
        Err(error) => (error.exit_code(), error.message().to_owned()),
        Ok(other) => panic!("{args:?} {env:?}: {other:?}"),
    }
}

#[test]
fn alone_it_is_a_member_on_localhost() {
    let config = run(&[]);
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(url::join(&config.listen_client_urls), "http://localhost:2379");
    assert_eq!(config.election_ticks(), 10);
    assert_eq!(config.request_timeout(), Duration::from_secs(7));
    assert_eq!(config.notices, []);
    let bootstrap = config.bootstrap().unwrap();
    assert_eq!((bootstrap.member_id, bootstrap.cluster_id), (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32));
}

#[test]
fn four_ways_to_write_a_flag_and_the_last_wins() {
    for args in
        [&["-name", "a"][..], &["-name=a"], &["--name", "a"], &["--name=a"], &["--name=b", "-name", "a"]]
    {
        assert_eq!(run(args).name, "a", "{args:?}");
    }
    assert!(!run(&["--pre-vote=false"]).pre_vote);
    assert!(run(&["--pre-vote=false", "-pre-vote"]).pre_vote);
    assert_eq!(run(&["--name="]).name, "");
    assert_eq!(run(&["--snapshot", "--v=3", "-vv", "--test.outputdir=x"]).name, "default");
}

#[test]
fn mistakes_in_syntax_exit_with_two() {
    for (args, message) in [
        (&["--nope"][..], "flag provided but not defined: -nope"),
        (&["--name"], "flag needs an argument: -name"),
        (&["---name=a"], "bad flag syntax: ---name=a"),
        (&["--=a"], "bad flag syntax: --=a"),
        (&["--pre-vote=x"], "invalid boolean value \"x\" for -pre-vote: parse error"),
        (&["--heartbeat-interval", "-5"], "invalid value \"-5\" for flag -heartbeat-interval: parse error"),
        (
            &["--initial-cluster-state=old"],
            "invalid value \"old\" for flag -initial-cluster-state: invalid value",
        ),
        (&["--nope", "--help"], "flag provided but not defined: -nope"),
    ] {
        assert_eq!(refused(args, &[]), (2, message.to_owned()), "{args:?}");
    }
}

#[test]
fn positional_words_are_refused() {
    for args in [&["foo"][..], &["--pre-vote", "false"], &["--", "--name=a"], &["--version", "x"]] {
        assert_eq!(refused(args, &[]).0, 1, "{args:?}");
    }
    assert_eq!(refused(&["foo"], &[]).1, "\"foo\" is not a valid flag");
}

#[test]
fn help_and_version_win_over_what_follows() {
    assert!(matches!(parse(&["-h", "--nope"], &[]), Ok(Parsed::Help)));
    assert!(matches!(parse(&["--version", "--election-timeout=1"], &[]), Ok(Parsed::Version)));
    assert!(version_text().starts_with("etcd Version: 3.7.1\nGit SHA: "));
    for flag in table::all().filter(|flag| flag.status != table::Status::Ignored) {
        assert!(help().contains(&format!("\n  --{} '", flag.name)), "--{}", flag.name);
    }
}

#[test]
fn variables_fill_in_what_no_flag_gave() {
    let config =
        run_env(&["--name=a"], &[("ETCD_DATA_DIR", "d"), ("ETCD_ROOT_PASSWORD", "x"), ("ETCD_VERSION", "3")]);
    assert_eq!(config.data_dir, PathBuf::from("d"));
    let warned: Vec<&str> = config.notices.iter().filter(|n| n.warning).map(|n| n.subject.as_str()).collect();
    assert_eq!(warned, ["ETCD_ROOT_PASSWORD", "ETCD_VERSION"]);
    assert!(config.notices.iter().all(|notice| !notice.message.contains('x')), "a value leaked");
}

#[test]
fn a_flag_and_its_variable_exclude_each_other() {
    for value in ["a", "b", ""] {
        let (code, message) = refused(&["--name=a"], &[("ETCD_NAME", value)]);
        assert_eq!(code, 1);
        assert!(message.starts_with("conflicting environment variable is shadowed"), "{message}");
    }
    let (code, message) = refused(&[], &[("ETCD_HEARTBEAT_INTERVAL", "fast")]);
    assert_eq!(
        (code, message.as_str()),
        (1, "invalid value \"fast\" for ETCD_HEARTBEAT_INTERVAL: parse error")
    );
}

#[test]
fn every_option_that_is_not_served_yet_stops_the_start_and_is_named() {
    let mut checked = 0;
    for flag in table::all().filter(|flag| flag.status == table::Status::NotYet) {
        let other = match flag.name {
            "feature-gates" => "SetMemberLocalAddr=true",
            "discovery-token" | "discovery-endpoints" => continue,
            _ => match flag.kind {
                table::Kind::Bool if flag.default == "false" => "true",
                table::Kind::Bool => "false",
                table::Kind::Unsigned | table::Kind::Signed => "77",
                table::Kind::Duration => "77s",
                table::Kind::Urls => "http://127.0.0.1:1",
                _ => "something",
            },
        };
        let mut args = vec![format!("--{}={other}", flag.name)];
        if flag.name == "discovery-srv" {
            args.push("--initial-cluster=".to_owned());
        }
        let (code, message) = refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        assert_eq!(code, 1, "{message}");
        let named = message.starts_with(&format!("--{}", flag.name));
        assert!(named && message.contains("not supported by ketch yet"), "{message}");
        checked += 1;
    }
    assert!(checked > 40, "{checked}");
    let (_, message) = refused(&[], &[("ETCD_CLIENT_CERT_AUTH", "true")]);
    assert!(
        message.starts_with("--client-cert-auth (from ETCD_CLIENT_CERT_AUTH) is not supported"),
        "{message}"
    );
    for (args, env) in [(&["--config-file=x"][..], &[][..]), (&[], &[("ETCD_CONFIG_FILE", "x")][..])] {
        assert!(refused(args, env).1.contains("is not supported by ketch yet"));
    }
}

#[test]
fn every_default_may_be_spelled_out() {
    for flag in table::all().filter(|flag| !matches!(flag.name, "discovery-endpoints" | "v2-deprecation")) {
        if flag.name == "listen-client-urls" || flag.kind == table::Kind::Ignored {
            continue;
        }
        let config = run(&[&format!("--{}={}", flag.name, flag.default)]);
        // What is given up is named, whatever its value.
        let expected = usize::from(flag.name == "max-snapshots");
        assert_eq!(config.notices.len(), expected, "--{}: {:?}", flag.name, config.notices);
    }
}

#[test]
fn harmless_knobs_are_accepted_with_a_warning() {
    let config = run(&["--backend-batch-limit=5", "--max-wals", "0", "--v2-deprecation=gone"]);
    let subjects: Vec<&str> = config.notices.iter().map(|notice| notice.subject.as_str()).collect();
    assert_eq!(subjects, ["--max-wals", "--backend-batch-limit", "--v2-deprecation"]);
}

#[test]
fn tls_is_refused_wherever_it_is_asked_for() {
    for args in [
        &["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://a:1"][..],
        &["--listen-peer-urls=https://127.0.0.1:1"],
        &["--listen-metrics-urls=unixs://x"],
        &["--cert-file=x"],
        &["--trusted-ca-file=x"],
        &["--auto-tls"],
    ] {
        let (code, message) = refused(args, &[]);
        assert_eq!(code, 1);
        assert!(message.contains("not supported by ketch yet"), "{message}");
    }
}

#[test]
fn zero_stands_for_the_default_or_for_off() {
    let config = run(&["--snapshot-count=0", "--max-concurrent-streams=0", "--grpc-keepalive-timeout=0"]);
    assert_eq!((config.snapshot_count, config.max_concurrent_streams), (10_000, u32::MAX));
    assert_eq!(config.grpc_keepalive_interval, Duration::ZERO);
    assert_eq!(run(&["--warning-unary-request-duration=0"]).warning_unary_request_duration.as_millis(), 300);
}

#[test]
fn several_listeners() {
    let config = run(&[
        "--listen-client-urls=unix:///run/k.sock,http://127.0.0.1:2379,http://[::1]:2379",
        "--advertise-client-urls=http://10.0.0.1:2379",
        "--listen-metrics-urls=http://127.0.0.1:2381",
    ]);
    let addresses: Vec<String> = config.listen_client_urls.iter().map(Url::address).collect();
    assert_eq!(addresses, ["127.0.0.1:2379", "[::1]:2379", "/run/k.sock"]);
    assert_eq!(config.listen_metrics_urls.len(), 1);
}

#[test]
fn bootstrap_checks_the_list_against_the_member() {
    let of = |args: &[&str]| run(args).bootstrap().map_err(|error| error.message().to_owned());
    let one = of(&["--name=a", "--initial-advertise-peer-urls=http://127.0.0.1:1"]).unwrap();
    assert_eq!(one.members[0].name, "a");
    for (args, start) in [
        (
            &["--initial-cluster=b=http://localhost:2380"][..],
            "couldn't find local name \"default\" in the initial",
        ),
        (
            &["--initial-cluster="],
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
        (&["--initial-cluster=default=x"], "error setting up initial cluster: URL scheme must be http"),
        (
            &[
                "--initial-cluster=default=http://127.0.0.1:1",
                "--initial-advertise-peer-urls=http://127.0.0.1:2",
            ],
            "--initial-cluster has default=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls=http://127.0.0.1:2 (resolved urls: ",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"],
            "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url",
        ),
    ] {
        let message = of(args).unwrap_err();
        assert!(message.starts_with(start), "{args:?}: {message}");
    }
    // The same address in two spellings is the same address.
    of(&["--initial-cluster=default=http://127.0.0.1:2380"]).unwrap();
}

/// Ids as etcd 3.7.1 prints them for these flags.
#[test]
fn three_members_have_the_ids_that_etcd_gives_them() {
    let list =
        "--initial-cluster=m1=http://127.0.0.1:23801,m2=http://127.0.0.1:23802,m3=http://127.0.0.1:23803";
    let first = run(&["--name=m2", "--initial-advertise-peer-urls=http://127.0.0.1:23802", list]);
    let first = first.bootstrap().unwrap();
    let ids: Vec<(&str, u64)> = first.members.iter().map(|member| (&*member.name, member.id)).collect();
    assert_eq!(first.member_id, ids.iter().find(|(name, _)| *name == "m2").unwrap().1);
    assert_eq!((first.cluster_id, &ids[..]), (IDS.0, &IDS.1[..]));
}

const IDS: (u64, [(&str, u64); 3]) = (
    17_300_438_976_491_492_131,
    [("m2", 185_828_541_645_115_251), ("m3", 3_990_370_604_368_066_554), ("m1", 13_668_033_151_171_901_709)],
);

#[test]
fn a_member_that_joins_takes_its_id_from_the_cluster() {
    let member = |id: u64, port: u16| crate::cluster::Member {
        id,
        peer_urls: vec![format!("http://127.0.0.1:{port}")],
        is_learner: false,
        name: String::new(),
        client_urls: Vec::new(),
    };
    let config = run(&[
        "--name=b",
        "--initial-cluster-state=existing",
        "--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:2",
    ]);
    assert_eq!(config.remote_peer_urls().unwrap(), ["http://127.0.0.1:1"]);
    let joined = config.joining(7, &[member(9, 1), member(5, 2)]).unwrap();
    assert_eq!((joined.cluster_id, joined.member_id), (7, 5));
    assert_eq!(joined.members.iter().map(|member| member.id).collect::<Vec<_>>(), [5, 9]);
    let refused = |existing: &[crate::cluster::Member]| config.joining(7, existing).unwrap_err().to_string();
    assert_eq!(
        refused(&[member(9, 1)]),
        "error validating peerURLs {ClusterID:7 Members:[&{ID:9 RaftAttributes:{PeerURLs:[http://127.0.0.1:1] \
         IsLearner:false} Attributes:{Name: ClientURLs:[]}}] RemovedMemberIDs:[]}: member count is unequal"
    );
    let other = refused(&[member(9, 1), member(5, 3)]);
    assert!(
        other.contains("PeerURLs: no match found for existing member (5, [http://127.0.0.1:3])"),
        "{other}"
    );
}

#[test]
fn logger_options() {
    let config = run(&["--log-level=debug", "--log-format=console", "--log-outputs=stdout"]);
    assert_eq!((config.log.level, config.log.outputs), (LogLevel::Debug, vec![LogOutput::Stdout]));
    for (words, outputs) in [
        ("default", vec![LogOutput::Stderr]),
        ("stdout,stderr,stdout", vec![LogOutput::Stderr, LogOutput::Stdout]),
        ("stdout,/dev/null,x", vec![]),
        (
            "stdout,/x,y,file:///z",
            vec!["/x", "/z"]
                .into_iter()
                .map(|path| LogOutput::File(path.into()))
                .chain([LogOutput::Stdout])
                .chain([LogOutput::File("y".into())])
                .collect(),
        ),
    ] {
        assert_eq!(run(&[&format!("--log-outputs={words}")]).log.outputs, outputs, "{words}");
    }
    for (arg, message) in [
        ("--logger=capnslog", "--logger=capnslog is removed in v3.5"),
        ("--log-format=xml", "unknown log format: xml, supported values json, console"),
        ("--log-outputs=default,stdout", "multi logoutput for \"default\" is not supported yet"),
    ] {
        assert_eq!(refused(&[arg], &[]), (1, message.to_owned()));
    }
}

/// Nothing that can be typed makes the parsers panic.
#[test]
fn any_words_at_all_are_answered() {
    const PIECES: &str = "- -- = : / // , [ ] %25 @ ? # 0x _ 9 1e3 . h ms http:// unix: µ \u{0} name \
                          99999999999999999999 default=http://localhost:2380";
    let pieces: Vec<&str> = PIECES.split(' ').collect();
    let flags: Vec<&str> = table::all().map(|flag| flag.name).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for _ in 0..5_000 {
        let value: String = (0..below(5)).map(|_| pieces[below(pieces.len())]).collect();
        let words = [format!("--{}={value}", flags[below(flags.len())]), value];
        let words = words[..=below(2)].iter().cloned();
        if let Ok(Parsed::Run(config)) = Config::from_args_env(words, []) {
            // Not all of the bootstrap: it might look host names up.
            let _ = bootstrap::parse_cluster(&config.initial_cluster);
        }
    }
}

/// The flag rows of `docs/compat.md`, as the table says they are.
fn documented_rows() -> String {
    let mut rows = "| flag | default | status | note |\n| --- | --- | --- | --- |\n".to_owned();
    for flag in table::all() {
        let (status, note) = match flag.status {
            table::Status::Works => ("done", ""),
            table::Status::Differs(why) => ("differs", why),
            table::Status::NoEffect(why) => ("differs: no effect", why),
            table::Status::NotYet => ("missing", ""),
            table::Status::Ignored => ("done", "accepted and ignored"),
        };
        let default = if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default) };
        rows.push_str(&format!("| `--{}` | {default} | {status} | {note} |\n", flag.name));
    }
    rows
}

#[test]
fn the_document_has_the_tables_rows() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compat.md");
    let Ok(document) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: {} is not part of this package", path.display());
        return;
    };
    let found = document
        .split_once("<!-- flags: begin -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- flags: end -->"));
    let expected = documented_rows();
    assert_eq!(
        found.map(|(rows, _)| rows),
        Some(expected.as_str()),
        "docs/compat.md should hold:\n{expected}"
    );
}

#[test]
fn the_history_that_is_kept() {
    use crate::compactor::Retention::{Period, Revisions};
    let hour = 3600;
    for (mode, text, wanted) in [
        ("periodic", "0", None),
        ("periodic", "", None),
        ("periodic", "1", Some(Period(Duration::from_secs(hour)))),
        ("periodic", "5m", Some(Period(Duration::from_secs(300)))),
        ("revision", "1000", Some(Revisions(1000))),
        ("revision", "1us", Some(Revisions(1000))),
        ("revision", "0", None),
    ] {
        let retention = format!("--auto-compaction-retention={text}");
        let config = run(&[&format!("--auto-compaction-mode={mode}"), &retention]);
        assert_eq!(config.auto_compaction, wanted, "{mode} {text}");
    }
    for (text, words) in
        [("soon", "invalid duration \"soon\""), ("-5m", "negative"), ("99999999999", "too long")]
    {
        let (code, message) = refused(&[&format!("--auto-compaction-retention={text}")], &[]);
        assert!(code == 1 && message.starts_with("error parsing CompactionRetention: "), "{message}");
        assert!(message.contains(words), "{message}");
    }
}
