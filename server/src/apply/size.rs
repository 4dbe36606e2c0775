//! How much a command may write: one command is one revision and must fit into one batch of the store.
//!
//! Puts are as small as their request. A delete writes a tombstone a key, however short its request, so it is
//! measured before it is carried out; refusing it is a function of (state, command), like everything here.

use bytes::Bytes;
use ketch_mvcc::{Fault, KeyRange, Query, ReadError, WriteTxn};

use super::answer::ApplyError;

/// Bytes of tombstones that one command may write: far below what a batch of the store can hold.
pub const TOMBSTONE_BYTES_MAX: u64 = 256 << 20;
/// Bytes of commands and tombstones after which a bunch of applied commands is committed, between two of them.
pub const BUNCH_BYTES_MAX: u64 = 64 << 20;
/// What a tombstone takes beside its key, at most.
const TOMBSTONE_OVERHEAD: u64 = 64;
/// Keys that are looked at together.
const PAGE: u64 = 4096;

/// Bytes that the tombstone of `key` takes, at most.
#[must_use]
pub fn tombstone(key: &[u8]) -> u64 {
    key.len() as u64 + TOMBSTONE_OVERHEAD
}

/// Bytes of tombstones that deleting `range` would write, counted up to a little above the limit.
///
/// # Errors
/// A fault of the store.
pub fn tombstones(txn: &WriteTxn<'_>, range: &KeyRange) -> Result<u64, Fault> {
    if let KeyRange::Single(key) = range {
        return Ok(tombstone(key));
    }
    let mut bytes = 0;
    let mut rest = range.clone();
    while bytes <= TOMBSTONE_BYTES_MAX {
        let query = Query { keys_only: true, limit: PAGE, ..Query::new(rest) };
        let found = match txn.range(&query) {
            Ok(found) => found,
            Err(ReadError::Fault(fault)) => return Err(fault),
            // The newest revision is neither compacted nor ahead.
            Err(ReadError::Compacted { .. } | ReadError::Future { .. }) => break,
        };
        bytes += found.kvs.iter().map(|kv| tombstone(&kv.key())).sum::<u64>();
        let Some(last) = found.kvs.last().filter(|_| found.more) else { break };
        let next = Bytes::from([&last.key()[..], &[0]].concat());
        rest = match range {
            KeyRange::Span { end, .. } => KeyRange::Span { start: next, end: end.clone() },
            KeyRange::Single(_) => break,
        };
    }
    Ok(bytes)
}

/// Whether deletes that write `bytes` of tombstones may go ahead.
///
/// # Errors
/// The refusal to answer with.
pub fn check(bytes: u64) -> Result<(), ApplyError> {
    if bytes > TOMBSTONE_BYTES_MAX { Err(ApplyError::TooLarge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ketch_mvcc::{Applied, Store};
    use ketch_proto::etcdserverpb::{DeleteRangeRequest, InternalRaftRequest};
    use ketch_raft::Entry;
    use std::path::Path;

    use crate::apply::answer::Answer;
    use crate::apply::command::{self, RequestId};
    use crate::apply::core::ApplyCore;
    use crate::caller::Caller;

    fn delete(index: u64, key: &str, range_end: &str) -> Entry {
        let request = DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
            ..DeleteRangeRequest::default()
        };
        let request = InternalRaftRequest { delete_range: Some(request), ..InternalRaftRequest::default() };
        Entry::normal(1, index, command::encode(RequestId::new(1, 1, index), &Caller::default(), request))
    }

    #[test]
    fn a_delete_that_would_not_fit_is_refused_and_changes_nothing() {
        let disk = ketch_wal::SimDisk::new(1);
        let mut store = Store::open(disk, Path::new("/s"), ketch_mvcc::Options::default()).unwrap();
        // 200 keys of 1.4 MB: 280 MB of tombstones.
        for number in 0..200 {
            let key = format!("{number:03}{}", "k".repeat(1_400_000));
            store.txn().put(key.as_bytes(), b"", 0).unwrap();
            store.commit(Applied { index: number + 1, term: 1 }).unwrap();
        }
        let mut core = ApplyCore::new(1, store).unwrap();
        let mut answers = Vec::new();
        let entries = vec![delete(201, "0", "9"), delete(202, "0", "1")];
        core.apply(entries, &mut answers, &mut Vec::new()).unwrap();
        core.commit().unwrap();
        assert!(matches!(answers[0].outcome, Err(ApplyError::TooLarge)), "{:?}", answers[0]);
        assert!(
            matches!(&answers[1].outcome, Ok(Answer::Delete(gone)) if gone.deleted == 100),
            "{:?}",
            answers[1]
        );
        assert_eq!(core.store().revision(), 202);
    }
}
