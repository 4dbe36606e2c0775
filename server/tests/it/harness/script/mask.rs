//! Hides what may differ between two servers that behave the same.

/// Heads of table columns with sizes, durations and hashes.
const HIDDEN_COLUMNS: [&str; 5] = ["DB SIZE", "IN USE", "PERCENTAGE NOT IN USE", "TOOK", "HASH"];

/// Names of sizes, durations and hashes in JSON and in `fields` output.
const HIDDEN_FIELDS: [&str; 8] = [
    "\"dbSize\"",
    "\"dbSizeInUse\"",
    "\"DBSize\"",
    "\"DBSizeInUse\"",
    "\"Took\"",
    "\"took\"",
    "\"hash\"",
    "\"Hash\"",
];

/// Hides sizes, durations, hashes, the endpoint with `port` and etcdctl's own log lines.
pub(crate) fn mask(text: &str, port: u16) -> String {
    let text = text.replace(&format!("127.0.0.1:{port}"), "ENDPOINT");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("{\"level\"")).collect();
    let table = lines.first().is_some_and(|line| line.starts_with('+') || line.starts_with('┌'));
    if table {
        return mask_table(&lines);
    }
    lines
        .iter()
        .map(|line| mask_took(&mask_hash(&mask_sizes(&hide_fields(line, &HIDDEN_FIELDS)))) + "\n")
        .collect()
}

/// Replaces the value after each of `fields` up to the next comma, brace or end.
pub(crate) fn hide_fields(line: &str, fields: &[&str]) -> String {
    let mut line = line.to_owned();
    for field in fields {
        let mut from = 0;
        while let Some(at) = line[from..].find(field) {
            let value = from + at + field.len();
            let end = line[value..].find([',', '}']).map_or(line.len(), |end| value + end);
            line.replace_range(value..end, ":*");
            from = value;
        }
    }
    line
}

/// Sizes in words and what is computed from them: `25 kB`, `34%`.
fn mask_sizes(line: &str) -> String {
    let is_size = |word: &&str| [" B", " kB", " MB", "%"].iter().any(|unit| word.ends_with(unit));
    let words: Vec<&str> = line.split(", ").map(|word| if is_size(&word) { "*" } else { word }).collect();
    words.join(", ")
}

/// `took = 1.2345ms` and `took 1.2345ms`.
fn mask_took(line: &str) -> String {
    for took in ["took = ", "took "] {
        if let Some(at) = line.find(took) {
            return format!("{}{took}*", &line[..at]);
        }
    }
    line.to_owned()
}

/// The hash in `http://ENDPOINT, 1084519789, 29`.
fn mask_hash(line: &str) -> String {
    let parts: Vec<&str> = line.split(", ").collect();
    match parts.as_slice() {
        [endpoint, hash, revision] if endpoint.contains("ENDPOINT") && hash.parse::<u32>().is_ok() => {
            format!("{endpoint}, *, {revision}")
        }
        _ => line.to_owned(),
    }
}

/// Cells without their padding and without the lines between them; sizes masked.
fn mask_table(lines: &[&str]) -> String {
    let rows: Vec<Vec<String>> = lines
        .iter()
        .filter(|line| line.starts_with(['|', '│']))
        .map(|line| line.split(['|', '│']).map(|cell| cell.trim().to_owned()).collect())
        .collect();
    let Some(head) = rows.first().cloned() else { return String::new() };
    let hide = |(index, cell): (usize, &String)| match head.get(index) {
        Some(title) if HIDDEN_COLUMNS.contains(&title.as_str()) && title != cell => "*".to_owned(),
        _ => cell.clone(),
    };
    rows.iter().map(|row| row.iter().enumerate().map(hide).collect::<Vec<_>>().join("|") + "\n").collect()
}

#[test]
fn what_may_differ_is_hidden_and_nothing_else() {
    let line = r#"{"dbSize":20480,"leader":7,"dbSizeInUse":16}"#;
    assert_eq!(mask(line, 1), "{\"dbSize\":*,\"leader\":7,\"dbSizeInUse\":*}\n");
    assert_eq!(mask("http://127.0.0.1:77, 1084519789, 29", 77), "http://ENDPOINT, *, 29\n");
    assert_eq!(mask("127.0.0.1:77 is healthy: took = 2ms", 77), "ENDPOINT is healthy: took = *\n");
    let table = "+--+--+\n| ID | DB SIZE |\n+--+--+\n| 7 | 20 kB |\n";
    assert_eq!(mask(table, 1), "|ID|DB SIZE|\n|7|*|\n");
}
