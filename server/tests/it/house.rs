//! Rules of the house that a machine can keep: see ARCHITECTURE.md for the reasons.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines. Generated code is exempt.
const LINES_MAX: usize = 600;

/// Which crate of ours may use which.
const EDGES: [(&str, &[&str]); 7] = [
    ("raft", &[]),
    ("wal", &[]),
    ("mvcc", &["ketch-wal"]),
    ("proto", &[]),
    ("client", &["ketch-proto"]),
    ("server", &["ketch-mvcc", "ketch-proto", "ketch-raft", "ketch-wal"]),
    ("benches", &["ketch-client", "ketch-mvcc", "ketch-proto", "ketch-raft", "ketch-server", "ketch-wal"]),
];

/// What a folder does without: the text that would show it, and files that are exempt.
const ABSENCES: [(&str, &str, &[&str]); 7] = [
    ("raft/src", "async fn", &[]),
    ("raft/src", "Instant::now", &[]),
    ("raft/src", "SystemTime", &[]),
    ("raft/src", "prost", &[]),
    ("wal/src", "raft::", &[]),
    ("mvcc/src", "Instant::now", &[]),
    ("mvcc/src", "tonic", &[]),
];

/// The workspace, unless this crate was unpacked alone.
fn workspace() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    root.join("benches/Cargo.toml").exists().then(|| root.to_owned())
}

/// Rust files of our crates: path relative to the workspace, and text.
fn sources(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (folder, _) in EDGES {
        for part in ["src", "tests", "examples", "benches"] {
            collect(root, &root.join(folder).join(part), &mut found);
        }
    }
    found
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

fn is_generated(name: &str) -> bool {
    name.starts_with("proto/src/gen/")
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    let Some(root) = workspace() else { return };
    let mut wrong = Vec::new();
    for (name, text) in sources(&root).iter().filter(|(name, _)| !is_generated(name)) {
        if !text.starts_with("//!") {
            wrong.push(format!("{name} does not begin with //!"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{name} has {lines} lines, at most {LINES_MAX} are allowed"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_know_only_whom_they_may() {
    let Some(root) = workspace() else { return };
    for (folder, allowed) in EDGES {
        let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap();
        for line in dependency_lines(&manifest) {
            let name = line.split(['.', ' ', '=']).next().unwrap();
            let fine = !name.starts_with("ketch-") || allowed.contains(&name);
            assert!(fine, "{folder} must not depend on {name}");
        }
    }
}

/// Lines of the section `[dependencies]`.
fn dependency_lines(manifest: &str) -> impl Iterator<Item = &str> {
    let section = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    section.take_while(|line| !line.starts_with('['))
}

#[test]
fn absences() {
    let Some(root) = workspace() else { return };
    let sources = sources(&root);
    let mut wrong = Vec::new();
    for (folder, text, exempt) in ABSENCES {
        for (name, source) in sources.iter().filter(|(name, _)| name.starts_with(folder)) {
            let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
            if !exempt.contains(&name.as_str()) && code.into_iter().any(|line| line.contains(text)) {
                wrong.push(format!("{name} has {text:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Places where a test of this name may be: a module of the end-to-end tests, a test binary, a module of the server; without
/// the last word too, which may be the test itself.
fn homes(root: &Path, name: &str) -> Vec<(PathBuf, String)> {
    let name = name.strip_suffix("::tests").unwrap_or(name);
    let mut homes = Vec::new();
    for (module, test) in [(name, "")].into_iter().chain(name.rsplit_once("::")) {
        let path = module.replace("::", "/");
        for folder in ["server/tests/it", "server/tests", "server/src"] {
            let home = root.join(folder).join(&path);
            homes.extend([home.with_extension("rs"), home].map(|home| (home, test.to_owned())));
        }
    }
    homes
}

/// Whether a file, or one below a folder, has tests; or the one of this name.
fn has_test(root: &Path, home: &Path, test: &str) -> bool {
    let mut found = Vec::new();
    if home.is_dir() {
        collect(root, home, &mut found);
    } else if let Ok(text) = fs::read_to_string(home) {
        found.push((String::new(), text));
    }
    let wanted = format!("fn {test}(");
    found.iter().any(|(_, text)| {
        let tests = text.contains("#[test]") || text.contains("#[tokio::test]");
        tests && (test.is_empty() || text.contains(&wanted))
    })
}

/// In the tables of `docs/compat.md` whose last column says so: each row names its test, and each test that is named is there.
#[test]
fn the_document_names_tests_that_are_there() {
    let Some(root) = workspace() else { return };
    let document = fs::read_to_string(root.join("docs/compat.md")).unwrap();
    let (mut wrong, mut shown, mut named) = (Vec::new(), false, 0);
    for line in document.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [_, status, .., tests] = &cells[..] else {
            shown = false;
            continue;
        };
        shown |= *tests == "shown by";
        if !shown || *tests == "shown by" || tests.starts_with("---") {
            continue;
        }
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        named += names.len();
        let claims = |cell: &&str| cell.starts_with("done") || cell.starts_with("differs");
        if names.is_empty() && (claims(status) || cells.iter().any(claims)) {
            wrong.push(format!("no test: {line}"));
        }
        for name in names {
            if !homes(&root, name).iter().any(|(home, test)| has_test(&root, home, test)) {
                wrong.push(format!("there is no test {name}: {line}"));
            }
        }
    }
    assert!(named > 100, "{named}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
