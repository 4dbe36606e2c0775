//! The HTTP endpoints beside gRPC: health, version, metrics.
//!
//! | path | client listener | metrics listener |
//! | --- | --- | --- |
//! | `/health` | yes | yes |
//! | `/livez`, `/livez/…`, `/readyz`, `/readyz/…` | yes | yes |
//! | `/metrics` | yes | yes |
//! | `/version`, `/debug/vars` | yes | |
//!
//! Statuses, bodies and headers are etcd's. What the answers say comes through [`Probe`]; nothing here knows
//! raft or the store. Only the client listener checks `Host` and sends CORS headers.

mod access;
mod answer;
mod checks;
mod encoding;
mod health;
mod info;
mod probe;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::any;

pub use access::Access;
pub use probe::{Alarm, Probe, ReadFuture, Versions};

use crate::metrics::Metrics;

/// What every handler is given.
#[derive(Clone)]
pub struct HttpState {
    /// The member behind the endpoints.
    pub probe: Arc<dyn Probe>,
    /// What `/metrics` shows and the checks count into.
    pub metrics: Arc<Metrics>,
    /// Who may ask, on the client listener.
    pub access: Arc<Access>,
}

/// The routes of a client listener, for requests that are not gRPC.
pub fn client_router(state: HttpState) -> Router {
    probes()
        .route("/version", any(info::version))
        .route("/debug/vars", any(info::vars))
        .fallback(answer::not_found)
        .layer(middleware::from_fn_with_state(state.clone(), access::check))
        .with_state(state)
}

/// The routes of a `--listen-metrics-urls` listener.
pub fn metrics_router(state: HttpState) -> Router {
    probes().fallback(answer::not_found).with_state(state)
}

fn probes() -> Router<HttpState> {
    let mut router =
        Router::new().route("/health", any(health::health)).route("/metrics", any(info::metrics));
    for group in [checks::LIVEZ, checks::READYZ] {
        router = router
            .route(group.path, any(move |state, method, query| checks::all(group, state, method, query)));
        for check in group.checks {
            let path = format!("{}/{}", group.path, check.name());
            let one = move |state, method, query| checks::one(group, *check, state, method, query);
            router = router.route(&path, any(one));
        }
    }
    router
}

#[cfg(test)]
mod tests;
