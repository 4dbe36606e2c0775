//! What comes with a request beside its message: the caller, the deadline, what it insists on.

use std::pin::Pin;
use std::time::Duration;

use ketch_proto::metadata;
use ketch_proto::rpc_error::RpcError;
use tokio::time::{Instant, Sleep};
use tonic::metadata::{MetadataMap, MetadataValue};

use super::Api;
use super::error::ApiError;
use crate::caller::Caller;
use crate::clock;
use crate::metrics::{CallKind, UNKNOWN_VERSION};

/// The context of one request.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who asks.
    pub caller: Caller,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
    /// Whether that is the client's own deadline rather than the server's limit.
    pub clients_deadline: bool,
    /// When the client wants a stream to end, if it said so: the server's limit is not for streams.
    pub stream_deadline: Option<Instant>,
    /// Whether the client would rather fail than be served by a member that knows of no leader.
    pub wants_leader: bool,
}

impl Context {
    /// Reads a request's metadata, of a call of this kind.
    ///
    /// # Errors
    /// The error to answer with, before the request is looked at.
    pub fn of(api: &Api, metadata: &MetadataMap, kind: CallKind) -> Result<Context, ApiError> {
        let version = metadata.get(metadata::CLIENT_API_VERSION).map(MetadataValue::as_bytes);
        let version = std::str::from_utf8(version.unwrap_or(UNKNOWN_VERSION.as_bytes()))
            .map_err(|_| RpcError::InvalidClientAPIVersion)?;
        api.metrics.requests.of_version(kind, version).inc();
        Context::of_peer(api, metadata)
    }

    /// The same for a request of another member, which says no version and is counted nowhere.
    ///
    /// # Errors
    /// The error to answer with, before the request is looked at.
    pub fn of_peer(api: &Api, metadata: &MetadataMap) -> Result<Context, ApiError> {
        let wants_leader =
            metadata.get(metadata::HAS_LEADER).is_some_and(|value| value == metadata::HAS_LEADER_TRUE);
        if wants_leader && api.shared.standing().leader == 0 {
            return Err(RpcError::NoLeader.into());
        }
        let limit = api.limits.request_timeout;
        let clients = metadata.get("grpc-timeout").and_then(|value| timeout(value.as_bytes()));
        let now = clock::now();
        // It may be over on arrival: then nothing is begun, as in etcd.
        if clients.and_then(|clients| now.checked_add(clients)).is_some_and(|end| end <= clock::now()) {
            return Err(ApiError::DeadlineExceeded);
        }
        Ok(Context {
            caller: Caller::of(metadata),
            deadline: now + clients.map_or(limit, |clients| clients.min(limit)),
            clients_deadline: clients.is_some_and(|clients| clients < limit),
            stream_deadline: clients.and_then(|clients| now.checked_add(clients)),
            wants_leader,
        })
    }

    /// Sleeps until the stream of this call must end; `None` when it may go on for ever.
    #[must_use]
    pub fn stream_deadline(&self) -> Option<Pin<Box<Sleep>>> {
        self.stream_deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)))
    }

    /// What a timeout is called: the client's own deadline has an error of its own.
    #[must_use]
    pub fn name_timeout(&self, error: ApiError) -> ApiError {
        name_timeout(error, self.clients_deadline)
    }
}

/// See [`Context::name_timeout`].
pub(super) fn name_timeout(error: ApiError, clients_deadline: bool) -> ApiError {
    match error {
        ApiError::Rpc(RpcError::TimedOut) if clients_deadline => ApiError::DeadlineExceeded,
        other => other,
    }
}

/// Reads a `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, section Requests).
pub(super) fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        assert_eq!(timeout(b"5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout(b"4999m"), Some(Duration::from_millis(4999)));
        assert_eq!(timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for odd in [&b""[..], b"S", b"5", b"5x", b"-5S", b"123456789S", b"5.5S"] {
            assert_eq!(timeout(odd), None, "{odd:?}");
        }
    }
}
