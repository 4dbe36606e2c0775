//! What a create request asks for, and when it is refused. Rules and words are etcd's.

use bytes::Bytes;
use ketch_mvcc::{KeyRange, WatchRequest};
use ketch_proto::etcdserverpb::WatchCreateRequest;
use ketch_proto::etcdserverpb::watch_create_request::FilterType;
use ketch_proto::rpc_error::RpcError;

/// Why no watch was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The start revision is negative.
    NegativeStart,
    /// The end is not behind the start.
    EmptyRange,
    /// The stream has a watch of that id.
    DuplicateId,
}

impl Refusal {
    /// The words for `cancel_reason`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NegativeStart => RpcError::Compacted.message(),
            Self::EmptyRange => "mvcc: watcher range is empty",
            Self::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
        }
    }
}

/// The smallest key, and the end that stands for everything.
const ZERO: &[u8] = &[0];

/// Converts a create request.
///
/// # Errors
/// Why it is refused.
pub fn convert(request: &WatchCreateRequest) -> Result<WatchRequest, Refusal> {
    if request.start_revision < 0 {
        return Err(Refusal::NegativeStart);
    }
    // Copies: a watch that lives for long must not keep the buffer that its request came in.
    let start = if request.key.is_empty() { ZERO } else { &request.key };
    let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(&request.range_end));
    if !end.is_empty() && end != ZERO && start >= end {
        return Err(Refusal::EmptyRange);
    }
    let filtered = |kind: FilterType| request.filters.contains(&(kind as i32));
    Ok(WatchRequest {
        range: KeyRange::from_wire(start, end),
        start_revision: request.start_revision,
        previous: request.prev_kv,
        no_put: filtered(FilterType::Noput),
        no_delete: filtered(FilterType::Nodelete),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(key: &'static [u8], range_end: &'static [u8]) -> WatchCreateRequest {
        WatchCreateRequest {
            key: Bytes::from_static(key),
            range_end: Bytes::from_static(range_end),
            ..WatchCreateRequest::default()
        }
    }

    fn range(key: &'static [u8], range_end: &'static [u8]) -> Result<KeyRange, Refusal> {
        convert(&create(key, range_end)).map(|request| request.range)
    }

    #[test]
    fn empty_keys_and_zero_ends_are_the_ends_of_the_key_space() {
        let zero = || Bytes::from_static(ZERO);
        assert_eq!(range(b"", b""), Ok(KeyRange::Single(zero())));
        assert_eq!(range(b"", b"\0"), Ok(KeyRange::Span { start: zero(), end: None }));
        assert_eq!(range(b"a", b"\0"), Ok(KeyRange::Span { start: "a".into(), end: None }));
        assert_eq!(range(b"a", b"b"), Ok(KeyRange::Span { start: "a".into(), end: Some("b".into()) }));
    }

    #[test]
    fn refusals() {
        assert_eq!(range(b"b", b"a"), Err(Refusal::EmptyRange));
        assert_eq!(range(b"a", b"a"), Err(Refusal::EmptyRange));
        let negative = WatchCreateRequest { start_revision: -1, ..create(b"b", b"a") };
        assert_eq!(convert(&negative).unwrap_err(), Refusal::NegativeStart, "before the range is looked at");
    }

    #[test]
    fn unknown_filters_mean_nothing() {
        let request = WatchCreateRequest { filters: vec![1, 7, 1], ..create(b"a", b"") };
        let request = convert(&request).unwrap();
        assert!(request.no_delete && !request.no_put);
    }
}
