//! Every flag: one row each, in the order of the help text.

mod cluster;
mod legacy;
mod member;
mod observe;
mod security;

use super::gotext;
use super::url::{self, Url};
use super::{features, gotext::duration_text};

/// What values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`, needs no value.
    Bool,
    /// An unsigned number of 64 bits.
    Unsigned,
    /// An unsigned number of 32 bits.
    Unsigned32,
    /// A signed number of 64 bits.
    Signed,
    /// A duration with unit, `300ms`.
    Duration,
    /// Any text.
    Text,
    /// One of the listed words.
    Choice(&'static [&'static str]),
    /// Any number of the listed words, separated by commas.
    Choices(&'static [&'static str]),
    /// URLs separated by commas.
    Urls,
    /// `*` or URLs separated by commas.
    Origins,
    /// Texts separated by commas.
    Strings,
    /// The same, sorted and without duplicates.
    StringSet,
    /// `gate=true,…`
    Gates,
    /// Accepted for the sake of old command lines, with any value or none.
    Ignored,
}

/// What ketch does with a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// What etcd does.
    Works,
    /// It works, with the difference named here.
    Differs(&'static str),
    /// It is accepted, a value other than the default is logged as a warning, and nothing changes: here is why.
    NoEffect(&'static str),
    /// A value other than the default stops the start.
    NotYet,
    /// A name of the past, accepted in silence as in etcd.
    Ignored,
}

/// A flag's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    /// Nanoseconds.
    Duration(i64),
    Text(String),
    Strings(Vec<String>),
    Urls(Vec<Url>),
    /// Of a flag that is ignored, or of a default that is no value of its kind (a test keeps that from happening).
    Missing,
}

/// A heading of the help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The member itself.
    Member,
    /// Bootstrapping and compaction.
    Clustering,
    /// Transport security.
    Security,
    /// Users and tokens.
    Auth,
    /// Metrics, probes and profiles.
    Monitoring,
    /// The logger.
    Logging,
    /// Traces.
    Tracing,
    /// Checks and limits that most people leave alone.
    Features,
    /// What can lose data.
    Unsafe,
    /// What is about the process.
    Process,
    /// Names of the past, absent from the help text.
    Legacy,
}

/// One row.
#[derive(Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// As one would write it on the command line.
    pub default: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What ketch does with it.
    pub status: Status,
    /// Its heading.
    pub group: Group,
}

/// All rows.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    [member::FLAGS, cluster::FLAGS, security::FLAGS, observe::FLAGS, legacy::FLAGS].into_iter().flatten()
}

/// The row of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

impl Flag {
    /// Whether the next word is not its value.
    #[must_use]
    pub fn is_boolean(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Ignored)
    }

    pub(crate) fn empty_means_unchanged(&self) -> bool {
        self.kind == Kind::Urls
    }

    pub(crate) fn default_value(&self) -> Value {
        if self.default.is_empty() {
            return match self.kind {
                Kind::Urls => Value::Urls(Vec::new()),
                Kind::Strings | Kind::StringSet | Kind::Choices(_) => Value::Strings(Vec::new()),
                Kind::Ignored => Value::Missing,
                _ => Value::Text(String::new()),
            };
        }
        self.parse(self.default).unwrap_or(Value::Missing)
    }

    /// The value of a text, or why it has none.
    pub(crate) fn parse(&self, text: &str) -> Result<Value, String> {
        Ok(match self.kind {
            Kind::Bool => Value::Bool(gotext::boolean(text)?),
            Kind::Unsigned => Value::Unsigned(gotext::unsigned(text)?),
            Kind::Unsigned32 => Value::Unsigned(unsigned32(text)?),
            Kind::Signed => Value::Signed(gotext::signed(text)?),
            Kind::Duration => Value::Duration(gotext::duration(text)?),
            Kind::Text => Value::Text(text.to_owned()),
            Kind::Choice(words) if words.contains(&text) => Value::Text(text.to_owned()),
            Kind::Choice(_) => return Err("invalid value".to_owned()),
            Kind::Choices(words) => Value::Strings(choices(words, text)?),
            Kind::Urls => Value::Urls(url::parse_list(text)?),
            Kind::Origins if text == "*" => Value::Strings(vec![text.to_owned()]),
            Kind::Origins => Value::Strings(url::parse_list(text)?.iter().map(Url::to_string).collect()),
            Kind::Strings => Value::Strings(split(text)),
            Kind::StringSet => Value::Strings(sorted_set(split(text))),
            Kind::Gates => {
                features::check_syntax(text)?;
                Value::Text(text.to_owned())
            }
            Kind::Ignored => Value::Missing,
        })
    }

    /// The default as the help text shows it.
    #[must_use]
    pub fn default_text(&self) -> String {
        match self.default_value() {
            Value::Duration(nanoseconds) => duration_text(nanoseconds),
            _ => self.default.to_owned(),
        }
    }
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn sorted_set(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts.dedup();
    texts
}

fn choices(words: &[&str], text: &str) -> Result<Vec<String>, String> {
    let given = split(text);
    match given.iter().find(|word| !words.contains(&word.as_str())) {
        Some(word) => Err(format!("invalid value {}", gotext::quote(word))),
        None => Ok(sorted_set(given)),
    }
}

fn unsigned32(text: &str) -> Result<u64, String> {
    let why = |what: &str| format!("strconv.ParseUint: parsing {}: {what}", gotext::quote(text));
    match gotext::unsigned(text) {
        Ok(value) if u32::try_from(value).is_ok() => Ok(value),
        Err(error) if error == "parse error" => Err(why("invalid syntax")),
        _ => Err(why("value out of range")),
    }
}

const fn row(
    group: Group,
    status: Status,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, help, status, group }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_defaults_are_values() {
        let mut names = BTreeSet::new();
        for flag in all() {
            assert!(names.insert(flag.name), "--{} twice", flag.name);
            assert_eq!(flag.default_value() == Value::Missing, flag.kind == Kind::Ignored, "--{}", flag.name);
            assert!(
                !flag.help.ends_with('.') && flag.help.is_empty() == (flag.group == Group::Legacy),
                "{flag:?}"
            );
        }
    }

    #[test]
    fn count_of_rows() {
        let legacy = all().filter(|flag| flag.group == Group::Legacy).count();
        assert_eq!((all().count() - legacy, legacy), (113, 15));
    }
}
