//! Logger options: the words etcd accepts and what they mean here.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error; the default.
    Stderr,
    /// Standard output.
    Stdout,
}

/// `--log-level`, `--log-format` and `--log-outputs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// `--log-level`.
    pub level: LogLevel,
    /// `--log-format`.
    pub format: LogFormat,
    /// `--log-outputs`.
    pub output: LogOutput,
}

/// Reads the logger's options.
///
/// # Errors
/// In etcd's words where it has them; a file or the journal as output is not served yet.
pub(crate) fn read(settings: &Settings) -> Result<LogConfig, ConfigError> {
    match settings.text("logger") {
        "zap" => {}
        "capnslog" => return Err(ConfigError::invalid("--logger=capnslog is removed in v3.5")),
        other => return Err(ConfigError::invalid(format!("unknown logger option {other:?}"))),
    }
    let output = output(settings.strings("log-outputs"))?;
    Ok(LogConfig {
        level: level(settings.text("log-level"))?,
        format: format(settings.text("log-format"))?,
        output,
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

fn output(outputs: &[String]) -> Result<LogOutput, ConfigError> {
    if outputs.len() > 1 && outputs.iter().any(|o| o == "default") {
        return Err(ConfigError::invalid("multi logoutput for \"default\" is not supported yet"));
    }
    match outputs {
        [] => Ok(LogOutput::Stderr),
        [one] if one == "default" || one == "stderr" => Ok(LogOutput::Stderr),
        [one] if one == "stdout" => Ok(LogOutput::Stdout),
        _ => Err(ConfigError::invalid(format!(
            "--log-outputs={} is not supported by ketch yet: use \"stderr\", \"stdout\" or \"default\"",
            outputs.join(",")
        ))),
    }
}
