//! The plain paths of the peer port, as far as etcd's clients and members use them, and the way to the lanes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use axum::routing::get;

use super::accept;
use super::handshake::{self, CLUSTER};
use super::network::Network;
use crate::api::Api;
use crate::state::Shared;
use crate::{clock, logging, version};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Network {
    /// What the peer port answers: lanes, and the paths that tell of this member.
    pub fn router(self: &Arc<Self>, shared: Arc<Shared>) -> Router {
        Router::new()
            .route(&format!("{}{{lane}}", handshake::PATH), get(accept::open_lane))
            .with_state(Arc::clone(self))
            .merge(info(shared))
    }
}

/// What the peer port of a member without peers answers.
pub fn router(api: Arc<Api>) -> Router {
    info(Arc::clone(&api.shared))
}

fn info(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/members", get(members))
        .route("/version", get(versions))
        .route("/raft/probing", get(probing))
        .with_state(shared)
}

fn json(shared: &Shared, body: impl Into<Body>) -> Response<Body> {
    let mut answer = Response::new(body.into());
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    answer.headers_mut().insert(CLUSTER, handshake::hex(shared.cluster_id));
    answer
}

async fn members(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let cluster = shared.cluster();
    let members: Vec<_> = cluster.members.values().collect();
    // Numbers, booleans and strings only: this cannot fail.
    json(&shared, serde_json::to_vec(&members).unwrap_or_default())
}

async fn versions(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let cluster = shared.cluster();
    let agreed = cluster.version.as_deref().unwrap_or("not_decided");
    let (server, storage) = (version::SERVER, version::STORAGE);
    let body =
        format!("{{\"etcdserver\":\"{server}\",\"etcdcluster\":\"{agreed}\",\"storage\":\"{storage}\"}}");
    json(&shared, body)
}

/// A sign of life, in the form that etcd's members ask each other for.
async fn probing(State(shared): State<Arc<Shared>>) -> Response<Body> {
    json(&shared, format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", logging::timestamp(clock::wall())))
}
