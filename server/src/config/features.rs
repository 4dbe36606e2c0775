//! `--feature-gates`: the gates etcd 3.7 knows, their defaults, and which values ketch can honour.

use super::gotext;
use super::{ConfigError, Notice};
use crate::metrics::Feature;

struct Gate {
    name: &'static str,
    default: bool,
    other: Other,
}

/// What a value other than the default does.
enum Other {
    Works,
    /// Nothing, for this reason.
    NoEffect(&'static str),
    Refused,
}

const fn gate(name: &'static str, default: bool, other: Other) -> Gate {
    Gate { name, default, other }
}

const ONE_STORE: Other = Other::NoEffect("it chooses between two ways of etcd's backend");
const NO_DEFRAG: Other = Other::NoEffect("defragmentation never blocks here");

const ALL_BETA: &str = "AllBeta";
const BETA: &str = "BETA";
/// `InitialCorruptCheck`.
pub(super) const INITIAL_CORRUPT_CHECK: &str = "InitialCorruptCheck";
/// `CompactHashCheck`.
pub(super) const COMPACT_HASH_CHECK: &str = "CompactHashCheck";

const GATES: &[Gate] = &[
    gate("AllAlpha", false, Other::Refused),
    gate(ALL_BETA, false, Other::NoEffect("all beta gates are on by default")),
    gate(COMPACT_HASH_CHECK, false, Other::Works),
    gate("FastLeaseKeepAlive", true, Other::Refused),
    gate(INITIAL_CORRUPT_CHECK, false, Other::Works),
    gate("LeaseCheckpoint", false, Other::Refused),
    gate("LeaseCheckpointPersist", false, Other::Refused),
    gate("PriorityRequest", false, Other::Refused),
    gate("SetMemberLocalAddr", false, Other::Refused),
    gate("StopGRPCServiceOnDefrag", false, NO_DEFRAG),
    gate("TxnModeWriteWithSharedBuffer", true, ONE_STORE),
];

/// Checks the list's syntax and names.
pub(crate) fn check_syntax(text: &str) -> Result<(), String> {
    pairs(text).map(|_| ())
}

fn pairs(text: &str) -> Result<Vec<(&'static Gate, bool)>, String> {
    let mut found = Vec::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let Some((name, value)) = item.split_once('=') else {
            return Err(format!("missing bool value for {}", item.trim()));
        };
        let (name, value) = (name.trim(), value.trim());
        let on = gotext::boolean(value).map_err(|_| {
            let quoted = gotext::quote(value);
            format!(
                "invalid value of {name}={value}, err: strconv.ParseBool: parsing {quoted}: invalid syntax"
            )
        })?;
        let gate = GATES.iter().find(|gate| gate.name == name);
        found.push((gate.ok_or_else(|| format!("unrecognized feature gate: {name}"))?, on));
    }
    Ok(found)
}

/// Refuses gates whose value ketch cannot honour; returns what is worth a warning.
///
/// # Errors
/// Names the first gate that is set to a value other than its default and would have to do something.
pub(crate) fn check(text: &str) -> Result<Vec<Notice>, ConfigError> {
    let pairs = pairs(text).map_err(ConfigError::invalid)?;
    let on = |name: &str| pairs.iter().rev().find(|(gate, _)| gate.name == name).is_some_and(|(_, on)| *on);
    if on("LeaseCheckpointPersist") && !on("LeaseCheckpoint") && !on("AllAlpha") {
        return Err(ConfigError::invalid(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ));
    }
    let mut notices = Vec::new();
    for (gate, on) in pairs.into_iter().filter(|(gate, on)| gate.default != *on) {
        let why = match gate.other {
            Other::Works => continue,
            Other::NoEffect(why) => why,
            Other::Refused => {
                return Err(ConfigError::invalid(format!(
                    "--feature-gates={}={on} is not supported by ketch yet: remove the gate to start",
                    gate.name
                )));
            }
        };
        notices.push(Notice {
            warning: true,
            message: format!("feature gate has no effect: {why}"),
            subject: gate.name.to_owned(),
        });
    }
    Ok(notices)
}

/// Every gate and whether the list, once checked, leaves it on. `AllBeta` moves those that are not named.
pub(super) fn states(text: &str) -> Vec<Feature> {
    let pairs = pairs(text).unwrap_or_default();
    let given = |name: &str| pairs.iter().rev().find(|(gate, _)| gate.name == name).map(|(_, on)| *on);
    let state = |gate: &Gate| {
        let stage = if gate.default || gate.name == ALL_BETA { BETA } else { "ALPHA" };
        let by_stage = given(ALL_BETA).filter(|_| stage == BETA);
        Feature { name: gate.name, stage, on: given(gate.name).or(by_stage).unwrap_or(gate.default) }
    };
    GATES.iter().map(state).collect()
}

/// Whether the list, once checked, turns the gate `name` on; the last word counts.
pub(super) fn is_on(text: &str, name: &str) -> bool {
    let pairs = pairs(text).unwrap_or_default();
    pairs.into_iter().rev().find(|(gate, _)| gate.name == name).is_some_and(|(_, on)| on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_etcd() {
        assert_eq!(check_syntax("Nope=true"), Err("unrecognized feature gate: Nope".to_owned()));
        assert_eq!(check_syntax("AllBeta"), Err("missing bool value for AllBeta".to_owned()));
        assert!(check_syntax("AllBeta=yes").unwrap_err().contains("parsing \"yes\": invalid syntax"));
    }

    #[test]
    fn only_what_can_be_honoured_passes() {
        assert_eq!(check("FastLeaseKeepAlive=true, AllAlpha=false,").unwrap(), []);
        assert_eq!(check("TxnModeWriteWithSharedBuffer=false").unwrap().len(), 1);
        assert_eq!(check("InitialCorruptCheck=true,CompactHashCheck=true").unwrap(), []);
        let refused = check("SetMemberLocalAddr=true").unwrap_err();
        assert!(refused.message().contains("SetMemberLocalAddr=true is not supported"), "{refused}");
    }

    #[test]
    fn every_gate_has_a_state() {
        let on = |text: &str| -> Vec<&str> {
            states(text).into_iter().filter(|feature| feature.on).map(|feature| feature.name).collect()
        };
        assert_eq!(on(""), ["FastLeaseKeepAlive", "TxnModeWriteWithSharedBuffer"]);
        assert_eq!(on("AllBeta=false,FastLeaseKeepAlive=true"), ["FastLeaseKeepAlive"]);
        assert_eq!(on("CompactHashCheck=true,AllBeta=false"), ["CompactHashCheck"]);
        assert!(GATES.is_sorted_by_key(|gate| gate.name));
    }

    #[test]
    fn the_last_word_counts() {
        assert!(is_on("InitialCorruptCheck=false, InitialCorruptCheck=true", INITIAL_CORRUPT_CHECK));
        assert!(!is_on("InitialCorruptCheck=true,InitialCorruptCheck=false", INITIAL_CORRUPT_CHECK));
        assert!(!is_on("CompactHashCheck=true", INITIAL_CORRUPT_CHECK));
    }
}
