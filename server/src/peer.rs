//! The peer port of a cluster of one: it only tells who is here. Raft messages come with the cluster's work.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::api::Api;

/// What the peer port answers.
pub fn router(api: Arc<Api>) -> Router {
    Router::new().route("/members", get(members)).with_state(api)
}

async fn members(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let cluster = api.shared.cluster();
    let members: Vec<_> = cluster.members.values().collect();
    // Numbers, booleans and strings only: this cannot fail.
    let body = serde_json::to_vec(&members).unwrap_or_default();
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (HeaderName::from_static("x-etcd-cluster-id"), format!("{:x}", api.shared.cluster_id)),
    ];
    (headers, body)
}
