//! The plain paths of the peer port, as far as etcd's clients and members use them, and the way to the lanes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::routing::{get, post};
use bytes::Bytes;
use ketch_proto::etcdserverpb::{HashKvRequest, ResponseHeader};
use ketch_proto::rpc_error::RpcError;
use tonic::metadata::MetadataMap;

use super::accept;
use super::ask::{HashAnswer, HashHeader, HashQuestion};
use super::handshake::{self, CLUSTER};
use super::network::Network;
use crate::api::Api;
use crate::api::cluster;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::api::maintenance::hash;
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

/// What members ask of a member that serves clients.
pub fn api_routes(api: Arc<Api>) -> Router {
    Router::new()
        .route("/members/hashkv", get(hash_kv))
        .route("/members/promote/{id}", post(promote))
        .route("/downgrade/enabled", get(downgrade_enabled))
        .with_state(api)
}

/// What the peer port of a member without peers answers.
pub fn router(api: Arc<Api>) -> Router {
    info(Arc::clone(&api.shared)).merge(api_routes(api))
}

/// The hash of the keys at a revision, for members that compare.
async fn hash_kv(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    if handshake::number(&headers, &CLUSTER, 16).is_some_and(|id| id != api.shared.cluster_id) {
        return accept::refuse(StatusCode::PRECONDITION_FAILED, handshake::CLUSTER_MISMATCH);
    }
    let Ok(HashQuestion { revision }) = serde_json::from_slice(&body) else {
        return accept::refuse(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    let Ok(context) = Context::of_peer(&api, &MetadataMap::new()) else {
        return accept::refuse(StatusCode::INTERNAL_SERVER_ERROR, "no context");
    };
    let request = HashKvRequest { revision };
    let found = match hash::hash_kv(Arc::clone(&api), context, request).await {
        Ok(found) => found,
        Err(ApiError::Rpc(error)) => {
            return accept::refuse(
                StatusCode::BAD_REQUEST,
                error.message().trim_start_matches("etcdserver: "),
            );
        }
        Err(error) => return accept::refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:?}")),
    };
    let ResponseHeader { cluster_id, member_id, revision, raft_term } = found.header.unwrap_or_default();
    let answer = HashAnswer {
        header: HashHeader { cluster_id, member_id, revision, raft_term },
        hash: found.hash,
        compact_revision: found.compact_revision,
        hash_revision: found.hash_revision,
    };
    json(&api.shared, serde_json::to_vec(&answer).unwrap_or_default())
}

/// Makes a learner a voter, for a member that was asked to and does not lead. Answers the members afterwards.
async fn promote(State(api): State<Arc<Api>>, Path(id): Path<u64>) -> Response<Body> {
    let Ok(context) = Context::of_peer(&api, &MetadataMap::new()) else {
        return accept::refuse(StatusCode::INTERNAL_SERVER_ERROR, "no context");
    };
    let error = match cluster::promote_here(&api, &context, id).await {
        Ok(_members) => return members(State(Arc::clone(&api.shared))).await,
        Err(ApiError::Rpc(error)) => error,
        Err(error) => return accept::refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:?}")),
    };
    let status = match error {
        RpcError::MemberNotFound => StatusCode::NOT_FOUND,
        RpcError::MemberNotLearner | RpcError::LearnerNotReady => StatusCode::PRECONDITION_FAILED,
        RpcError::TimedOut => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    accept::refuse(status, error.message())
}

async fn downgrade_enabled(State(api): State<Arc<Api>>) -> Response<Body> {
    json(&api.shared, api.shared.cluster().downgrade.enabled.to_string())
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
    let mut body = serde_json::to_vec(&members).unwrap_or_default();
    body.push(b'\n');
    json(&shared, body)
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
