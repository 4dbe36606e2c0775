//! Answers in the form that Go's `net/http` gives them: text, a newline, no sniffing.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Method, Response, StatusCode};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// `body` with a content type.
pub(super) fn typed(content_type: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Plain text that a browser must not take for anything else.
pub(super) fn text(body: String) -> Response<Body> {
    let mut response = typed(TEXT, body);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Plain text without that remark.
pub(super) fn sniffable_text(body: String) -> Response<Body> {
    typed(TEXT, body)
}

/// An error: its message on one line.
pub(super) fn error(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = text(format!("{message}\n"));
    *response.status_mut() = status;
    response
}

/// 404 for every path that is none.
pub(super) async fn not_found() -> Response<Body> {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// 405 for every method but GET, HEAD included.
pub(super) fn get_only(method: &Method) -> Option<Response<Body>> {
    if method == Method::GET {
        return None;
    }
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    Some(response)
}
