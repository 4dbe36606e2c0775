//! What clients ask, and what they are told, in a form that the real answer and the reference can both be put into.

use bytes::Bytes;
use ketch_mvcc::{KeyRange, Query, View};
use ketch_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest,
    alarm_request::AlarmAction,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};
use ketch_proto::mvccpb::KeyValue;
use prost::Message;

use super::admin::Change;
use crate::apply::answer::{Answer, ApplyError, OpAnswer, Outcome};

/// What a client asks.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    /// Sets a key; no two puts have the same value.
    Put(Bytes, Bytes),
    /// Removes a key.
    Delete(Bytes),
    /// If the guard's version is below the bound: sets the guard and a second key and removes a third; otherwise sets
    /// the third. Reads the guard before and the third key after.
    Swap(Box<Swap>),
    /// Reads a range, newest state.
    Get {
        /// Which keys; all of them from the first on if empty.
        key: Bytes,
        /// Whether old states will do.
        serializable: bool,
        /// The revision to read at, 0 for the newest.
        revision: i64,
    },
    /// Forgets what lies below the revision.
    Compact(i64),
    /// Raises or lowers the alarm `NOSPACE`.
    Alarm(bool),
    /// Changes the members.
    Change(Change),
}

/// The transaction that clients make.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Swap {
    /// The key compared.
    pub(super) guard: Bytes,
    /// Its version must be below this.
    pub(super) below: i64,
    /// The puts if it is.
    pub(super) puts: [(Bytes, Bytes); 2],
    /// The third key, removed or set to this value.
    pub(super) third: (Bytes, Bytes),
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// The request took effect, or the read was made, at this revision.
    Done(i64, Seen),
    /// It was committed and refused; nothing changed.
    Refused(ApplyError),
    /// It was not taken: it never takes effect.
    NotTaken,
    /// The leader that it went to failed: it may take effect or not.
    Unknown,
}

/// What the answer showed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// Nothing but the revision.
    Nothing,
    /// So many keys were removed.
    Deleted(i64),
    /// The branch taken, and what its reads saw.
    Branch(bool, Vec<Vec<KeyValue>>),
    /// Key-values.
    Pairs(Vec<KeyValue>),
    /// So many alarms.
    Alarms(usize),
    /// The members, and whether they only learn.
    Members(Vec<(u64, bool)>),
}

impl Ask {
    /// The command to replicate; `None` for a read and for a change of members.
    #[must_use]
    pub(super) fn command(&self) -> Option<InternalRaftRequest> {
        let mut request = InternalRaftRequest::default();
        match self {
            Ask::Put(key, value) => request.put = Some(put(key, value)),
            Ask::Delete(key) => request.delete_range = Some(delete(key)),
            Ask::Swap(swap) => request.txn = Some(swap.request()),
            Ask::Get { .. } | Ask::Change(_) => return None,
            &Ask::Compact(revision) => {
                request.compaction = Some(CompactionRequest { revision, ..CompactionRequest::default() });
            }
            Ask::Alarm(raised) => {
                let action = if *raised { AlarmAction::Activate } else { AlarmAction::Deactivate } as i32;
                let alarm = AlarmRequest { action, member_id: 1, alarm: AlarmType::Nospace as i32 };
                request.alarm = Some(alarm);
            }
        }
        Some(request)
    }

    /// A number for what changes something, whoever asks; `None` for a read.
    #[must_use]
    pub(super) fn content(&self) -> Option<u64> {
        match self {
            Ask::Change(change) => Some(change.content()),
            ask => ask.command().map(|command| content(&command)),
        }
    }

    /// Whether it takes the newest state to answer.
    #[must_use]
    pub(super) fn is_linearizable(&self) -> bool {
        !matches!(self, Ask::Get { serializable: true, .. })
    }
}

impl Swap {
    fn request(&self) -> TxnRequest {
        let compare = Compare {
            result: CompareResult::Less as i32,
            target: CompareTarget::Version as i32,
            key: self.guard.clone(),
            target_union: Some(TargetUnion::Version(self.below)),
            ..Compare::default()
        };
        let op = |request: Request| RequestOp { request: Some(request) };
        let read = |key: &Bytes| {
            op(Request::RequestRange(RangeRequest { key: key.clone(), ..RangeRequest::default() }))
        };
        let set = |(key, value): &(Bytes, Bytes)| op(Request::RequestPut(put(key, value)));
        let success = vec![
            read(&self.guard),
            set(&self.puts[0]),
            set(&self.puts[1]),
            op(Request::RequestDeleteRange(delete(&self.third.0))),
            read(&self.third.0),
        ];
        let failure = vec![read(&self.guard), set(&self.third), read(&self.third.0)];
        TxnRequest { compare: vec![compare], success, failure }
    }
}

fn put(key: &Bytes, value: &Bytes) -> PutRequest {
    PutRequest { key: key.clone(), value: value.clone(), ..PutRequest::default() }
}

fn delete(key: &Bytes) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() }
}

/// A number for the command's content, whoever proposes it.
#[must_use]
pub(super) fn content(request: &InternalRaftRequest) -> u64 {
    let request = InternalRaftRequest { header: None, ..request.clone() };
    digest(&request.encode_to_vec())
}

/// A number for some bytes.
#[must_use]
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let step = |state: u64, &byte: &u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mixed = bytes.iter().fold(0xcbf2_9ce4_8422_2325, step);
    mixed ^ (mixed >> 32)
}

/// The outcome of a command as the client sees it.
///
/// # Errors
/// An answer of another kind, or a range that cannot be read.
pub(super) fn told(outcome: &Outcome) -> Result<Told, String> {
    Ok(match outcome {
        Err(refusal) => Told::Refused(*refusal),
        Ok(Answer::Put(put)) => Told::Done(put.revision, Seen::Nothing),
        Ok(Answer::Delete(delete)) => Told::Done(delete.revision, Seen::Deleted(delete.deleted)),
        Ok(Answer::Compact { revision }) => Told::Done(*revision, Seen::Nothing),
        Ok(Answer::Alarm(alarms)) => Told::Done(0, Seen::Alarms(alarms.len())),
        Ok(Answer::Members(members)) => {
            let members = members.iter().map(|member| (member.id, member.is_learner));
            Told::Done(0, Seen::Members(members.collect()))
        }
        Ok(Answer::Txn(txn)) => {
            let mut reads = Vec::new();
            for op in &txn.ops {
                match op {
                    OpAnswer::Range(range) => reads.push(pairs(&range.view, &range.query)?),
                    OpAnswer::Put(put) if put.revision != txn.revision => {
                        return Err(format!(
                            "a transaction at {} has a put at {}",
                            txn.revision, put.revision
                        ));
                    }
                    _ => {}
                }
            }
            Told::Done(txn.revision, Seen::Branch(txn.succeeded, reads))
        }
        Ok(other) => return Err(format!("an unexpected answer: {other:?}")),
    })
}

/// The key-values that a query finds.
///
/// # Errors
/// Why it finds nothing, in words.
pub(super) fn pairs(view: &View, query: &Query) -> Result<Vec<KeyValue>, String> {
    let found = view.range(query).map_err(|error| error.to_string())?;
    let decoded = found.kvs.iter().map(|kv| KeyValue::decode(kv.as_wire().clone()));
    decoded.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// The keys that a read names: one, or all.
#[must_use]
pub(super) fn range(key: &Bytes) -> KeyRange {
    if key.is_empty() { KeyRange::all() } else { KeyRange::from_wire(key.clone(), Bytes::new()) }
}
