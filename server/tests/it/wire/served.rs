//! Which RPCs the server under test serves as etcd does: what `docs/compat.md` says of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::harness::programs;

/// A row of the table of RPCs.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) rpc: String,
    /// `done`, `differs` or `missing`.
    status: String,
    note: String,
}

impl Row {
    fn is_missing(&self) -> bool {
        self.status == "missing"
    }

    /// Served, but not so far that it can be compared.
    fn is_partial(&self) -> bool {
        self.status == "differs" && self.note.contains("not possible yet")
    }
}

/// The table, unless this crate was unpacked alone.
pub(super) fn documented() -> Option<Vec<Row>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compat.md");
    let text = fs::read_to_string(path).ok()?;
    let (_, rows) = text.split_once("## RPCs").unwrap();
    let (rows, _) = rows.split_once("\n## ").unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let rpc = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some(Row { rpc, status: cells[2].to_owned(), note: cells[3].to_owned() })
    };
    Some(rows.lines().filter_map(row).collect())
}

/// RPCs that are missing; `missing_rpcs_say_so` checks that they answer `UNIMPLEMENTED`.
pub(super) fn missing() -> BTreeSet<String> {
    names(Row::is_missing)
}

/// RPCs that are not compared yet: the missing ones, and those of which a part is. A row that says `done`
/// turns the comparison on.
pub(super) fn not_compared() -> BTreeSet<String> {
    names(|row| row.is_missing() || row.is_partial())
}

fn names(choose: impl Fn(&Row) -> bool) -> BTreeSet<String> {
    if !programs::is_ketch() {
        return BTreeSet::new();
    }
    let rows = documented().unwrap_or_default();
    rows.into_iter().filter(choose).map(|row| row.rpc).collect()
}
