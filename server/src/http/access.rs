//! Who may ask the client listener in cleartext: `--host-whitelist` and `--cors`.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use axum::http::{Method, Response, StatusCode};
use axum::middleware::Next;

use super::{HttpState, answer};
use crate::config::Config;

const CORS_HEADERS: [(HeaderName, HeaderValue); 2] = [
    (
        HeaderName::from_static("access-control-allow-methods"),
        HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
    ),
    (
        HeaderName::from_static("access-control-allow-headers"),
        HeaderValue::from_static("accept, content-type, authorization"),
    ),
];
const ALLOW_ORIGIN: HeaderName = HeaderName::from_static("access-control-allow-origin");

/// Which `Host` names and origins are let in. An empty list, or `*` in it, lets in all.
#[derive(Debug, Clone, Default)]
pub struct Access {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Access {
    /// Takes the lists of `--host-whitelist` and `--cors`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { hosts: config.host_whitelist.clone(), origins: config.cors.clone() }
    }

    #[cfg(test)]
    pub(super) fn for_tests(hosts: Vec<String>, origins: Vec<String>) -> Self {
        Self { hosts, origins }
    }

    fn allows(list: &[String], item: &str) -> bool {
        list.is_empty() || list.iter().any(|allowed| allowed == "*" || allowed == item)
    }

    /// The value of `Access-Control-Allow-Origin`, if the origin may know the answer.
    fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if Self::allows(&self.origins, "*") {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = headers.get(ORIGIN)?;
        origin.to_str().is_ok_and(|text| Self::allows(&self.origins, text)).then(|| origin.clone())
    }
}

/// Lets a request through, or answers it itself.
pub(super) async fn check(State(state): State<HttpState>, request: Request, next: Next) -> Response<Body> {
    let host = host_name(&request);
    if !Access::allows(&state.access.hosts, &host) {
        tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
        return answer::error(StatusCode::MISDIRECTED_REQUEST, &rebinding(&host));
    }
    let origin = state.access.origin(request.headers());
    let mut response = if request.method() == Method::OPTIONS {
        Response::new(Body::empty())
    } else {
        next.run(request).await
    };
    if let Some(origin) = origin {
        response.headers_mut().extend(CORS_HEADERS.map(|(name, value)| (Some(name), value)));
        response.headers_mut().insert(ALLOW_ORIGIN, origin);
    }
    response
}

/// The name a request was sent to, without its port.
fn host_name(request: &Request) -> String {
    let header = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let host = request.uri().authority().map(http::uri::Authority::as_str).or(header).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(inner) => inner.split_once("]:").map(|(name, _port)| name),
        None => host.split_once(':').filter(|(_, port)| !port.contains(':')).map(|(name, _port)| name),
    };
    name.unwrap_or(host).to_owned()
}

fn rebinding(host: &str) -> String {
    format!(
        "\nthe Host header {host:?} is not one this server answers to (DNS rebinding, CVE-2018-5702).\n\n\
         Either use TLS, or start the server with --host-whitelist {host:?}\n"
    )
}
