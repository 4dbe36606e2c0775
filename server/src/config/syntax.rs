//! The flag syntax of etcd's command line.
//!
//! `-x v`, `-x=v`, `--x v` and `--x=v` mean the same. A boolean takes its value behind `=` only. A repeated flag
//! replaces the earlier value. `--` or the first word that is no flag ends the flags; anything left is refused.

use super::ConfigError;
use super::gotext::quote;
use super::settings::{Origin, Settings};
use super::table;

/// What the words amount to.
pub(crate) enum Outcome {
    /// `-h` or `--help` was met before any mistake.
    Help,
    /// Flags only.
    Settings(Settings),
}

enum Word<'a> {
    End,
    Flag { name: &'a str, value: Option<&'a str> },
}

/// Reads all words.
///
/// # Errors
/// Exit code 2 for bad syntax, an unknown flag or a bad value; 1 for a positional argument.
pub(crate) fn parse(args: &[String]) -> Result<Outcome, ConfigError> {
    let mut settings = Settings::new();
    let mut rest = args;
    while let Some((word, after)) = rest.split_first() {
        if !word.starts_with('-') || word == "-" {
            break;
        }
        rest = after;
        let Word::Flag { name, value } = split(word)? else { break };
        let Some(flag) = table::find(name) else {
            if name == "help" || name == "h" {
                return Ok(Outcome::Help);
            }
            return Err(ConfigError::syntax(format!("flag provided but not defined: -{name}")));
        };
        if flag.is_boolean() {
            let text = value.unwrap_or("true");
            settings.set(flag, text, Origin::Argument).map_err(|why| {
                ConfigError::syntax(format!("invalid boolean value {} for -{name}: {why}", quote(text)))
            })?;
            continue;
        }
        let text = match (value, rest.split_first()) {
            (Some(text), _) => text,
            (None, Some((next, after))) => {
                rest = after;
                next.as_str()
            }
            (None, None) => return Err(ConfigError::syntax(format!("flag needs an argument: -{name}"))),
        };
        settings.set(flag, text, Origin::Argument).map_err(|why| {
            ConfigError::syntax(format!("invalid value {} for flag -{name}: {why}", quote(text)))
        })?;
    }
    match rest.first() {
        Some(word) => Err(ConfigError::invalid(format!("{} is not a valid flag", quote(word)))),
        None => Ok(Outcome::Settings(settings)),
    }
}

/// Takes one word that begins with a dash apart.
fn split(word: &str) -> Result<Word<'_>, ConfigError> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or(word);
    if name.is_empty() {
        return Ok(Word::End);
    }
    if name.starts_with('-') || name.starts_with('=') {
        return Err(ConfigError::syntax(format!("bad flag syntax: {word}")));
    }
    Ok(match name.split_once('=') {
        Some((name, value)) => Word::Flag { name, value: Some(value) },
        None => Word::Flag { name, value: None },
    })
}
