//! `KV.RangeStream`: a range in messages of about the size of the largest request, from one state of the store.
//!
//! etcd's contract (`v3_server.go`, 3.7): the first message has up to ten pairs; each following one has twice as many
//! while the last was below half of the size aimed at, and half as many when it was above twice that size. Only the
//! last message has header, `more` and `count`. A client that reads slowly makes the store wait with two messages read
//! ahead.

use std::sync::Arc;

use ketch_mvcc::{KeyRange, KeyValue, View};
use ketch_proto::etcdserverpb::{RangeRequest, range_request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{LastOfRange, RangeChunk};
use super::context::Context;
use super::error::ApiError;
use super::{Api, range, validate};
use crate::grpc::outgoing::pairs_len;

/// Pairs in the first message.
const FIRST_CHUNK: usize = 10;

/// The messages of an answer.
pub type Chunks = ReceiverStream<Result<RangeChunk, ApiError>>;

/// Answers `KV.RangeStream`.
///
/// # Errors
/// A request that a stream cannot serve, a compacted or future revision, no leader in time.
pub async fn range_stream(
    api: Arc<Api>,
    context: Context,
    request: RangeRequest,
) -> Result<Chunks, ApiError> {
    validate::range(&request)?;
    check(&request)?;
    if !request.serializable {
        api.barrier.pass(context.deadline).await?;
    }
    let mut walk = Walk::new(&api, request)?;
    let first = walk.next().await?;
    let ended = first.last.is_some();
    let (sender, receiver) = mpsc::channel(1);
    let _received = sender.try_send(Ok(first));
    if !ended {
        tokio::spawn(walk.go_on(sender));
    }
    Ok(ReceiverStream::new(receiver))
}

fn check(request: &RangeRequest) -> Result<(), ApiError> {
    let ordered = request.sort_order != range_request::SortOrder::None as i32
        && (request.sort_target != range_request::SortTarget::Key as i32
            || request.sort_order != range_request::SortOrder::Ascend as i32);
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let unserved = if ordered {
        "custom sort orders"
    } else if filters.iter().any(|&filter| filter != 0) {
        "revision filters"
    } else {
        return Ok(());
    };
    Err(ApiError::Unimplemented(format!("RangeStream does not support {unserved}")))
}

/// A walk through the range, a message at a time.
struct Walk {
    api: Arc<Api>,
    view: View,
    range: KeyRange,
    revision: i64,
    /// `None` only while a chunk is being read.
    pairs: Option<Pairs>,
    count_only: bool,
    /// Pairs that may still come.
    left: usize,
    sent: usize,
    chunk: usize,
}

/// The store's iterator, one pair ahead: whether there is more must be known with the last pair.
struct Pairs {
    iter: ketch_mvcc::Iter,
    ahead: Option<KeyValue>,
}

impl Pairs {
    /// Up to `max` pairs.
    fn take(&mut self, max: usize) -> Result<Vec<KeyValue>, ApiError> {
        let mut kvs = Vec::new();
        while kvs.len() < max {
            let next = match self.ahead.take() {
                Some(ahead) => Some(ahead),
                None => self.iter.next().transpose()?,
            };
            match next {
                Some(pair) => kvs.push(pair),
                None => return Ok(kvs),
            }
        }
        self.ahead = self.iter.next().transpose()?;
        Ok(kvs)
    }
}

impl Walk {
    fn new(api: &Arc<Api>, request: RangeRequest) -> Result<Walk, ApiError> {
        let view = api.shared.reader.view();
        let range = KeyRange::from_wire(request.key, request.range_end);
        let iter = view.iter(range.clone(), request.revision)?.keys_only(request.keys_only);
        let left = usize::try_from(request.limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX);
        Ok(Walk {
            api: Arc::clone(api),
            view,
            range,
            revision: request.revision,
            pairs: Some(Pairs { iter, ahead: None }),
            count_only: request.count_only,
            left,
            sent: 0,
            chunk: FIRST_CHUNK.min(left),
        })
    }

    async fn go_on(mut self, sender: mpsc::Sender<Result<RangeChunk, ApiError>>) {
        loop {
            let chunk = self.next().await;
            let last = chunk.as_ref().map_or(true, |chunk| chunk.last.is_some());
            // A client that has gone away has no receiver any more.
            if sender.send(chunk).await.is_err() || last {
                return;
            }
        }
    }

    /// The next message.
    async fn next(&mut self) -> Result<RangeChunk, ApiError> {
        if self.count_only {
            let count = self.view.count(&self.range, self.revision)?;
            return Ok(RangeChunk { kvs: Vec::new(), last: Some(self.last(false, count)) });
        }
        let (kvs, more) = self.read().await?;
        self.sent += kvs.len();
        self.left -= kvs.len().min(self.left);
        let last = if more && self.left > 0 {
            self.adapt(&kvs);
            None
        } else {
            // A range read to its end is counted by it.
            let count = if more { self.view.count(&self.range, self.revision)? } else { self.sent as u64 };
            Some(self.last(more, count))
        };
        Ok(RangeChunk { kvs, last })
    }

    async fn read(&mut self) -> Result<(Vec<KeyValue>, bool), ApiError> {
        let Some(mut pairs) = self.pairs.take() else { return Ok((Vec::new(), false)) };
        let chunk = self.chunk;
        let (kvs, pairs) = if chunk as u64 > range::LARGE {
            range::beside(&self.api, move || Ok((pairs.take(chunk)?, pairs))).await?
        } else {
            (pairs.take(chunk)?, pairs)
        };
        let more = pairs.ahead.is_some();
        self.pairs = Some(pairs);
        Ok((kvs, more))
    }

    /// Chooses how many pairs the next message has.
    fn adapt(&mut self, kvs: &[KeyValue]) {
        let size = pairs_len(2, kvs);
        let wanted = self.api.limits.request_bytes_max;
        if size < wanted / 2 {
            self.chunk *= 2;
        } else if size > wanted * 2 {
            self.chunk = (self.chunk / 2).max(1);
        }
        self.chunk = self.chunk.min(self.left);
    }

    fn last(&self, more: bool, count: u64) -> LastOfRange {
        let header = self.api.shared.header(self.view.revision());
        LastOfRange { header, more, count: i64::try_from(count).unwrap_or(i64::MAX) }
    }
}
