//! The Watch service: many watches on one stream, each a cursor of the store's watch hub.
//!
//! | file | lives there |
//! | --- | --- |
//! | `create` | what a create request asks for, and when it is refused |
//! | `session` | one stream's watches: requests in, responses out; synchronous, without clock or socket |
//! | `progress` | when progress notices are due |
//! | `encode` | the bytes of responses, spliced from events that are encoded once for all watchers |
//! | `requests` | request messages out of the body of the call |
//! | `stream` | the body of the answer: a session, its timers and its end |
//!
//! A stream has no task and no queue of its own: the call asks the body for more when HTTP/2's windows have room, and only then are
//! requests read and events taken from the hub. What a slow client has not taken stays in the hub, which bounds it.

pub mod create;
pub mod encode;
pub mod progress;
pub mod requests;
pub mod session;
pub mod stream;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ketch_mvcc::WatchHub;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;

use super::Api;
use super::context::Context;
use super::streams::Signal;
use crate::grpc::answer::CONTENT_TYPE;
use crate::grpc::encoding::Encoding;
use crate::metrics::CallKind;
use crate::sync::lock;

/// What all watch streams of a member share.
#[derive(Debug)]
pub struct Watches {
    hub: WatchHub,
    progress_interval: Duration,
    opened: AtomicU64,
    /// Streams that wait until the hub has handed on what is published.
    waiting: Mutex<Vec<Arc<Signal>>>,
}

impl Watches {
    /// The watches of `hub`, with a progress notice to those who want them every `progress_interval`.
    #[must_use]
    pub fn new(hub: WatchHub, progress_interval: Duration) -> Watches {
        Watches { hub, progress_interval, opened: AtomicU64::new(0), waiting: Mutex::default() }
    }

    /// The store's hub.
    #[must_use]
    pub fn hub(&self) -> &WatchHub {
        &self.hub
    }

    /// Wakes `signal` once the hub has handed on more. The caller must look once more afterwards.
    fn wake_after_delivery(&self, signal: &Arc<Signal>) {
        lock(&self.waiting).push(Arc::clone(signal));
    }

    /// Called when the hub has handed on events.
    pub fn delivered(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.iter().for_each(|signal| signal.wake());
    }

    /// When progress notices of the next stream are due; see [`progress::Schedule`].
    fn schedule(&self) -> progress::Schedule {
        progress::Schedule::new(self.progress_interval, self.opened.fetch_add(1, Ordering::Relaxed))
    }
}

/// `Watch.Watch`.
pub fn serve<B>(api: Arc<Api>, request: http::Request<B>) -> http::Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of(&parts.headers);
    let context = match Context::of(&api, &MetadataMap::from_headers(parts.headers), CallKind::Stream) {
        Ok(context) => context,
        Err(error) => return Status::from(error).into_http(),
    };
    let limit = api.limits.message_bytes_max();
    let requests = requests::Requests::new(body, encoding, limit);
    let answer = stream::WatchBody::new(api, &context, requests, limit);
    let mut response = http::Response::new(Body::new(answer));
    response.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
    response
}
