//! The value of every option: given by a flag, given by the environment, or the default.

use std::collections::BTreeMap;

use super::table::{self, Flag, Value};
use super::url::Url;
use super::{ConfigError, env};

/// Who gave a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Argument,
    /// An `ETCD_*` variable.
    Environment,
}

/// One option that was given.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) value: Value,
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// All options of one start.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    given: BTreeMap<&'static str, Given>,
    defaults: BTreeMap<&'static str, Value>,
}

impl Settings {
    /// Every option at its default.
    pub(crate) fn new() -> Self {
        let defaults = table::all().map(|flag| (flag.name, flag.default_value())).collect();
        Self { given: BTreeMap::new(), defaults }
    }

    /// Gives `flag` a value; a later call wins.
    ///
    /// # Errors
    /// Why the text is no value of the flag's kind, in etcd's words.
    pub(crate) fn set(&mut self, flag: &'static Flag, text: &str, origin: Origin) -> Result<(), String> {
        if text.is_empty() && flag.empty_means_unchanged() {
            // As in etcd an empty list of URLs changes nothing, but the flag counts as given.
            let value = self.value(flag.name).clone();
            self.given.insert(flag.name, Given { value, text: String::new(), origin });
            return Ok(());
        }
        let value = flag.parse(text)?;
        self.given.insert(flag.name, Given { value, text: text.to_owned(), origin });
        Ok(())
    }

    /// The options that were given, in the order of their names.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&'static str, &Given)> {
        self.given.iter().map(|(name, given)| (*name, given))
    }

    /// Whether an option was given at all.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        debug_assert!(self.defaults.contains_key(name), "the table has no --{name}");
        self.given.contains_key(name)
    }

    fn value(&self, name: &str) -> &Value {
        debug_assert!(self.defaults.contains_key(name), "the table has no --{name}");
        let value = self.given.get(name).map(|given| &given.value).or_else(|| self.defaults.get(name));
        value.unwrap_or(&Value::Missing)
    }

    pub(crate) fn boolean(&self, name: &str) -> bool {
        matches!(self.value(name), Value::Bool(true))
    }

    pub(crate) fn unsigned(&self, name: &str) -> u64 {
        if let Value::Unsigned(value) = self.value(name) { *value } else { 0 }
    }

    pub(crate) fn signed(&self, name: &str) -> i64 {
        if let Value::Signed(value) = self.value(name) { *value } else { 0 }
    }

    /// A duration in nanoseconds.
    pub(crate) fn nanoseconds(&self, name: &str) -> i64 {
        if let Value::Duration(value) = self.value(name) { *value } else { 0 }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        if let Value::Text(value) = self.value(name) { value } else { "" }
    }

    pub(crate) fn strings(&self, name: &str) -> &[String] {
        if let Value::Strings(value) = self.value(name) { value } else { &[] }
    }

    pub(crate) fn urls(&self, name: &str) -> &[Url] {
        if let Value::Urls(value) = self.value(name) { value } else { &[] }
    }

    /// A configuration file replaces flags and environment altogether, so it is looked for before either is used.
    ///
    /// # Errors
    /// Always when one is named: it is not served yet.
    pub(crate) fn refuse_config_file(&self, env: &[(String, String)]) -> Result<(), ConfigError> {
        let variable = env::variable("config-file");
        let named = match self.text("config-file") {
            "" => env
                .iter()
                .find(|(key, value)| *key == variable && !value.is_empty())
                .map(|(key, _)| key.clone()),
            _ => Some("--config-file".to_owned()),
        };
        match named {
            Some(source) => Err(ConfigError::invalid(format!(
                "{source} is not supported by ketch yet: give the options as flags or ETCD_* variables"
            ))),
            None => Ok(()),
        }
    }
}
