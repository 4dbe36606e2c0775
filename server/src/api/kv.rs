//! The KV service.

use std::sync::Arc;

use ketch_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest,
    TxnRequest,
};
use ketch_proto::rpc_error::RpcError;

use super::answer::{DeleteAnswer, PutAnswer, RangeAnswer, TxnAnswer};
use super::context::Context;
use super::error::ApiError;
use super::slow::apply::{Read, Reading};
use super::{Api, range, validate};
use crate::apply::answer::{self as applied, Answer};
use crate::apply::txn;
use crate::clock::Stopwatch;
use crate::metrics::Asked;
use crate::quota;

/// `KV.Range`.
pub async fn range(api: Arc<Api>, context: Context, request: RangeRequest) -> Result<RangeAnswer, ApiError> {
    if !request.serializable && api.shared.standing().is_learner {
        return Err(RpcError::NotSupportedForLearner.into());
    }
    validate::range(&request)?;
    let timed = api.metrics.requests.time(Asked::Range);
    let reading = Reading::start(&api, Read::Range(&request));
    let found = read(&api, &context, &request).await.map_err(|error| context.name_timeout(error));
    reading.end(found.as_ref());
    timed.end(found.is_ok());
    let mut answer = found?;
    answer.header = api.shared.header(answer.header.revision);
    Ok(answer)
}

async fn read(api: &Api, context: &Context, request: &RangeRequest) -> Result<RangeAnswer, ApiError> {
    if !request.serializable {
        api.barrier.pass(context.deadline).await?;
    }
    let query = txn::query_of(request);
    let watch = Stopwatch::start();
    let found = range::read(api, api.shared.reader.view(), query).await;
    api.metrics.requests.observe_ranges(found.is_ok(), watch.elapsed(), 1);
    found
}

/// `KV.Put`.
pub async fn put(api: Arc<Api>, context: Context, request: PutRequest) -> Result<PutAnswer, ApiError> {
    api.admit(&context, quota::put_cost(&request)).await?;
    validate::put(&request)?;
    let command = InternalRaftRequest { put: Some(request), ..InternalRaftRequest::default() };
    match propose(&api, &context, command).await? {
        Answer::Put(put) => Ok(range::put_answer(put, |revision| api.shared.header(revision))),
        _ => Err(ApiError::mismatched()),
    }
}

/// `KV.DeleteRange`.
pub async fn delete(
    api: Arc<Api>,
    context: Context,
    request: DeleteRangeRequest,
) -> Result<DeleteAnswer, ApiError> {
    validate::delete(&request)?;
    let command = InternalRaftRequest { delete_range: Some(request), ..InternalRaftRequest::default() };
    match propose(&api, &context, command).await? {
        Answer::Delete(delete) => Ok(range::delete_answer(delete, |revision| api.shared.header(revision))),
        _ => Err(ApiError::mismatched()),
    }
}

/// `KV.Txn`.
pub async fn txn(api: Arc<Api>, context: Context, request: TxnRequest) -> Result<TxnAnswer, ApiError> {
    api.admit(&context, quota::txn_cost(&request)).await?;
    validate::txn(&request, api.limits.txn_ops_max)?;
    let applied = if txn::is_read_only(&request) {
        return read_only(&api, &context, &request).await;
    } else {
        let command = InternalRaftRequest { txn: Some(request), ..InternalRaftRequest::default() };
        match propose(&api, &context, command).await? {
            Answer::Txn(txn) => txn,
            _ => return Err(ApiError::mismatched()),
        }
    };
    complete(&api, applied).await
}

async fn read_only(api: &Api, context: &Context, request: &TxnRequest) -> Result<TxnAnswer, ApiError> {
    if !txn::is_serializable(request) {
        api.barrier.pass(context.deadline).await?;
    }
    let timed = api.metrics.requests.time(Asked::ReadonlyTxn);
    let reading = Reading::start(api, Read::Txn(request));
    let found = read_branch(api, request).await;
    reading.end(found.as_ref());
    timed.end(found.is_ok());
    let mut answer = found?;
    answer.header = api.shared.header(answer.header.revision);
    Ok(answer)
}

async fn read_branch(api: &Api, request: &TxnRequest) -> Result<TxnAnswer, ApiError> {
    range::complete(api, txn::read_only(&api.shared.reader.view(), request)??).await
}

async fn complete(api: &Api, applied: applied::TxnAnswer) -> Result<TxnAnswer, ApiError> {
    let revision = applied.revision;
    let mut answer = range::complete(api, applied).await?;
    answer.header = api.shared.header(revision);
    Ok(answer)
}

/// `KV.Compact`.
pub async fn compact(
    api: Arc<Api>,
    context: Context,
    request: CompactionRequest,
) -> Result<CompactionResponse, ApiError> {
    let (physical, wanted) = (request.physical, request.revision);
    let command = InternalRaftRequest { compaction: Some(request), ..InternalRaftRequest::default() };
    let Answer::Compact { revision } = propose(&api, &context, command).await? else {
        return Err(ApiError::mismatched());
    };
    if physical {
        // However long it takes, as in etcd: a client that loses patience goes away, and this with it.
        let mut done = api.shared.compacted.subscribe();
        if done.wait_for(|&compacted| compacted >= wanted).await.is_err() {
            return Err(RpcError::ServerStopped.into());
        }
    }
    Ok(CompactionResponse { header: Some(api.shared.header(revision)) })
}

async fn propose(api: &Api, context: &Context, command: InternalRaftRequest) -> Result<Answer, ApiError> {
    Ok(api.proposer.propose(&context.caller, command, context.deadline).await?)
}
