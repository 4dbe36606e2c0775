//! What kinds of commands were applied, and how many of each succeeded: for the metrics, on every member alike.

use ketch_proto::etcdserverpb::request_op::Request;
use ketch_proto::etcdserverpb::{InternalRaftRequest, PutRequest, TxnRequest};

use super::answer::{Answer, ApplyError, OpAnswer, Outcome, TxnAnswer};

/// A kind of command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A put.
    Put,
    /// A delete.
    DeleteRange,
    /// A transaction.
    Txn,
    /// A compaction.
    Compaction,
    /// Something about alarms.
    Alarm,
    /// What a member says of itself.
    ClusterMemberAttrSet,
    /// The cluster version.
    ClusterVersionSet,
    /// A downgrade.
    DowngradeInfoSet,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Kind; 8] = [
        Kind::Put,
        Kind::DeleteRange,
        Kind::Txn,
        Kind::Compaction,
        Kind::Alarm,
        Kind::ClusterMemberAttrSet,
        Kind::ClusterVersionSet,
        Kind::DowngradeInfoSet,
    ];

    /// etcd's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Put => "Put",
            Kind::DeleteRange => "DeleteRange",
            Kind::Txn => "Txn",
            Kind::Compaction => "Compaction",
            Kind::Alarm => "Alarm",
            Kind::ClusterMemberAttrSet => "ClusterMemberAttrSet",
            Kind::ClusterVersionSet => "ClusterVersionSet",
            Kind::DowngradeInfoSet => "DowngradeInfoSet",
        }
    }

    /// The kind of a command.
    #[must_use]
    pub fn of(request: &InternalRaftRequest) -> Kind {
        if request.put.is_some() {
            Kind::Put
        } else if request.delete_range.is_some() {
            Kind::DeleteRange
        } else if request.txn.is_some() {
            Kind::Txn
        } else if request.compaction.is_some() {
            Kind::Compaction
        } else if request.alarm.is_some() {
            Kind::Alarm
        } else if request.cluster_member_attr_set.is_some() {
            Kind::ClusterMemberAttrSet
        } else if request.cluster_version_set.is_some() {
            Kind::ClusterVersionSet
        } else {
            Kind::DowngradeInfoSet
        }
    }
}

/// How many commands of each kind were applied.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    commands: [[u64; 2]; Kind::ALL.len()],
    put_bytes: u64,
}

impl Tally {
    /// Counts a command that was carried out, or refused alike on every member.
    pub fn add(&mut self, request: &InternalRaftRequest, outcome: &Outcome) {
        // One that was compacted already is no failure, as in etcd.
        let succeeded = matches!(outcome, Ok(_) | Err(ApplyError::Compacted));
        self.commands[Kind::of(request) as usize][usize::from(succeeded)] += 1;
        match (&request.put, &request.txn, outcome) {
            (Some(put), _, Ok(_)) => self.put_bytes += bytes_of(put),
            (_, Some(txn), Ok(Answer::Txn(answer))) => self.put_bytes += bytes_in(txn, answer),
            _ => {}
        }
    }

    /// Bytes of the keys and values that requests have put. A value that was there before (`ignore_value`) is not counted again.
    #[must_use]
    pub fn put_bytes(&self) -> u64 {
        self.put_bytes
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.commands.iter().flatten().sum()
    }

    /// Kind, whether it succeeded, how many; none of which there were none.
    pub fn counts(&self) -> impl Iterator<Item = (Kind, bool, u64)> + '_ {
        let by_kind = Kind::ALL.into_iter().zip(self.commands);
        let all = by_kind.flat_map(|(kind, [failed, done])| [(kind, false, failed), (kind, true, done)]);
        all.filter(|&(_, _, count)| count > 0)
    }
}

fn bytes_of(put: &PutRequest) -> u64 {
    (put.key.len() + put.value.len()) as u64
}

/// Bytes that the branches of `txn` put that `answer` says were taken.
fn bytes_in(txn: &TxnRequest, answer: &TxnAnswer) -> u64 {
    let branch = if answer.succeeded { &txn.success } else { &txn.failure };
    let mut nested = answer.ops.iter().filter_map(|op| match op {
        OpAnswer::Txn(answer) => Some(answer),
        OpAnswer::Range(_) | OpAnswer::Put(_) | OpAnswer::Delete(_) => None,
    });
    let bytes = branch.iter().map(|op| match &op.request {
        Some(Request::RequestPut(put)) => bytes_of(put),
        Some(Request::RequestTxn(inner)) => nested.next().map_or(0, |answer| bytes_in(inner, answer)),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use ketch_proto::etcdserverpb::{CompactionRequest, RequestOp};

    use super::*;
    use crate::apply::answer::Answer;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    #[test]
    fn bytes_are_those_of_the_puts_that_were_carried_out() {
        let put = |bytes: usize| PutRequest {
            key: "k".into(),
            value: vec![0; bytes].into(),
            ..PutRequest::default()
        };
        let puts = |bytes: usize| op(Request::RequestPut(put(bytes)));
        let inner =
            TxnRequest { success: vec![puts(1000)], failure: vec![puts(100)], ..TxnRequest::default() };
        let success = vec![puts(10), op(Request::RequestTxn(inner))];
        let txn = TxnRequest { success, failure: vec![puts(10_000)], ..TxnRequest::default() };
        let done = |succeeded, ops| TxnAnswer { revision: 2, succeeded, ops };
        let taken = done(true, vec![OpAnswer::Txn(done(false, Vec::new()))]);
        let mut tally = Tally::default();
        let request = InternalRaftRequest { txn: Some(txn), ..InternalRaftRequest::default() };
        tally.add(&request, &Ok(Answer::Txn(taken)));
        assert_eq!(tally.put_bytes(), 11 + 101);
        let request = InternalRaftRequest { put: Some(put(4)), ..InternalRaftRequest::default() };
        tally.add(&request, &Ok(Answer::Done));
        tally.add(&request, &Err(ApplyError::NoSpace));
        assert_eq!(tally.put_bytes(), 11 + 101 + 5);
    }

    #[test]
    fn kinds_are_counted_by_how_they_ended() {
        let none = InternalRaftRequest::default;
        let put = InternalRaftRequest { put: Some(PutRequest::default()), ..none() };
        let compaction = InternalRaftRequest { compaction: Some(CompactionRequest::default()), ..none() };
        let mut tally = Tally::default();
        assert_eq!(tally.counts().next(), None);
        tally.add(&put, &Ok(Answer::Done));
        tally.add(&put, &Ok(Answer::Done));
        tally.add(&put, &Err(ApplyError::KeyNotFound));
        tally.add(&compaction, &Err(ApplyError::Compacted));
        let counts: Vec<_> = tally.counts().collect();
        assert_eq!(counts, [(Kind::Put, false, 1), (Kind::Put, true, 2), (Kind::Compaction, true, 1)]);
        assert_eq!(tally.total(), 4);
        assert!(Kind::ALL.iter().enumerate().all(|(number, &kind)| kind as usize == number));
    }
}
