//! Command lines in the manner of etcdutl: `--flag value`, `--flag=value`, `-w value`, words anywhere.

use std::collections::BTreeMap;

/// A flag of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    /// Whether it stands alone.
    pub(super) is_switch: bool,
}

/// What a command line says.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) words: Vec<String>,
    values: BTreeMap<&'static str, String>,
}

impl Line {
    /// The value of a flag, if it was given; the last one counts.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Whether a switch is on.
    ///
    /// # Errors
    /// A value that is neither true nor false.
    pub(super) fn switch(&self, name: &str) -> Result<bool, String> {
        match self.value(name) {
            None => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(format!(
                "invalid argument {other:?} for \"--{name}\" flag: strconv.ParseBool: parsing {other:?}: invalid syntax"
            )),
        }
    }

    /// The number that a flag gives, 0 by default.
    ///
    /// # Errors
    /// A value that is no unsigned number.
    pub(super) fn number(&self, name: &str) -> Result<u64, String> {
        let Some(text) = self.value(name) else { return Ok(0) };
        text.parse().map_err(|_| {
            format!("invalid argument {text:?} for \"--{name}\" flag: strconv.ParseUint: parsing {text:?}: invalid syntax")
        })
    }
}

/// Reads a command line.
///
/// # Errors
/// What is wrong with it, in etcdutl's words.
pub(super) fn parse(args: &[String], flags: &[Flag]) -> Result<Line, String> {
    let mut line = Line::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            line.words.extend(args.cloned());
            break;
        }
        let (flag, value) = if let Some(long) = arg.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let flag = flags.iter().find(|flag| flag.name == name);
            (flag.ok_or_else(|| format!("unknown flag: --{name}"))?, value)
        } else if let Some(short) = arg.strip_prefix('-').filter(|short| !short.is_empty()) {
            let mut rest = short.chars();
            let letter = rest.next();
            let flag = flags.iter().find(|flag| flag.short.is_some() && flag.short == letter);
            let unknown = || format!("unknown shorthand flag: {:?} in -{short}", letter.unwrap_or('-'));
            let rest = rest.as_str();
            let value = rest.strip_prefix('=').unwrap_or(rest);
            (flag.ok_or_else(unknown)?, Some(value).filter(|value| !value.is_empty()))
        } else {
            line.words.push(arg.clone());
            continue;
        };
        let value = match value {
            Some(value) => value.to_owned(),
            None if flag.is_switch => "true".to_owned(),
            None => args.next().cloned().ok_or_else(|| format!("flag needs an argument: --{}", flag.name))?,
        };
        line.values.insert(flag.name, value);
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [Flag; 3] = [
        Flag { name: "write-out", short: Some('w'), is_switch: false },
        Flag { name: "skip", short: None, is_switch: true },
        Flag { name: "bump", short: None, is_switch: false },
    ];

    fn line(args: &[&str]) -> Result<Line, String> {
        parse(&args.iter().map(ToString::to_string).collect::<Vec<_>>(), &FLAGS)
    }

    #[test]
    fn words_and_flags_in_any_order() {
        for args in [
            &["a", "-w", "json", "b", "--skip"][..],
            &["-wjson", "a", "--skip=true", "b"],
            &["a", "--write-out=json", "--skip", "--", "b"],
            &["-w=x", "--write-out", "json", "a", "b", "--skip=t"],
        ] {
            let line = line(args).unwrap();
            assert_eq!(line.words, ["a", "b"], "{args:?}");
            assert_eq!((line.value("write-out"), line.switch("skip")), (Some("json"), Ok(true)), "{args:?}");
        }
        assert_eq!(line(&["--bump", "7"]).unwrap().number("bump"), Ok(7));
    }

    #[test]
    fn mistakes_are_named() {
        for (args, message) in [
            (&["--bogus"][..], "unknown flag: --bogus"),
            (&["-x"], "unknown shorthand flag: 'x' in -x"),
            (&["--bump"], "flag needs an argument: --bump"),
        ] {
            assert_eq!(line(args).unwrap_err(), message);
        }
        let wrong = line(&["--bump", "-5"]).unwrap().number("bump").unwrap_err();
        assert_eq!(
            wrong,
            "invalid argument \"-5\" for \"--bump\" flag: strconv.ParseUint: parsing \"-5\": invalid syntax"
        );
        assert!(line(&["--skip=maybe"]).unwrap().switch("skip").is_err());
    }
}
