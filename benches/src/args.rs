//! Command lines of the form `--name value`, `--name=value` or `--switch`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What a command understands: names without dashes, switches apart, and the text to show for `--help`.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Shown on `--help` and after an error.
    pub help: &'static str,
    /// Options with a value.
    pub options: &'static [&'static str],
    /// Options without one.
    pub switches: &'static [&'static str],
}

/// A parsed command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Words that are no options, in order.
    pub words: Vec<String>,
    options: BTreeMap<String, String>,
}

/// A command line that cannot be understood; the text names the culprit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgsError(pub String);

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ArgsError {}

impl Args {
    /// Parses everything after the program's name. An option given twice keeps its last value.
    ///
    /// # Errors
    ///
    /// An unknown option, or one whose value is missing.
    pub fn parse(usage: &Usage, words: impl IntoIterator<Item = String>) -> Result<Args, ArgsError> {
        let mut args = Args::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else {
                args.words.push(word);
                continue;
            };
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option, None),
            };
            let value = if usage.switches.contains(&name) {
                value.unwrap_or_else(|| "true".to_owned())
            } else if usage.options.contains(&name) {
                value.or_else(|| words.next()).ok_or_else(|| ArgsError(format!("--{name} needs a value")))?
            } else {
                return Err(ArgsError(format!("unknown option --{name}")));
            };
            args.options.insert(name.to_owned(), value);
        }
        Ok(args)
    }

    /// The command line of this process; prints the help and exits on `--help` and on errors.
    pub fn from_env(usage: &Usage) -> Args {
        let words: Vec<String> = std::env::args().skip(1).collect();
        if words.iter().any(|word| word == "--help" || word == "-h") {
            println!("{}", usage.help);
            std::process::exit(0);
        }
        Args::parse(usage, words).unwrap_or_else(|error| usage.fail(&error))
    }

    /// An option's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Whether a switch is on.
    pub fn is_set(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value != "false")
    }

    /// An option's value.
    ///
    /// # Errors
    ///
    /// The text is no such value.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>, ArgsError> {
        self.text(name)
            .map(|text| text.parse().map_err(|_| ArgsError(format!("--{name}: {text:?} is not valid"))))
            .transpose()
    }

    /// An option's value, or `default` when it is absent.
    ///
    /// # Errors
    ///
    /// The text is no such value.
    pub fn get_or<T: FromStr>(&self, name: &str, default: T) -> Result<T, ArgsError> {
        Ok(self.get(name)?.unwrap_or(default))
    }
}

impl Usage {
    /// Says what is wrong, shows the help and exits with code 2.
    pub fn fail(&self, error: &ArgsError) -> ! {
        eprintln!("{error}\n\n{}", self.help);
        std::process::exit(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: Usage = Usage { help: "", options: &["total", "rate"], switches: &["json"] };

    fn parse(line: &str) -> Result<Args, ArgsError> {
        Args::parse(&USAGE, line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_spellings_and_the_last_wins() {
        let args = parse("put --total 5 --total=7 --json").unwrap();
        assert_eq!(args.words, ["put"]);
        assert_eq!(args.get_or("total", 0u64), Ok(7));
        assert!(args.is_set("json") && !args.is_set("rate"));
    }

    #[test]
    fn errors_name_the_option() {
        assert_eq!(parse("--wat 1").unwrap_err().0, "unknown option --wat");
        assert_eq!(parse("--rate").unwrap_err().0, "--rate needs a value");
        assert!(parse("--rate x").unwrap().get::<f64>("rate").unwrap_err().0.contains("--rate"));
    }
}
