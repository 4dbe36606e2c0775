//! `KV.RangeStream`: a range in messages of about the size of the largest request, from one state of the store.
//!
//! etcd's contract (`v3_server.go`, 3.7): the first message has up to ten pairs; each following one has twice as many
//! while the last was below half of the size aimed at, and half as many when it was above twice that size. Only the
//! last message has header, `more` and `count`. A target to sort by without an order sorts each message by it; an answer of
//! one message is the one that `Range` gives, longer ones go on in the order of keys, where etcd skips keys or repeats
//! them. A client that reads slowly has two messages read ahead for it;
//! one that takes nothing for a while loses its hold on the store's state, which would keep compaction from giving space
//! back. It can go on as long as its revision is not compacted, as in etcd.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ketch_mvcc::{KeyRange, KeyValue, Query, SortTarget, View};
use ketch_proto::etcdserverpb::{RangeRequest, range_request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{LastOfRange, RangeChunk};
use super::context::Context;
use super::error::ApiError;
use super::{Api, range, validate};
use crate::apply::txn::query_of;
use crate::grpc::outgoing::pairs_len;
use crate::stint;

/// Pairs in the first message.
const FIRST_CHUNK: usize = 10;

/// How long a state is held for a client that takes nothing.
const PATIENCE: Duration = Duration::from_secs(30);

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
    range: KeyRange,
    /// The revision that is read, and the store's when the stream began.
    revision: i64,
    began: i64,
    keys_only: bool,
    count_only: bool,
    /// What each message is sorted by, if not by key.
    sorted: Option<Query>,
    /// The state that is read, and where in it.
    hold: Option<Hold>,
    /// Where to go on without a hold; `None` behind the last pair.
    next_key: Option<Bytes>,
    /// Pairs that may still come.
    left: usize,
    sent: usize,
    chunk: usize,
}

/// What keeps a state of the store from being compacted.
struct Hold {
    view: View,
    pairs: Pairs,
}

/// The store's iterator, one pair ahead: whether there is more must be known with the last pair.
struct Pairs {
    iter: ketch_mvcc::Iter,
    ahead: Option<KeyValue>,
}

impl Pairs {
    /// Up to `max` pairs, with a `rest` among any few.
    fn take(&mut self, max: usize, rest: impl Fn()) -> Result<Vec<KeyValue>, ApiError> {
        const EVERY: usize = 256;
        let mut kvs = Vec::new();
        while kvs.len() < max {
            if kvs.len() % EVERY == EVERY - 1 {
                rest();
            }
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
        let query = query_of(&request);
        let range = query.range.clone();
        let left = usize::try_from(request.limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX);
        let view = api.shared.reader.view();
        let began = view.revision();
        let mut walk = Walk {
            api: Arc::clone(api),
            next_key: Some(range.start().clone()),
            range,
            revision: if request.revision > 0 { request.revision } else { began },
            began,
            keys_only: request.keys_only,
            count_only: request.count_only,
            sorted: query.sort.is_some_and(|(target, _)| target != SortTarget::Key).then_some(query),
            hold: None,
            left,
            sent: 0,
            // Below zero, everything comes in one message.
            chunk: if request.limit < 0 { left } else { FIRST_CHUNK.min(left) },
        };
        walk.hold(view)?;
        Ok(walk)
    }

    /// Takes hold of `view` where the walk is.
    fn hold(&mut self, view: View) -> Result<(), ApiError> {
        let Some(next) = self.next_key.take() else { return Ok(()) };
        let range = match &self.range {
            KeyRange::Span { end, .. } => KeyRange::Span { start: next, end: end.clone() },
            single @ KeyRange::Single(_) => single.clone(),
        };
        let iter = view.iter(range, self.revision)?.keys_only(self.keys_only || self.sorted.is_some());
        self.hold = Some(Hold { view, pairs: Pairs { iter, ahead: None } });
        Ok(())
    }

    /// Lets go of the state: compaction may go on.
    fn let_go(&mut self) {
        if let Some(hold) = self.hold.take() {
            self.next_key = hold.pairs.ahead.map(|pair| Bytes::copy_from_slice(pair.fields().key));
        }
    }

    async fn go_on(mut self, sender: mpsc::Sender<Result<RangeChunk, ApiError>>) {
        loop {
            let chunk = self.next().await;
            let last = chunk.as_ref().map_or(true, |chunk| chunk.last.is_some());
            // A client that has gone away has no receiver any more.
            let taken = match tokio::time::timeout(PATIENCE, sender.reserve()).await {
                Ok(place) => place,
                Err(_elapsed) => {
                    self.let_go();
                    sender.reserve().await
                }
            };
            match taken {
                Ok(place) => place.send(chunk),
                Err(_gone) => return,
            }
            if last {
                return;
            }
        }
    }

    /// The next message.
    async fn next(&mut self) -> Result<RangeChunk, ApiError> {
        if self.hold.is_none() {
            self.hold(self.api.shared.reader.view())?;
        }
        if self.count_only {
            return Ok(RangeChunk { kvs: Vec::new(), last: Some(self.last(false, self.count()?)) });
        }
        let (mut kvs, more) = self.read().await?;
        if let Some(query) = self.sorted.take() {
            kvs = self.sort(&query, kvs, more).await?;
            self.sorted = Some(query);
        }
        self.sent += kvs.len();
        self.left -= kvs.len().min(self.left);
        let last = if more && self.left > 0 {
            self.adapt(&kvs);
            None
        } else {
            // A range read to its end is counted by it.
            let count = if more { self.count()? } else { self.sent as u64 };
            Some(self.last(more, count))
        };
        Ok(RangeChunk { kvs, last })
    }

    fn count(&self) -> Result<u64, ApiError> {
        let Some(hold) = &self.hold else { return Ok(self.sent as u64) };
        Ok(hold.view.count(&self.range, self.revision)?)
    }

    async fn read(&mut self) -> Result<(Vec<KeyValue>, bool), ApiError> {
        let Some(Hold { view, mut pairs }) = self.hold.take() else { return Ok((Vec::new(), false)) };
        let chunk = self.chunk;
        let (kvs, pairs) = if chunk as u64 > range::LARGE {
            range::beside(&self.api, move || Ok((pairs.take(chunk, stint::rest)?, pairs))).await?
        } else {
            (pairs.take(chunk, || ())?, pairs)
        };
        let more = pairs.ahead.is_some();
        self.hold = Some(Hold { view, pairs });
        Ok((kvs, more))
    }

    /// The pairs of one message, sorted by the target of `query`.
    async fn sort(&self, query: &Query, kvs: Vec<KeyValue>, more: bool) -> Result<Vec<KeyValue>, ApiError> {
        let (Some(hold), Some(first), Some(last)) = (&self.hold, kvs.first(), kvs.last()) else {
            return Ok(kvs);
        };
        let mut query = Query { revision: self.revision, ..query.clone() };
        let whole = self.sent == 0 && (!more || kvs.len() >= self.left);
        if !whole && let KeyRange::Span { .. } = query.range {
            let start = Bytes::copy_from_slice(first.fields().key);
            // The least key behind the last one.
            let end = [last.fields().key, &[0]].concat();
            query.range = KeyRange::Span { start, end: Some(end.into()) };
            query.limit = 0;
        }
        Ok(range::read(&self.api, hold.view.clone(), query).await?.kvs)
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
        let header = self.api.shared.header(self.began);
        LastOfRange { header, more, count: i64::try_from(count).unwrap_or(i64::MAX) }
    }
}
