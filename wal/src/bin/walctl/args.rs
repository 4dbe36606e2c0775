//! Arguments: `--name value`, `--name=value`, and switches.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Failure;

const SWITCHES: [&str; 3] = ["json", "data", "yes"];

pub(crate) struct Args(BTreeMap<String, String>);

pub(crate) fn parse(words: impl Iterator<Item = String>, allowed: &[&str]) -> Result<Args, Failure> {
    let mut words = words;
    let mut args = BTreeMap::new();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").ok_or_else(|| Failure::Usage(format!("what is {word:?}?")))?;
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        if !allowed.contains(&name) {
            return Err(Failure::Usage(format!("there is no --{name} here")));
        }
        let value = match value {
            Some(value) => value,
            None if SWITCHES.contains(&name) => String::new(),
            None => words.next().ok_or_else(|| Failure::Usage(format!("--{name} wants a value")))?,
        };
        args.insert(name.to_owned(), value);
    }
    Ok(Args(args))
}

impl Args {
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn dir(&self) -> Result<PathBuf, Failure> {
        self.text("dir").map(PathBuf::from).ok_or_else(|| Failure::Usage("--dir is missing".to_owned()))
    }

    pub(crate) fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, Failure> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|_| Failure::Usage(format!("--{name} {text:?} is not a number")))
            }
        }
    }

    pub(crate) fn numbers(&self, name: &str, default: &str) -> Result<Vec<usize>, Failure> {
        let text = self.text(name).unwrap_or(default);
        let numbers: Result<Vec<usize>, _> = text.split(',').map(|n| n.trim().parse()).collect();
        match numbers {
            Ok(numbers) if !numbers.contains(&0) => Ok(numbers),
            _ => Err(Failure::Usage(format!("--{name} {text:?} is not a list of numbers above zero"))),
        }
    }
}

/// A string for JSON.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 32 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
