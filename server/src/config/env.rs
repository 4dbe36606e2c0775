//! `ETCD_*` variables: the same options by another way.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::gotext::quote;
use super::settings::{Origin, Settings};
use super::table::{self, Flag};
use super::{ConfigError, Notice};

const PREFIX: &str = "ETCD_";
const VERSION_VARIABLE: &str = "ETCD_VERSION";

/// The variable of a flag.
pub(crate) fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"))
}

/// The variables that matter, as text.
///
/// # Errors
/// Exit code 1 for one whose value is not UTF-8.
pub(crate) fn of_process(
    vars: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let ours = vars.filter_map(|(key, value)| Some((key.into_string().ok()?, value)));
    ours.filter(|(key, _)| key.starts_with(PREFIX))
        .map(|(key, value)| match value.into_string() {
            Ok(value) => Ok((key, value)),
            Err(_) => Err(ConfigError::invalid(format!("the value of {key} is not UTF-8"))),
        })
        .collect()
}

/// Gives every option that has a variable and no flag its value.
///
/// # Errors
/// Exit code 1 when an option has both (even with equal values, even with an empty variable), or a bad value.
pub(crate) fn apply(settings: &mut Settings, env: &[(String, String)]) -> Result<Vec<Notice>, ConfigError> {
    let (mut notices, mut used) = (Vec::new(), BTreeSet::new());
    let by_flag: BTreeSet<String> = settings.given().map(|(name, _)| variable(name)).collect();
    let mut flags: Vec<&'static Flag> = table::all().collect();
    flags.sort_by_key(|flag| flag.name);
    let mut bad_value = None;
    for flag in flags {
        let key = variable(flag.name);
        let Some((_, text)) = env.iter().find(|(k, value)| *k == key && !value.is_empty()) else { continue };
        if by_flag.contains(&key) || key == VERSION_VARIABLE {
            continue;
        }
        match settings.set(flag, text, Origin::Environment) {
            Ok(()) => notices.push(info("recognized and used environment variable", &key)),
            Err(why) => bad_value = Some(format!("invalid value {} for {key}: {why}", quote(text))),
        }
        used.insert(key);
    }
    for (key, value) in env.iter().filter(|(key, _)| key.starts_with(PREFIX) && !used.contains(key)) {
        if by_flag.contains(key) {
            return Err(ConfigError::invalid(format!(
                "conflicting environment variable is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag): {key}"
            )));
        }
        let message = if key == VERSION_VARIABLE && !value.is_empty() {
            "cannot set special environment variable"
        } else {
            "unrecognized environment variable"
        };
        notices.push(Notice { warning: true, message: message.to_owned(), subject: key.clone() });
    }
    bad_value.map_or(Ok(notices), |message| Err(ConfigError::invalid(message)))
}

fn info(message: &str, key: &str) -> Notice {
    Notice { warning: false, message: message.to_owned(), subject: key.to_owned() }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn only_our_variables_have_to_be_text() {
        let bad = || OsString::from_vec(vec![0xff]);
        let read = |key: OsString| of_process([(key, bad())].into_iter());
        assert_eq!(read("PATH".into()).unwrap(), []);
        assert_eq!(read(bad()).unwrap(), []);
        assert_eq!(read("ETCD_NAME".into()).unwrap_err().message(), "the value of ETCD_NAME is not UTF-8");
    }
}
