//! `/health`: one answer for load balancers and `etcdctl endpoint health`'s older siblings.

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Method, Response, StatusCode};

use super::probe::Alarm;
use super::{HttpState, answer};

/// Repeated `key=value` pairs of a query.
pub(super) type Pairs = Query<Vec<(String, String)>>;

/// Values of `?exclude=`, without empty ones.
pub(super) fn excluded(pairs: &Pairs) -> Vec<&str> {
    let values = pairs.iter().filter(|(key, _)| key == "exclude").map(|(_, value)| value.as_str());
    values.filter(|value| !value.is_empty()).collect()
}

/// 200 or 503 with `{"health":…,"reason":…}`.
pub(super) async fn health(State(state): State<HttpState>, method: Method, pairs: Pairs) -> Response<Body> {
    if let Some(response) = answer::get_only(&method) {
        return response;
    }
    let first = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let serializable = first("serializable") == Some("true");
    match sick(&state, &excluded(&pairs), serializable).await {
        None => {
            state.metrics.health_success.inc();
            answer::sniffable_text(body(true, ""))
        }
        Some(reason) => {
            state.metrics.health_failures.inc();
            tracing::warn!(reason, "/health is false");
            answer::error(StatusCode::SERVICE_UNAVAILABLE, &body(false, &reason))
        }
    }
}

/// Why the member is not healthy, if so: an alarm, no leader, or a read that failed, in this order.
async fn sick(state: &HttpState, excluded: &[&str], serializable: bool) -> Option<String> {
    let alarms = state.probe.alarms();
    let counts = |alarm: &Alarm| !excluded.contains(&alarm.name().as_str());
    if let Some(alarm) = alarms.into_iter().find(counts) {
        return Some(alarm.reason().to_owned());
    }
    if !serializable && !state.probe.has_leader() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let read = if serializable { state.probe.serializable_read() } else { state.probe.linearizable_read() };
    read.await.err().map(|why| format!("RANGE ERROR:{why}"))
}

fn body(healthy: bool, reason: &str) -> String {
    format!("{{\"health\":\"{healthy}\",\"reason\":{}}}", serde_json::Value::from(reason))
}
