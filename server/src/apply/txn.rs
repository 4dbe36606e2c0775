//! Transactions: compare, check, then carry out the branch that the comparisons chose.
//!
//! All comparisons of a transaction and of those nested in it are made against the state before it; then the
//! chosen operations are checked; only then does anything change. So a refused transaction changes nothing.

use std::cmp::Ordering;

use ketch_mvcc::{Fault, KeyRange, KeyValue, Query, ReadError, Store, View, WriteTxn};
use ketch_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};

use super::answer::{Answer, ApplyError, OpAnswer, Outcome, PendingRange, TxnAnswer};
use super::{kv, size};

/// What comparisons and checks read: a published view or the state inside a write transaction.
trait Reads {
    fn revision(&self) -> i64;
    fn compacted(&self) -> i64;
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Fault>;
    fn range(&self, query: &Query) -> Result<Vec<KeyValue>, ReadError>;
}

impl Reads for View {
    fn revision(&self) -> i64 {
        View::revision(self)
    }
    fn compacted(&self) -> i64 {
        View::compacted(self)
    }
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Fault> {
        View::get(self, key)
    }
    fn range(&self, query: &Query) -> Result<Vec<KeyValue>, ReadError> {
        View::range(self, query).map(|found| found.kvs)
    }
}

impl Reads for WriteTxn<'_> {
    fn revision(&self) -> i64 {
        WriteTxn::revision(self)
    }
    fn compacted(&self) -> i64 {
        WriteTxn::compacted(self)
    }
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Fault> {
        WriteTxn::get(self, key)
    }
    fn range(&self, query: &Query) -> Result<Vec<KeyValue>, ReadError> {
        WriteTxn::range(self, query).map(|found| found.kvs)
    }
}

/// Carries out a transaction that may write. `wanted` says whether somebody on this member waits for the
/// answer; without it, ranges are not even prepared.
///
/// # Errors
/// A fault of the store.
pub fn apply(store: &mut Store, request: &TxnRequest, wanted: bool) -> Result<Outcome, Fault> {
    let mut txn = store.txn();
    let path = choose(&txn, request)?;
    let mut tombstones = 0;
    delete_bytes(&txn, request, &path, &mut tombstones)?;
    let verdict = size::check(tombstones);
    if let Err(refusal) = check(&txn, request, &path)?.and(verdict) {
        return Ok(Err(refusal));
    }
    let mut answer = execute(&mut txn, request, &path, wanted)?;
    answer.revision = txn.revision();
    txn.finish();
    Ok(Ok(Answer::Txn(answer)))
}

/// Answers a transaction that only reads, from `view`, without raft.
///
/// # Errors
/// A fault of the store.
pub fn read_only(view: &View, request: &TxnRequest) -> Result<Result<TxnAnswer, ApplyError>, Fault> {
    let path = choose(view, request)?;
    if let Err(refusal) = check(view, request, &path)? {
        return Ok(Err(refusal));
    }
    let ops = path.branch(request).iter().filter_map(|op| match &op.request {
        Some(Request::RequestRange(range)) => Some(pending(view.clone(), range)),
        _ => None,
    });
    let ops = ops.collect();
    Ok(Ok(TxnAnswer { revision: Reads::revision(view), succeeded: path.succeeded, ops }))
}

/// Whether a transaction has range operations only.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    all_ranges(request, |_| true)
}

/// Whether a transaction has serializable range operations only.
#[must_use]
pub fn is_serializable(request: &TxnRequest) -> bool {
    all_ranges(request, |range| range.serializable)
}

fn all_ranges(request: &TxnRequest, holds: impl Fn(&RangeRequest) -> bool) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if holds(range)))
}

/// The branches taken: of a transaction, and of the transactions nested in its branch in their order.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

impl Path {
    fn branch<'r>(&self, request: &'r TxnRequest) -> &'r [RequestOp] {
        if self.succeeded { &request.success } else { &request.failure }
    }
}

fn choose(reads: &impl Reads, request: &TxnRequest) -> Result<Path, Fault> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(reads, compare)? {
            succeeded = false;
            break;
        }
    }
    let mut path = Path { succeeded, nested: Vec::new() };
    for op in path.branch(request) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            path.nested.push(choose(reads, nested)?);
        }
    }
    Ok(path)
}

fn holds(reads: &impl Reads, compare: &Compare) -> Result<bool, Fault> {
    if compare.range_end.is_empty() {
        let found = reads.get(&compare.key)?;
        return Ok(holds_for(compare, found.as_ref()));
    }
    let query = Query::new(kv::key_range(&compare.key, &compare.range_end));
    match reads.range(&query) {
        Ok(found) if found.is_empty() => Ok(holds_for(compare, None)),
        Ok(found) => Ok(found.iter().all(|pair| holds_for(compare, Some(pair)))),
        Err(ReadError::Fault(fault)) => Err(fault),
        Err(_) => Ok(false),
    }
}

