//! `/version`, `/metrics` and `/debug/vars`: what a member says of itself.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use axum::http::{Method, Response, StatusCode};
use serde_json::json;

use super::{HttpState, answer, encoding};
use crate::metrics;
use crate::version;

/// Versions of server, cluster and stored data. Patroni takes each part for a number: no suffix may appear.
pub(super) async fn version(State(state): State<HttpState>, method: Method) -> Response<Body> {
    if let Some(response) = answer::get_only(&method) {
        return response;
    }
    let versions = state.probe.versions();
    let cluster = versions.cluster.as_deref().unwrap_or("not_decided");
    let storage = versions.storage.as_deref().unwrap_or("unknown");
    let server = version::SERVER;
    let body =
        format!("{{\"etcdserver\":\"{server}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{storage}\"}}");
    answer::typed(HeaderValue::from_static("application/json"), body)
}

/// The page of a scrape, for any method.
pub(super) async fn metrics(State(state): State<HttpState>, headers: HeaderMap) -> Response<Body> {
    let (kind, page) = (HeaderValue::from_static(metrics::CONTENT_TYPE), state.metrics.render());
    if !encoding::prefers_gzip(&headers) {
        return answer::typed(kind, page);
    }
    // It takes a millisecond, which nobody else's requests are to wait for.
    let packed = tokio::task::spawn_blocking(move || encoding::gzip(&page)).await;
    let Ok(Ok(packed)) = packed else {
        return answer::error(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be compressed");
    };
    let mut response = answer::typed(kind, packed);
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

/// The command line and the limit of open files. The memory statistics of Go's runtime have no counterpart.
pub(super) async fn vars(method: Method) -> Response<Body> {
    if let Some(response) = answer::get_only(&method) {
        return response;
    }
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let limit = metrics::file_limit().unwrap_or(0);
    let body = format!("{{\n\"cmdline\": {},\n\"file_descriptor_limit\": {limit}\n}}\n", json!(args));
    answer::typed(HeaderValue::from_static("application/json; charset=utf-8"), body)
}
