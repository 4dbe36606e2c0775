//! Calls of one request and one answer that took long (`--warning-unary-request-duration`): a line in the log for each, in etcd's words.
//! Nothing is made of a request that did not.

pub mod apply;
mod text;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ketch_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};
use prost::Message;
use tokio::time::Instant;
use tracing::Level;

use super::Api;
use crate::clock;
use crate::config::duration_text;
use crate::logging::timestamp;

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote(pub Option<SocketAddr>);

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            // At a unix socket, as Go names it.
            None => f.write_str("@"),
        }
    }
}

/// What a line says of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// Keys that a range has, or that were deleted.
    pub count: i64,
    /// Pairs that are in a range's answer.
    pub pairs: usize,
    /// Whether a transaction's comparisons held.
    pub succeeded: bool,
    /// Bytes of the message.
    pub bytes: usize,
}

/// A call and what came of it.
pub(super) struct Call<'a> {
    pub(super) path: &'a str,
    pub(super) remote: Remote,
    /// The request.
    pub(super) message: &'a Bytes,
    pub(super) took: Duration,
    /// `None` if it failed.
    pub(super) answer: Option<Facts>,
}

/// Whether a call that took so long is worth a line. All are where everything is logged.
pub(super) fn is_slow(api: &Api, took: Duration) -> bool {
    took > api.limits.warn_after || tracing::enabled!(Level::DEBUG)
}

/// Whether ranges that took so long together are worth a line of either kind.
pub(super) fn is_slow_read(api: &Api, took: Duration) -> bool {
    took > api.limits.warn_apply_after || is_slow(api, took)
}

/// Numbers and text of a line; -1 for what etcd does not look at.
struct Stats {
    requests: i64,
    request_bytes: i64,
    answers: i64,
    answer_bytes: i64,
    content: String,
}

impl Stats {
    fn of(call: &Call<'_>) -> Stats {
        let answer = call.answer.unwrap_or_default();
        let (bytes, message) = (call.message.len(), call.message.clone());
        let known = match call.path {
            "/etcdserverpb.KV/Range" => RangeRequest::decode(message)
                .ok()
                .map(|request| (0, bytes, answer.count, text::range(&request))),
            "/etcdserverpb.KV/Put" => {
                PutRequest::decode(message).ok().map(|request| (1, bytes, 0, text::put(&request)))
            }
            "/etcdserverpb.KV/DeleteRange" => DeleteRangeRequest::decode(message)
                .ok()
                .map(|request| (0, bytes, answer.count, text::delete(&request))),
            "/etcdserverpb.KV/Txn" => TxnRequest::decode(message).ok().map(|request| {
                if call.answer.is_none() {
                    return (0, 0, 0, String::new());
                }
                // Of the branch that was taken.
                let branch = if answer.succeeded { &request.success } else { &request.failure };
                let bytes = branch.iter().map(Message::encoded_len).sum();
                (branch.len() as i64, bytes, 0, text::txn(&request))
            }),
            _ => None,
        };
        match known {
            Some((requests, bytes, answers, content)) => Stats {
                requests,
                request_bytes: bytes as i64,
                answers,
                answer_bytes: answer.bytes as i64,
                content,
            },
            None => Stats {
                requests: -1,
                request_bytes: -1,
                answers: -1,
                answer_bytes: -1,
                content: String::new(),
            },
        }
    }
}

/// Writes the line of a call that [`is_slow`].
pub(super) fn report(api: &Api, call: &Call<'_>) {
    macro_rules! line {
        ($level:expr) => {{
            let stats = Stats::of(call);
            let took = i64::try_from(call.took.as_nanos()).unwrap_or(i64::MAX);
            tracing::event!(
                $level,
                "start time" = timestamp(clock::wall() - call.took),
                "time spent" = duration_text(took),
                remote = %call.remote,
                "response type" = call.path,
                "request count" = stats.requests,
                "request size" = stats.request_bytes,
                "response count" = stats.answers,
                "response size" = stats.answer_bytes,
                "request content" = stats.content,
                "request stats"
            );
        }};
    }
    // As in etcd a slow one does not stand out where all are logged.
    if tracing::enabled!(Level::DEBUG) {
        line!(Level::DEBUG);
    } else if call.took > api.limits.warn_after {
        line!(Level::WARN);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A call under way. It is looked at when it is dropped, also if the client has left.
pub struct Watch {
    api: Arc<Api>,
    path: &'static str,
    remote: Remote,
    message: Bytes,
    start: Instant,
    answer: Option<Facts>,
}

impl Watch {
    /// One of the method at `path` that began at `start`.
    pub(super) fn of(
        api: Arc<Api>,
        path: &'static str,
        remote: Remote,
        message: Bytes,
        start: Instant,
    ) -> Watch {
        Watch { api, path, remote, message, start, answer: None }
    }

    /// It was answered.
    pub(super) fn answered(mut self, answer: Facts) {
        self.answer = Some(answer);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let took = self.start.elapsed();
        if is_slow(&self.api, took) {
            let Watch { path, remote, ref message, answer, .. } = *self;
            let call = Call { path, remote, message, took, answer };
            report(&self.api, &call);
        }
    }
}
