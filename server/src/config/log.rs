//! Logger options: the words etcd accepts and what they mean here.

use std::path::PathBuf;

use super::ConfigError;
use super::settings::Settings;

/// The least severe line that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Changes of state; the default.
    Info,
    /// What may need attention.
    Warn,
    /// What a person must look at. `panic` and `fatal` mean the same here: such lines are errors too.
    Error,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line; the default.
    Json,
    /// For people.
    Console,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error; the default.
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

/// `--log-level`, `--log-format` and `--log-outputs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `--log-level`.
    pub level: LogLevel,
    /// `--log-format`.
    pub format: LogFormat,
    /// `--log-outputs`: all of them get each line.
    pub outputs: Vec<LogOutput>,
}

/// Reads the logger's options.
///
/// # Errors
/// In etcd's words where it has them; the journal as output is not served yet.
pub(crate) fn read(settings: &Settings) -> Result<LogConfig, ConfigError> {
    match settings.text("logger") {
        "zap" => {}
        "capnslog" => return Err(ConfigError::invalid("--logger=capnslog is removed in v3.5")),
        other => return Err(ConfigError::invalid(format!("unknown logger option {other:?}"))),
    }
    let outputs = outputs(settings.strings("log-outputs"))?;
    Ok(LogConfig {
        level: level(settings.text("log-level"))?,
        format: format(settings.text("log-format"))?,
        outputs,
    })
}

fn level(text: &str) -> Result<LogLevel, ConfigError> {
    match text {
        "debug" | "DEBUG" => Ok(LogLevel::Debug),
        "info" | "INFO" | "" => Ok(LogLevel::Info),
        "warn" | "WARN" => Ok(LogLevel::Warn),
        "error" | "ERROR" | "dpanic" | "DPANIC" | "panic" | "PANIC" | "fatal" | "FATAL" => {
            Ok(LogLevel::Error)
        }
        other => Err(ConfigError::invalid(format!("unrecognized level: {other:?}"))),
    }
}

fn format(text: &str) -> Result<LogFormat, ConfigError> {
    match text {
        "json" | "" => Ok(LogFormat::Json),
        "console" => Ok(LogFormat::Console),
        other => {
            Err(ConfigError::invalid(format!("unknown log format: {other}, supported values json, console")))
        }
    }
}

/// Where lines go, in the order of the words, each once.
fn outputs(words: &[String]) -> Result<Vec<LogOutput>, ConfigError> {
    if words.len() > 1 && words.iter().any(|word| word == "default") {
        return Err(ConfigError::invalid("multi logoutput for \"default\" is not supported yet"));
    }
    if words.iter().any(|word| word == "systemd/journal") {
        return Err(ConfigError::invalid("--log-outputs=systemd/journal is not supported by ketch yet"));
    }
    if words.is_empty() {
        return Ok(vec![LogOutput::Stderr]);
    }
    // It stands for nowhere at all.
    if words.iter().any(|word| word == "/dev/null") {
        return Ok(Vec::new());
    }
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.sort_unstable();
    words.dedup();
    words.into_iter().map(output).collect()
}

fn output(word: &str) -> Result<LogOutput, ConfigError> {
    match word {
        "default" | "stderr" => return Ok(LogOutput::Stderr),
        "stdout" => return Ok(LogOutput::Stdout),
        _ => {}
    }
    let refuse = |why: String| ConfigError::invalid(format!("open sink {word:?}: {why}"));
    let Some((scheme, rest)) = word.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return Ok(LogOutput::File(word.into()));
    };
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "file" {
        return Err(refuse(format!("no sink found for scheme {scheme:?}")));
    }
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path.strip_prefix("localhost").unwrap_or(path);
    if !path.starts_with('/') {
        return Err(refuse(format!("file URLs must leave host empty or use localhost: got {word}")));
    }
    Ok(LogOutput::File(path.into()))
}

/// Whether what stands before a colon makes a URL of it (RFC 3986, section 3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}
