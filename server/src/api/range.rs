//! Ranges: small ones are read where the request is, large ones on a bounded pool beside it.

use std::convert::identity;

use ketch_mvcc::{KeyRange, Query, View};
use ketch_proto::etcdserverpb::ResponseHeader;
use ketch_proto::rpc_error::RpcError;

use super::Api;
use super::answer::{DeleteAnswer, OpAnswer, PutAnswer, RangeAnswer, TxnAnswer};
use super::error::ApiError;
use crate::apply::answer as applied;
use crate::aside::Stopping;
use crate::stint;

/// From how many pairs on a read leaves the request's thread.
pub(super) const LARGE: u64 = 512;
/// Up to how many pairs a read is done by the connection's task.
const SMALL: u64 = 32;

/// Reads `query` from `view`. The header names the revision only.
///
/// # Errors
/// A compacted or future revision, or a fault of the store.
pub async fn read(api: &Api, view: View, query: Query) -> Result<RangeAnswer, ApiError> {
    if !is_large(&view, &query)? {
        stint::asked();
        return read_here(&view, &query);
    }
    beside(api, move || read_here(&view.resting(stint::rest), &query)).await
}

/// Reads `query` from `view` if that takes no longer than handing it to somebody else; `None` also if it fails.
#[must_use]
pub fn read_if_small(view: &View, query: &Query) -> Option<RangeAnswer> {
    let is_small = matches!(query.range, KeyRange::Single(_))
        || query.count_only && !has_filters(query)
        || (1..=SMALL).contains(&query.limit) && query.sort.is_none() && !has_filters(query);
    let here = is_small && !is_large(view, query).ok()?;
    if here { read_here(view, query).ok() } else { None }
}

/// Completes a transaction's answer at once, unless it has ranges that take a while.
///
/// # Errors
/// The answer as it was, still to be completed; inside, a fault of the store.
pub fn complete_if_small(
    txn: applied::TxnAnswer,
) -> Result<Result<TxnAnswer, ApiError>, Box<applied::TxnAnswer>> {
    let mut pairs = 0;
    let counted: Result<(), ApiError> = for_each_range(&txn, &mut |range| {
        pairs += if matches!(range.query.range, KeyRange::Single(_)) { 1 } else { SMALL + 1 };
        Ok(())
    });
    if counted.is_err() || pairs > SMALL { Err(Box::new(txn)) } else { Ok(complete_here(txn, identity)) }
}

/// Completes a transaction's answer: its ranges are read from the roots that they were given.
///
/// # Errors
/// A fault of the store.
pub async fn complete(api: &Api, txn: applied::TxnAnswer) -> Result<TxnAnswer, ApiError> {
    let mut large = false;
    for_each_range(&txn, &mut |range| {
        large |= is_large(&range.view, &range.query)?;
        Ok(())
    })?;
    if large {
        beside(api, move || complete_here(txn, |view| view.resting(stint::rest))).await
    } else {
        complete_here(txn, identity)
    }
}

fn read_here(view: &View, query: &Query) -> Result<RangeAnswer, ApiError> {
    let found = view.range(query)?;
    Ok(RangeAnswer {
        header: revision_only(found.revision),
        kvs: found.kvs,
        more: found.more,
        count: i64::try_from(found.count).unwrap_or(i64::MAX),
    })
}

fn is_large(view: &View, query: &Query) -> Result<bool, ApiError> {
    if matches!(query.range, KeyRange::Single(_)) {
        return Ok(false);
    }
    if query.revision > 0 && query.revision != view.revision() {
        // What a range held then is not known without reading it.
        return Ok(true);
    }
    let whole = query.sort.is_some() || query.limit == 0 || query.limit > LARGE || has_filters(query);
    Ok(whole && !query.count_only && view.count(&query.range, 0)? > LARGE)
}

fn has_filters(query: &Query) -> bool {
    let filters = [
        query.min_mod_revision,
        query.max_mod_revision,
        query.min_create_revision,
        query.max_create_revision,
    ];
    filters.iter().any(|&filter| filter != 0)
}

/// Does `work` on the pool for large reads.
///
/// # Errors
/// What `work` answers, or that the member stops.
pub(crate) async fn beside<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    api.aside.read(work).await.unwrap_or_else(|Stopping| Err(RpcError::ServerStopped.into()))
}

fn for_each_range(
    txn: &applied::TxnAnswer,
    visit: &mut impl FnMut(&applied::PendingRange) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    txn.ops.iter().try_for_each(|op| match op {
        applied::OpAnswer::Range(range) => visit(range),
        applied::OpAnswer::Txn(nested) => for_each_range(nested, visit),
        applied::OpAnswer::Put(_) | applied::OpAnswer::Delete(_) => Ok(()),
    })
}

/// Completes an answer from the views that `prepare` makes of its own.
pub(super) fn complete_here(
    txn: applied::TxnAnswer,
    prepare: fn(View) -> View,
) -> Result<TxnAnswer, ApiError> {
    let ops = txn.ops.into_iter().map(|op| match op {
        applied::OpAnswer::Range(range) => {
            let mut answer = read_here(&prepare(range.view), &range.query)?;
            answer.header = revision_only(range.revision);
            Ok(OpAnswer::Range(answer))
        }
        applied::OpAnswer::Put(put) => Ok(OpAnswer::Put(put_answer(put, revision_only))),
        applied::OpAnswer::Delete(delete) => Ok(OpAnswer::Delete(delete_answer(delete, revision_only))),
        applied::OpAnswer::Txn(nested) => complete_here(nested, prepare).map(OpAnswer::Txn),
    });
    let ops = ops.collect::<Result<_, ApiError>>()?;
    Ok(TxnAnswer { header: revision_only(txn.revision), succeeded: txn.succeeded, ops })
}

/// The wire's answer to a put.
#[must_use]
pub fn put_answer(put: applied::PutAnswer, header: impl Fn(i64) -> ResponseHeader) -> PutAnswer {
    PutAnswer { header: header(put.revision), prev: put.prev }
}

/// The wire's answer to a delete.
#[must_use]
pub fn delete_answer(delete: applied::DeleteAnswer, header: impl Fn(i64) -> ResponseHeader) -> DeleteAnswer {
    DeleteAnswer { header: header(delete.revision), deleted: delete.deleted, prev_kvs: delete.prev_kvs }
}

/// Headers inside a transaction name nothing but the revision.
pub(super) fn revision_only(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..ResponseHeader::default() }
}
