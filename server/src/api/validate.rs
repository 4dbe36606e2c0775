//! What a request must look like before anything is done with it. The rules and their order are etcd's; an
//! invalid request changes nothing.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use ketch_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, range_request::SortOrder,
    range_request::SortTarget, request_op::Request,
};
use ketch_proto::rpc_error::RpcError;
use ketch_proto::strict::TXN_DEPTH_MAX;

/// Checks a range request.
///
/// # Errors
/// The error to answer with.
pub fn range(request: &RangeRequest) -> Result<(), RpcError> {
    if request.key.is_empty() {
        return Err(RpcError::EmptyKey);
    }
    let known =
        SortOrder::try_from(request.sort_order).is_ok() && SortTarget::try_from(request.sort_target).is_ok();
    if known { Ok(()) } else { Err(RpcError::InvalidSortOption) }
}

/// Checks a put request.
///
/// # Errors
/// The error to answer with.
pub fn put(request: &PutRequest) -> Result<(), RpcError> {
    if request.key.is_empty() {
        Err(RpcError::EmptyKey)
    } else if request.ignore_value && !request.value.is_empty() {
        Err(RpcError::ValueProvided)
    } else if request.ignore_lease && request.lease != 0 {
        Err(RpcError::LeaseProvided)
    } else {
        Ok(())
    }
}

/// Checks a delete request.
///
/// # Errors
/// The error to answer with.
pub fn delete(request: &DeleteRangeRequest) -> Result<(), RpcError> {
    if request.key.is_empty() { Err(RpcError::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction with at most `ops_max` operations a branch.
///
/// # Errors
/// The error to answer with.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), RpcError> {
    txn_shape(request, ops_max, 1)?;
    // Overlaps only once the size is known to be in bounds: the check is more than linear.
    for branch in [&request.success, &request.failure] {
        writes(branch)?.check_reuses()?;
    }
    Ok(())
}

fn txn_shape(request: &TxnRequest, ops_max: usize, depth: usize) -> Result<(), RpcError> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    if ops > ops_max || depth > TXN_DEPTH_MAX {
        return Err(RpcError::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(RpcError::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| op_shape(op, ops_max - ops, depth))
}

fn op_shape(op: &RequestOp, ops_max: usize, depth: usize) -> Result<(), RpcError> {
    match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete(request),
        Some(Request::RequestTxn(request)) => txn_shape(request, ops_max, depth + 1),
        None => Err(RpcError::KeyNotFound),
    }
}

/// What a branch may write: the keys it puts and the spans it deletes.
#[derive(Default)]
struct Writes {
    puts: HashSet<Bytes>,
    deletes: Spans,
    /// The smallest key from which on everything is deleted (`range_end` is `\0`).
    deleted_from: Option<Bytes>,
    /// The largest key of a put that keeps the value or the lease it finds.
    reuses: Option<Bytes>,
}

/// No key may be put twice in one branch, nor put and deleted, nested transactions included; the two branches
/// of a nested transaction exclude each other, so both may put the same key.
fn writes(ops: &[RequestOp]) -> Result<Writes, RpcError> {
    let mut all = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            all.deletes.add_delete(delete);
            if delete.range_end.as_ref() == [0] {
                all.deletes_from(Some(delete.key.clone()));
            }
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(nested)) = &op.request else { continue };
        let then = writes(&nested.success)?;
        let otherwise = writes(&nested.failure)?;
        for key in &then.puts {
            all.add_put(key)?;
        }
        for key in otherwise.puts {
            if then.puts.contains(&key) {
                all.check_not_deleted(&key)?;
            } else {
                all.add_put(&key)?;
            }
        }
        for branch in [then.deleted_from, otherwise.deleted_from] {
            all.deletes_from(branch);
        }
        all.reuses = all.reuses.max(then.reuses).max(otherwise.reuses);
        all.deletes.merge(then.deletes);
        all.deletes.merge(otherwise.deletes);
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            all.add_put(&put.key)?;
            if put.ignore_value || put.ignore_lease {
                all.reuses = all.reuses.max(Some(put.key.clone()));
            }
        }
    }
    Ok(all)
}

impl Writes {
    fn add_put(&mut self, key: &Bytes) -> Result<(), RpcError> {
        self.check_not_deleted(key)?;
        if self.puts.insert(key.clone()) { Ok(()) } else { Err(RpcError::DuplicateKey) }
    }

    fn deletes_from(&mut self, key: Option<Bytes>) {
        self.deleted_from = match (self.deleted_from.take(), key) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// A put cannot keep what a delete of the same transaction takes away. The overlap check does not see this
    /// where everything from a key on is deleted.
    fn check_reuses(&self) -> Result<(), RpcError> {
        match (&self.deleted_from, &self.reuses) {
            (Some(from), Some(key)) if key >= from => Err(RpcError::KeyNotFound),
            _ => Ok(()),
        }
    }

    fn check_not_deleted(&self, key: &[u8]) -> Result<(), RpcError> {
        if self.deletes.contains(key) { Err(RpcError::DuplicateKey) } else { Ok(()) }
    }
}

/// Disjoint spans of keys, start → end (excluded).
#[derive(Default)]
struct Spans(BTreeMap<Bytes, Bytes>);

impl Spans {
    /// The end of a delete is taken literally here, also `\0`: a delete of everything from a key on does not
    /// collide with puts. That is etcd's rule.
    fn add_delete(&mut self, delete: &DeleteRangeRequest) {
        let end = if delete.range_end.is_empty() {
            [delete.key.as_ref(), &[0]].concat().into()
        } else {
            delete.range_end.clone()
        };
        self.add(delete.key.clone(), end);
    }

