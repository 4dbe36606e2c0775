//! A snapshot's status in etcdutl's output formats.

use super::Status;
use crate::config::size_text;

/// The status as `format` asks; `None` for a format that nobody knows.
pub(super) fn print(status: &Status, format: &str) -> Option<String> {
    let Status { hash, revision, keys, bytes, version } = status;
    let size = size_text(*bytes);
    Some(match format {
        "simple" => format!("{hash:x}, {revision}, {keys}, {size}, {version}\n"),
        "json" => format!(
            "{{\"hash\":{hash},\"revision\":{revision},\"totalKey\":{keys},\"totalSize\":{bytes},\"version\":\"{version}\"}}\n"
        ),
        "fields" => format!(
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {keys}\n\"Size\" : {bytes}\n\"Version\" : {version}\n"
        ),
        "table" => table(&[
            ("HASH", format!("{hash:x}")),
            ("REVISION", revision.to_string()),
            ("TOTAL KEYS", keys.to_string()),
            ("TOTAL SIZE", size),
            ("VERSION", version.clone()),
        ]),
        _ => return None,
    })
}

/// A table of one row: heads in the middle, values on the right.
fn table(columns: &[(&str, String)]) -> String {
    let widths: Vec<usize> = columns.iter().map(|(head, value)| head.len().max(value.len())).collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let lines: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", lines.join(middle))
    };
    let row = |cells: Vec<String>| format!("│{}│\n", cells.join("│"));
    let heads = columns.iter().zip(&widths).map(|((head, _), width)| format!(" {head:^width$} ")).collect();
    let values =
        columns.iter().zip(&widths).map(|((_, value), width)| format!(" {value:>width$} ")).collect();
    [rule("┌", "┬", "┐"), row(heads), rule("├", "┼", "┤"), row(values), rule("└", "┴", "┘")].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_etcdutls() {
        let status =
            Status { hash: 0x8c81_c148, revision: 5, keys: 2, bytes: 20_480, version: "3.7.0".to_owned() };
        let print = |format| print(&status, format);
        // What etcdutl 3.7.1 printed for these numbers.
        assert_eq!(print("simple").unwrap(), "8c81c148, 5, 2, 20 kB, 3.7.0\n");
        assert_eq!(
            print("json").unwrap(),
            "{\"hash\":2357313864,\"revision\":5,\"totalKey\":2,\"totalSize\":20480,\"version\":\"3.7.0\"}\n"
        );
        assert_eq!(
            print("fields").unwrap(),
            "\"Hash\" : 2357313864\n\"Revision\" : 5\n\"Keys\" : 2\n\"Size\" : 20480\n\"Version\" : 3.7.0\n"
        );
        let table = "\
┌──────────┬──────────┬────────────┬────────────┬─────────┐
│   HASH   │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │
├──────────┼──────────┼────────────┼────────────┼─────────┤
│ 8c81c148 │        5 │          2 │      20 kB │   3.7.0 │
└──────────┴──────────┴────────────┴────────────┴─────────┘
";
        assert_eq!(print("table").unwrap(), table);
        assert_eq!(print("bogus"), None);
    }
}
