//! What kinds of commands were applied, and how many of each succeeded: for the metrics, on every member alike.

use ketch_proto::etcdserverpb::InternalRaftRequest;

use super::answer::{ApplyError, Outcome};

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

    fn of(request: &InternalRaftRequest) -> Kind {
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
pub struct Tally([[u64; 2]; Kind::ALL.len()]);

impl Tally {
    /// Counts a command that was carried out, or refused alike on every member.
    pub fn add(&mut self, request: &InternalRaftRequest, outcome: &Outcome) {
        // One that was compacted already is no failure, as in etcd.
        let succeeded = matches!(outcome, Ok(_) | Err(ApplyError::Compacted));
        self.0[Kind::of(request) as usize][usize::from(succeeded)] += 1;
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().flatten().sum()
    }

    /// Kind, whether it succeeded, how many; none of which there were none.
    pub fn counts(&self) -> impl Iterator<Item = (Kind, bool, u64)> + '_ {
        let by_kind = Kind::ALL.into_iter().zip(self.0);
        let all = by_kind.flat_map(|(kind, [failed, done])| [(kind, false, failed), (kind, true, done)]);
        all.filter(|&(_, _, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use ketch_proto::etcdserverpb::{CompactionRequest, PutRequest};

    use super::*;
    use crate::apply::answer::Answer;

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
