//! Why a start was refused before anything was opened.

use std::fmt;

/// A command line, environment or combination of options that cannot start a server.
///
/// `main` prints [`ConfigError::message`] as one line on standard error (after it the short usage, when
/// [`ConfigError::shows_usage`] says so) and exits with [`ConfigError::exit_code`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    message: String,
    exit_code: u8,
}

impl ConfigError {
    /// The command line does not follow the flag syntax: exit code 2, usage is shown.
    pub(crate) fn syntax(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 2 }
    }

    /// The syntax is right, the values are not: exit code 1.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 1 }
    }

    /// One line without a full stop, in etcd's words where etcd has words for it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// 2 for a syntax error, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// Whether the short usage belongs under the message.
    #[must_use]
    pub fn shows_usage(&self) -> bool {
        self.exit_code == 2
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}
