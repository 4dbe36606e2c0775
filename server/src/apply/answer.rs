//! What applying a command answers: facts about keys and revisions, without cluster or member ids, which the
//! API layer of the member that was asked adds.

use ketch_mvcc::{KeyValue, Query, View};
use ketch_proto::etcdserverpb::AlarmMember;

use crate::cluster::Member;

/// The answer of one applied command.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Of a put.
    Put(PutAnswer),
    /// Of a delete.
    Delete(DeleteAnswer),
    /// Of a transaction.
    Txn(TxnAnswer),
    /// Of a compaction: the store's revision then.
    Compact {
        /// The revision of the store when the compaction was applied.
        revision: i64,
    },
    /// Of an alarm request: the alarms asked for.
    Alarm(Vec<AlarmMember>),
    /// Of a change of members: all of them after it, by id.
    Members(Vec<Member>),
    /// Of a command that only changes state.
    Done,
}

/// What a put did.
#[derive(Debug, Clone)]
pub struct PutAnswer {
    /// The revision it made.
    pub revision: i64,
    /// What was there before, if asked for.
    pub prev: Option<KeyValue>,
}

/// What a delete did.
#[derive(Debug, Clone)]
pub struct DeleteAnswer {
    /// The revision it made, or the current one if there was nothing to delete.
    pub revision: i64,
    /// How many keys are gone.
    pub deleted: i64,
    /// What their tombstones take in the store's log, in bytes.
    pub tombstone_bytes: u64,
    /// What was there before, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// What a transaction did.
#[derive(Debug, Clone)]
pub struct TxnAnswer {
    /// The revision after it; 0 in a nested transaction, which has none of its own.
    pub revision: i64,
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// One answer an operation of the branch taken.
    pub ops: Vec<OpAnswer>,
}

/// The answer of one operation of a transaction.
#[derive(Debug, Clone)]
pub enum OpAnswer {
    /// A range, still to be read from the root that it was given at its turn.
    Range(Box<PendingRange>),
    /// A put.
    Put(PutAnswer),
    /// A delete.
    Delete(DeleteAnswer),
    /// A nested transaction.
    Txn(TxnAnswer),
}

impl Answer {
    /// What the command's tombstones take in the store's log, in bytes.
    #[must_use]
    pub fn tombstone_bytes(&self) -> u64 {
        match self {
            Self::Delete(delete) => delete.tombstone_bytes,
            Self::Txn(txn) => txn.tombstone_bytes(),
            _ => 0,
        }
    }
}

impl TxnAnswer {
    fn tombstone_bytes(&self) -> u64 {
        let bytes = self.ops.iter().map(|op| match op {
            OpAnswer::Delete(delete) => delete.tombstone_bytes,
            OpAnswer::Txn(nested) => nested.tombstone_bytes(),
            OpAnswer::Range(_) | OpAnswer::Put(_) => 0,
        });
        bytes.sum()
    }
}

/// A range whose root is pinned but which is not read yet: the applier never waits for it.
#[derive(Debug, Clone)]
pub struct PendingRange {
    /// The root at the operation's turn, earlier operations of the transaction included.
    pub view: View,
    /// What to read.
    pub query: Query,
    /// The revision that the answer's header names.
    pub revision: i64,
}

/// A command that was committed but refused: the same refusal on every member, and nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyError {
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    /// The lease named does not exist.
    LeaseNotFound,
    /// A delete of so many keys that its tombstones would not fit into one batch of the store.
    TooLarge,
    /// The revision is compacted.
    Compacted,
    /// The revision lies ahead.
    FutureRevision,
    /// The alarm `NOSPACE` is raised.
    NoSpace,
    /// The alarm `CORRUPT` is raised.
    Corrupt,
    /// The member named is not one, or was removed.
    MemberNotFound,
    /// A member of this id exists.
    MemberExists,
    /// Another member has one of the peer URLs.
    PeerUrlExists,
    /// Only a learner can be promoted.
    MemberNotLearner,
    /// The cluster has as many learners as it may.
    TooManyLearners,
}

/// What became of a command.
pub type Outcome = Result<Answer, ApplyError>;