    fn add(&mut self, mut start: Bytes, mut end: Bytes) {
        if start >= end {
            return;
        }
        // Swallow every span that touches the new one.
        while let Some((other_start, other_end)) = self.0.range(..=end.clone()).next_back() {
            if *other_end < start {
                break;
            }
            let other_start = other_start.clone();
            if let Some(other_end) = self.0.remove(&other_start) {
                end = end.max(other_end);
            }
            start = start.min(other_start);
        }
        self.0.insert(start, end);
    }

    fn merge(&mut self, other: Spans) {
        other.0.into_iter().for_each(|(start, end)| self.add(start, end));
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.0
            .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)))
            .next_back()
            .is_some_and(|(_, end)| &end[..] > key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_op(key: &str) -> RequestOp {
        let put = PutRequest { key: key.to_owned().into(), ..PutRequest::default() };
        RequestOp { request: Some(Request::RequestPut(put)) }
    }

    fn delete_op(key: &str, end: &str) -> RequestOp {
        let delete = DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..DeleteRangeRequest::default()
        };
        RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp { request: Some(Request::RequestTxn(TxnRequest { compare: Vec::new(), success, failure })) }
    }

    fn check(success: Vec<RequestOp>) -> Result<(), RpcError> {
        txn(&TxnRequest { compare: Vec::new(), success, failure: Vec::new() }, 128)
    }

    #[test]
    fn a_key_is_written_once() {
        let duplicate = Err(RpcError::DuplicateKey);
        assert_eq!(check(vec![put_op("a"), put_op("b")]), Ok(()));
        assert_eq!(check(vec![put_op("a"), put_op("a")]), duplicate);
        assert_eq!(check(vec![put_op("b"), delete_op("a", "c")]), duplicate);
        assert_eq!(check(vec![delete_op("a", "c"), put_op("c")]), Ok(()));
        assert_eq!(check(vec![delete_op("a", ""), put_op("a")]), duplicate);
        assert_eq!(check(vec![delete_op("a", ""), put_op("a\0")]), Ok(()));
        assert_eq!(check(vec![delete_op("a", "\0"), put_op("b")]), Ok(()), "etcd takes the end literally");
        assert_eq!(check(vec![delete_op("a", "c"), delete_op("b", "d")]), Ok(()));
    }

    #[test]
    fn a_put_cannot_keep_what_is_deleted_before_it() {
        let keep = |key: &str| {
            let put = PutRequest { key: key.to_owned().into(), ignore_value: true, ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        };
        assert_eq!(check(vec![delete_op("b", "\0"), keep("c")]), Err(RpcError::KeyNotFound));
        assert_eq!(
            check(vec![nested(vec![delete_op("b", "\0")], vec![]), keep("b")]),
            Err(RpcError::KeyNotFound)
        );
        assert_eq!(check(vec![delete_op("b", "\0"), keep("a")]), Ok(()));
    }

    #[test]
    fn branches_of_a_nested_transaction_exclude_each_other() {
        let duplicate = Err(RpcError::DuplicateKey);
        assert_eq!(check(vec![nested(vec![put_op("a")], vec![put_op("a")])]), Ok(()));
        assert_eq!(check(vec![nested(vec![put_op("a")], vec![]), put_op("a")]), duplicate);
        assert_eq!(check(vec![nested(vec![], vec![delete_op("a", "c")]), put_op("b")]), duplicate);
        assert_eq!(
            check(vec![nested(vec![put_op("a")], vec![]), nested(vec![], vec![put_op("a")])]),
            duplicate
        );
        assert_eq!(check(vec![nested(vec![delete_op("a", "c")], vec![put_op("b")])]), Ok(()));
    }

    #[test]
    fn sizes_and_shapes_are_checked_first() {
        let many = |count| (0..count).map(|at| put_op(&at.to_string())).collect::<Vec<_>>();
        assert_eq!(check(many(128)), Ok(()));
        assert_eq!(check(many(129)), Err(RpcError::TooManyOps));
        let mut ops = many(100);
        ops.push(nested(many(28), vec![]));
        assert_eq!(check(ops), Err(RpcError::TooManyOps), "a nested transaction has what is left");
        assert_eq!(check(vec![RequestOp { request: None }]), Err(RpcError::KeyNotFound));
        assert_eq!(check(vec![put_op("")]), Err(RpcError::EmptyKey));
        let deep = (0..TXN_DEPTH_MAX).fold(put_op("a"), |inner, _| nested(vec![inner], vec![]));
        assert_eq!(check(vec![deep]), Err(RpcError::TooManyOps));
    }

    #[test]
    fn spans_join_whatever_the_order() {
        let mut spans = Spans::default();
        for (start, end) in [("m", "p"), ("a", "c"), ("x", "z"), ("b", "n"), ("p", "q")] {
            spans.add(start.into(), end.into());
        }
        let found: Vec<_> = spans.0.iter().map(|(s, e)| (s.clone(), e.clone())).collect();
        assert_eq!(found, [("a".into(), "q".into()), ("x".into(), "z".into())] as [(Bytes, Bytes); 2]);
        assert!(
            spans.contains(b"a") && spans.contains(b"pzz") && !spans.contains(b"q") && !spans.contains(b"w")
        );
    }
}
