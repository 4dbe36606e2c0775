//! Put, delete and compaction on the store.

use bytes::Bytes;
use ketch_mvcc::{CompactError, Fault, KeyRange, KeyValue, Store, WriteTxn};
use ketch_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};

use super::answer::{Answer, ApplyError, DeleteAnswer, Outcome, PutAnswer};
use super::size::{self, BUNCH_BYTES_MAX};

/// Carries out a put of its own.
///
/// # Errors
/// A fault of the store; what a client did wrong is in the outcome.
pub fn put(store: &mut Store, request: &PutRequest, wanted: bool) -> Result<Outcome, Fault> {
    let mut txn = store.txn();
    let previous = previous_if_needed(&txn, request, wanted)?;
    if let Err(refusal) = check_put(request, previous.as_ref()) {
        return Ok(Err(refusal));
    }
    let answer = put_in(&mut txn, request, previous, wanted)?;
    txn.finish();
    Ok(Ok(Answer::Put(answer)))
}

/// What a put needs to know of the pair it replaces, if anything.
///
/// # Errors
/// A fault of the store.
pub fn previous_if_needed(
    txn: &WriteTxn<'_>,
    request: &PutRequest,
    wanted: bool,
) -> Result<Option<KeyValue>, Fault> {
    if request.ignore_value || request.ignore_lease || (request.prev_kv && wanted) {
        txn.get(&request.key)
    } else {
        Ok(None)
    }
}

/// Whether a put can go ahead, given the pair that it replaces.
///
/// # Errors
/// The refusal to answer with.
pub fn check_put(request: &PutRequest, previous: Option<&KeyValue>) -> Result<(), ApplyError> {
    // There are no leases yet, so none can be found.
    if request.lease != 0 {
        return Err(ApplyError::LeaseNotFound);
    }
    if (request.ignore_value || request.ignore_lease) && previous.is_none() {
        return Err(ApplyError::KeyNotFound);
    }
    Ok(())
}

/// Puts inside a transaction that was checked.
///
/// # Errors
/// A fault of the store.
pub fn put_in(
    txn: &mut WriteTxn<'_>,
    request: &PutRequest,
    previous: Option<KeyValue>,
    wanted: bool,
) -> Result<PutAnswer, Fault> {
    let value = match &previous {
        Some(previous) if request.ignore_value => previous.value(),
        _ => request.value.clone(),
    };
    let lease = match &previous {
        Some(previous) if request.ignore_lease => previous.lease(),
        _ => request.lease,
    };
    txn.put(&request.key, &value, lease)?;
    Ok(PutAnswer { revision: txn.revision(), prev: previous.filter(|_| request.prev_kv && wanted) })
}

/// Carries out a delete of its own.
///
/// # Errors
/// A fault of the store.
pub fn delete(store: &mut Store, request: &DeleteRangeRequest, wanted: bool) -> Result<Outcome, Fault> {
    // All live keys and their tombstones are smaller than this: most deletes need no closer look.
    let sizes = store.sizes();
    let roughly =
        sizes.logical_bytes.saturating_add(sizes.keys.saturating_mul(64)).saturating_add(BUNCH_BYTES_MAX);
    let mut txn = store.txn();
    if roughly > size::TOMBSTONE_BYTES_MAX {
        let bytes = size::tombstones(&txn, &key_range(&request.key, &request.range_end))?;
        if let Err(refusal) = size::check(bytes) {
            return Ok(Err(refusal));
        }
    }
    let answer = delete_in(&mut txn, request, wanted)?;
    txn.finish();
    Ok(Ok(Answer::Delete(answer)))
}

/// Deletes inside a transaction.
///
/// # Errors
/// A fault of the store.
pub fn delete_in(
    txn: &mut WriteTxn<'_>,
    request: &DeleteRangeRequest,
    wanted: bool,
) -> Result<DeleteAnswer, Fault> {
    let range = key_range(&request.key, &request.range_end);
    let deleted = txn.delete_range(&range)?;
    let count = i64::try_from(deleted.len()).unwrap_or(i64::MAX);
    let tombstone_bytes = deleted.iter().map(|gone| size::tombstone(&gone.key)).sum();
    let prev_kvs = if request.prev_kv && wanted {
        deleted.into_iter().map(|gone| gone.previous.read()).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    Ok(DeleteAnswer { revision: txn.revision(), deleted: count, tombstone_bytes, prev_kvs })
}

/// Marks everything before `revision` as compacted.
///
/// # Errors
/// A fault of the store.
pub fn compact(store: &mut Store, revision: i64) -> Result<Outcome, Fault> {
    match store.compact(revision) {
        Ok(()) => Ok(Ok(Answer::Compact { revision: store.revision() })),
        Err(CompactError::Compacted { .. }) => Ok(Err(ApplyError::Compacted)),
        Err(CompactError::Future { .. }) => Ok(Err(ApplyError::FutureRevision)),
        Err(CompactError::Fault(fault)) => Err(fault),
    }
}

/// The keys that a request's `key` and `range_end` name.
#[must_use]
pub fn key_range(key: &Bytes, range_end: &Bytes) -> KeyRange {
    KeyRange::from_wire(key.clone(), range_end.clone())
}