/// A key that does not exist compares as zero everywhere, except that no comparison of its value holds:
/// there is no way to say "no value".
fn holds_for(compare: &Compare, pair: Option<&KeyValue>) -> bool {
    let number = |of: fn(&KeyValue) -> i64| pair.map_or(0, of);
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let Some(pair) = pair else { return false };
            let wanted = match union {
                Some(TargetUnion::Value(value)) => value.as_ref(),
                _ => &[],
            };
            pair.value().as_ref().cmp(wanted)
        }
        Ok(CompareTarget::Create) => number(KeyValue::create_revision).cmp(&match union {
            Some(TargetUnion::CreateRevision(wanted)) => *wanted,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => number(KeyValue::mod_revision).cmp(&match union {
            Some(TargetUnion::ModRevision(wanted)) => *wanted,
            _ => 0,
        }),
        Ok(CompareTarget::Version) => number(KeyValue::version).cmp(&match union {
            Some(TargetUnion::Version(wanted)) => *wanted,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => number(KeyValue::lease).cmp(&match union {
            Some(TargetUnion::Lease(wanted)) => *wanted,
            _ => 0,
        }),
        // A target of a later version compares as equal, as it does in etcd.
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

fn check(reads: &impl Reads, request: &TxnRequest, path: &Path) -> Result<Result<(), ApplyError>, Fault> {
    let mut nested = path.nested.iter();
    for op in path.branch(request) {
        let verdict = match &op.request {
            Some(Request::RequestRange(range)) => check_range(reads, range),
            Some(Request::RequestPut(put)) => check_put(reads, put)?,
            Some(Request::RequestTxn(inner)) => match nested.next() {
                Some(inner_path) => check(reads, inner, inner_path)?,
                None => Ok(()),
            },
            Some(Request::RequestDeleteRange(_)) | None => Ok(()),
        };
        if verdict.is_err() {
            return Ok(verdict);
        }
    }
    Ok(Ok(()))
}

/// What the deletes of the chosen branches write together.
fn delete_bytes(txn: &WriteTxn<'_>, request: &TxnRequest, path: &Path, bytes: &mut u64) -> Result<(), Fault> {
    let mut nested = path.nested.iter();
    for op in path.branch(request) {
        match &op.request {
            Some(Request::RequestDeleteRange(delete)) => {
                *bytes += size::tombstones(txn, &kv::key_range(&delete.key, &delete.range_end))?;
            }
            Some(Request::RequestTxn(inner)) => {
                if let Some(inner_path) = nested.next() {
                    delete_bytes(txn, inner, inner_path, bytes)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_range(reads: &impl Reads, range: &RangeRequest) -> Result<(), ApplyError> {
    if range.revision == 0 {
        Ok(())
    } else if range.revision > reads.revision() {
        Err(ApplyError::FutureRevision)
    } else if range.revision < reads.compacted() {
        Err(ApplyError::Compacted)
    } else {
        Ok(())
    }
}

fn check_put(reads: &impl Reads, put: &PutRequest) -> Result<Result<(), ApplyError>, Fault> {
    let previous = if put.ignore_value || put.ignore_lease { reads.get(&put.key)? } else { None };
    Ok(kv::check_put(put, previous.as_ref()))
}

fn execute(
    txn: &mut WriteTxn<'_>,
    request: &TxnRequest,
    path: &Path,
    wanted: bool,
) -> Result<TxnAnswer, Fault> {
    let mut nested = path.nested.iter();
    let mut ops = Vec::new();
    for op in path.branch(request) {
        let answer = match &op.request {
            Some(Request::RequestRange(range)) if wanted => pending(txn.view(), range),
            Some(Request::RequestRange(_)) | None => continue,
            Some(Request::RequestPut(put)) => {
                let previous = kv::previous_if_needed(txn, put, wanted)?;
                OpAnswer::Put(kv::put_in(txn, put, previous, wanted)?)
            }
            Some(Request::RequestDeleteRange(delete)) => {
                OpAnswer::Delete(kv::delete_in(txn, delete, wanted)?)
            }
            Some(Request::RequestTxn(inner)) => match nested.next() {
                Some(inner_path) => OpAnswer::Txn(execute(txn, inner, inner_path, wanted)?),
                None => continue,
            },
        };
        ops.push(answer);
    }
    Ok(TxnAnswer { revision: 0, succeeded: path.succeeded, ops })
}

fn pending(view: View, range: &RangeRequest) -> OpAnswer {
    let revision = view.revision();
    OpAnswer::Range(Box::new(PendingRange { view, query: query_of(range), revision }))
}

/// The store's query for a range request. The request's enums were validated before it was proposed.
#[must_use]
pub fn query_of(range: &RangeRequest) -> Query {
    use ketch_mvcc::{SortOrder, SortTarget};
    use ketch_proto::etcdserverpb::range_request as wire;
    let target = match wire::SortTarget::try_from(range.sort_target) {
        Ok(wire::SortTarget::Version) => SortTarget::Version,
        Ok(wire::SortTarget::Create) => SortTarget::Create,
        Ok(wire::SortTarget::Mod) => SortTarget::Mod,
        Ok(wire::SortTarget::Value) => SortTarget::Value,
        Ok(wire::SortTarget::Key) | Err(_) => SortTarget::Key,
    };
    let sort = match wire::SortOrder::try_from(range.sort_order) {
        Ok(wire::SortOrder::Ascend) => Some((target, SortOrder::Ascend)),
        Ok(wire::SortOrder::Descend) => Some((target, SortOrder::Descend)),
        // Without an order, anything but the key sorts upwards, though only after the limit was applied.
        _ if target != SortTarget::Key => Some((target, SortOrder::None)),
        _ => None,
    };
    Query {
        range: KeyRange::from_wire(range.key.clone(), range.range_end.clone()),
        revision: range.revision,
        limit: u64::try_from(range.limit).unwrap_or(0),
        count_only: range.count_only,
        keys_only: range.keys_only,
        sort,
        min_mod_revision: range.min_mod_revision,
        max_mod_revision: range.max_mod_revision,
        min_create_revision: range.min_create_revision,
        max_create_revision: range.max_create_revision,
    }
}
