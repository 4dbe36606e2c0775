//! What the log says at the start about space, field by field.

use super::Pair;

/// The value of a field, and its line without it.
fn without(line: &str, field: &str) -> String {
    let name = format!("\"{field}\":");
    let (before, rest) = line.split_once(&name).unwrap_or_else(|| panic!("no {field} in {line}"));
    let rest = rest.trim_start_matches(|c| c != ',' && c != '}');
    format!("{before}{name}…{rest}")
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
