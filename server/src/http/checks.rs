//! `/livez` and `/readyz`: named checks, alone or together, as Kubernetes asks for them.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Response, StatusCode};

use super::health::{Pairs, excluded};
use super::probe::Alarm;
use super::{HttpState, answer};

/// One named check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// Checks that answer together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) path: &'static str,
    pub(super) checks: &'static [Check],
}

/// Whether the process works at all: restart it if not.
pub(super) const LIVEZ: Group = Group { path: "/livez", checks: &[Check::SerializableRead] };

/// Whether it can serve: send no traffic if not.
pub(super) const READYZ: Group = Group {
    path: "/readyz",
    checks: &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner],
};

impl Check {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, state: &HttpState) -> Result<(), String> {
        match self {
            Self::DataCorruption if state.probe.alarms().contains(&Alarm::Corrupt) => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            Self::NonLearner if state.probe.is_learner() => Err("not supported for learner".to_owned()),
            Self::DataCorruption | Self::NonLearner => Ok(()),
            Self::SerializableRead => state.probe.serializable_read().await,
            Self::LinearizableRead => state.probe.linearizable_read().await,
        }
    }
}

/// All checks of a group but the excluded ones. Excluding one that does not exist is no mistake.
pub(super) async fn all(
    group: Group,
    State(state): State<HttpState>,
    method: Method,
    pairs: Pairs,
) -> Response<Body> {
    if let Some(response) = answer::get_only(&method) {
        return response;
    }
    let without = excluded(&pairs);
    let checks = group.checks.iter().copied().filter(|check| !without.contains(&check.name()));
    report(group, &checks.collect::<Vec<_>>(), &state, &pairs).await
}

/// One check alone.
pub(super) async fn one(
    group: Group,
    check: Check,
    State(state): State<HttpState>,
    method: Method,
    pairs: Pairs,
) -> Response<Body> {
    match answer::get_only(&method) {
        Some(response) => response,
        None => report(group, &[check], &state, &pairs).await,
    }
}

/// Runs the checks one after another. A failure is always explained, success only with `?verbose`.
async fn report(group: Group, checks: &[Check], state: &HttpState, pairs: &Pairs) -> Response<Body> {
    let (mut lines, mut failed) = (String::new(), false);
    for check in checks {
        let outcome = check.run(state).await;
        count(group, *check, state, outcome.is_ok());
        match outcome {
            Ok(()) => lines.push_str(&format!("[+]{} ok\n", check.name())),
            Err(why) => {
                failed = true;
                lines.push_str(&format!("[-]{} failed: {why}\n", check.name()));
            }
        }
    }
    if failed {
        tracing::warn!(path = group.path, reason = lines, "health check failed");
        return answer::error(StatusCode::SERVICE_UNAVAILABLE, &lines);
    }
    if !pairs.iter().any(|(key, _)| key == "verbose") {
        lines.clear();
    }
    lines.push_str("ok\n");
    answer::text(lines)
}

fn count(group: Group, check: Check, state: &HttpState, success: bool) {
    let kind = group.path.trim_start_matches('/');
    let found = state.metrics.checks.iter().find(|(of, name, _)| *of == kind && *name == check.name());
    if let Some((_, _, counts)) = found {
        counts.last.set_bool(success);
        if success { counts.success.inc() } else { counts.error.inc() }
    }
}
