//! The committed generated code is what the `.proto` files say.

use std::collections::BTreeMap;
use std::fs;

use crate::generator::{crate_dir, generate};

/// Set this variable to rewrite `src/gen/` instead of comparing.
const REGENERATE: &str = "KETCH_REGENERATE";

#[test]
fn generated_code_is_fresh() {
    let expected = generate();
    let dir = crate_dir().join("src/gen");
    if std::env::var_os(REGENERATE).is_some() {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("src/gen");
        for (name, text) in &expected {
            fs::write(dir.join(name), text).expect("write generated file");
        }
        return;
    }
    let committed: BTreeMap<String, String> = fs::read_dir(&dir)
        .expect("src/gen")
        .map(|entry| entry.expect("entry"))
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).expect("text");
            (entry.file_name().into_string().expect("a plain name"), text)
        })
        .collect();
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&expected), "rerun with {REGENERATE}=1");
    for (name, text) in &expected {
        assert!(committed[name] == *text, "src/gen/{name} is stale: rerun with {REGENERATE}=1");
    }
}
