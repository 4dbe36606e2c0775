//! Alarms: raised and lowered by commands, kept in a table of the store, and what they forbid while raised.
//!
//! What an alarm forbids is decided when a command is applied, from the state alone, so it is the same on every
//! member: `NOSPACE` forbids whatever makes the store grow, `CORRUPT` forbids every write.

use std::collections::BTreeSet;

use ketch_mvcc::Store;
use ketch_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, InternalRaftRequest, alarm_request::AlarmAction,
};
use prost::Message;

use super::answer::ApplyError;
use super::cluster::TABLE_ALARMS;
use crate::quota;

/// The alarms that are raised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Type and member of each. Types that this version does not know are kept like the others.
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Reads the table of alarms.
    ///
    /// # Errors
    /// What does not decode, in words.
    pub fn load(store: &Store) -> Result<Alarms, String> {
        let mut raised = BTreeSet::new();
        for (key, _) in store.table(TABLE_ALARMS).iter() {
            let alarm = AlarmMember::decode(&key[..])
                .map_err(|error| format!("an alarm in the store does not decode: {error}"))?;
            raised.insert((alarm.alarm, alarm.member_id));
        }
        Ok(Alarms { raised })
    }

    /// All of them, by type and member.
    #[must_use]
    pub fn members(&self) -> Vec<AlarmMember> {
        self.raised.iter().map(|&(alarm, member_id)| AlarmMember { member_id, alarm }).collect()
    }

    /// Carries out a request; answers with the alarms it is about. Raising what is raised answers with it and
    /// changes nothing; lowering what is not raised answers with none.
    ///
    /// # Errors
    /// The request's action is none that this version knows.
    pub fn apply(&mut self, store: &mut Store, request: &AlarmRequest) -> Result<Vec<AlarmMember>, String> {
        let alarm = AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let entry = (alarm.alarm, alarm.member_id);
        let action = AlarmAction::try_from(request.action).map_err(|_| {
            format!("it does {} with an alarm, which this version does not know", request.action)
        })?;
        let is_one = alarm.alarm != AlarmType::None as i32;
        Ok(match action {
            AlarmAction::Get => {
                let mut found = self.members();
                found.retain(|raised| !is_one || raised.alarm == alarm.alarm);
                found
            }
            AlarmAction::Activate if is_one => {
                if self.raised.insert(entry) {
                    store.table_put(TABLE_ALARMS, alarm.encode_to_vec().into(), bytes::Bytes::new());
                }
                vec![alarm]
            }
            AlarmAction::Deactivate if self.raised.remove(&entry) => {
                store.table_delete(TABLE_ALARMS, &alarm.encode_to_vec());
                vec![alarm]
            }
            AlarmAction::Activate | AlarmAction::Deactivate => Vec::new(),
        })
    }

    /// Whether the alarms forbid a command. Reads, deletes, compactions and everything about members and alarms
    /// pass a full store; a corrupt one is only to be looked at.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub fn check(&self, command: &InternalRaftRequest) -> Result<(), ApplyError> {
        if self.raised.is_empty() {
            return Ok(());
        }
        if self.has(AlarmType::Corrupt) && writes(command) {
            Err(ApplyError::Corrupt)
        } else if self.has(AlarmType::Nospace) && quota::cost(command) > 0 {
            Err(ApplyError::NoSpace)
        } else {
            Ok(())
        }
    }

    fn has(&self, alarm: AlarmType) -> bool {
        let alarm = alarm as i32;
        self.raised.range((alarm, 0)..=(alarm, u64::MAX)).next().is_some()
    }
}

/// Whether a command changes keys, revisions or leases.
fn writes(command: &InternalRaftRequest) -> bool {
    command.put.is_some()
        || command.delete_range.is_some()
        || command.txn.is_some()
        || command.compaction.is_some()
        || command.lease_grant.is_some()
        || command.lease_revoke.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ketch_mvcc::Applied;
    use ketch_proto::etcdserverpb::*;
    use ketch_wal::SimDisk;
    use std::path::Path;

    fn request(action: AlarmAction, alarm: i32, member_id: u64) -> AlarmRequest {
        AlarmRequest { action: action as i32, alarm, member_id }
    }

    fn alarms(of: &[(i32, u64)]) -> Vec<AlarmMember> {
        of.iter().map(|&(alarm, member_id)| AlarmMember { member_id, alarm }).collect()
    }

    fn open(disk: &std::sync::Arc<SimDisk>) -> Store {
        Store::open(disk.clone(), Path::new("/s"), ketch_mvcc::Options::default()).unwrap()
    }

    #[test]
    fn answers_are_those_of_etcd() {
        use AlarmAction::{Activate, Deactivate, Get};
        let mut store = open(&SimDisk::new(1));
        let mut state = Alarms::default();
        // What etcd 3.7.1 answered to these requests, in this order.
        let steps: [(AlarmRequest, &[(i32, u64)]); 16] = [
            (request(Get, 0, 0), &[]),
            (request(Activate, 1, 0), &[(1, 0)]),
            (request(Activate, 1, 0), &[(1, 0)]),
            (request(Activate, 0, 0), &[]),
            (request(Activate, 7, 5), &[(7, 5)]),
            (request(Activate, 2, 9), &[(2, 9)]),
            (request(Activate, 1, 9), &[(1, 9)]),
            (request(Get, 0, 0), &[(1, 0), (1, 9), (2, 9), (7, 5)]),
            (request(Get, 1, 77), &[(1, 0), (1, 9)]),
            (request(Deactivate, 2, 0), &[]),
            (request(Deactivate, 2, 9), &[(2, 9)]),
            (request(Deactivate, 0, 9), &[]),
            (request(Deactivate, 7, 5), &[(7, 5)]),
            (request(Deactivate, 1, 9), &[(1, 9)]),
            (request(Deactivate, 1, 9), &[]),
            (request(Get, 0, 0), &[(1, 0)]),
        ];
        for (step, (request, expected)) in steps.into_iter().enumerate() {
            assert_eq!(state.apply(&mut store, &request).unwrap(), alarms(expected), "step {step}");
            assert_eq!(Alarms::load(&store).unwrap(), state, "step {step}: the table is the state");
        }
        assert!(state.apply(&mut store, &AlarmRequest { action: 9, ..Default::default() }).is_err());
    }

    #[test]
    fn what_a_full_and_what_a_corrupt_store_refuse() {
        let op = |request| RequestOp { request: Some(request) };
        let put = || op(request_op::Request::RequestPut(PutRequest::default()));
        let delete = || op(request_op::Request::RequestDeleteRange(DeleteRangeRequest::default()));
        let nested = TxnRequest { failure: vec![put()], ..TxnRequest::default() };
        let nested = op(request_op::Request::RequestTxn(nested));
        let txn = |success| InternalRaftRequest {
            txn: Some(TxnRequest { success, ..TxnRequest::default() }),
            ..InternalRaftRequest::default()
        };
        let none = InternalRaftRequest::default;
        let commands = [
            ("put", InternalRaftRequest { put: Some(PutRequest::default()), ..none() }, true, true),
            ("txn with a put", txn(vec![delete(), put()]), true, true),
            ("txn with a put inside", txn(vec![nested]), true, true),
            ("txn that deletes", txn(vec![delete()]), false, true),
            ("grant", InternalRaftRequest { lease_grant: Some(Default::default()), ..none() }, true, true),
            ("revoke", InternalRaftRequest { lease_revoke: Some(Default::default()), ..none() }, false, true),
            ("delete", InternalRaftRequest { delete_range: Some(Default::default()), ..none() }, false, true),
            ("compact", InternalRaftRequest { compaction: Some(Default::default()), ..none() }, false, true),
            ("alarm", InternalRaftRequest { alarm: Some(Default::default()), ..none() }, false, false),
        ];
        let raised = |types: &[i32]| Alarms { raised: types.iter().map(|&alarm| (alarm, 3)).collect() };
        for (name, command, full, corrupt) in commands {
            let refusal = |refused, why| if refused { Err(why) } else { Ok(()) };
            assert_eq!(raised(&[]).check(&command), Ok(()), "{name}");
            assert_eq!(raised(&[7]).check(&command), Ok(()), "{name}");
            assert_eq!(raised(&[1]).check(&command), refusal(full, ApplyError::NoSpace), "{name}");
            assert_eq!(raised(&[1, 2]).check(&command), refusal(corrupt, ApplyError::Corrupt), "{name}");
        }
    }

    #[test]
    fn alarms_survive_a_crash_with_the_batch_that_raised_them() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let mut store = open(&disk);
            let mut state = Alarms::default();
            let mut history = vec![state.clone()];
            for index in 1..=20 {
                let action = if index % 3 == 0 { AlarmAction::Deactivate } else { AlarmAction::Activate };
                let request = request(action, 1 + (index % 2) as i32, (seed ^ index) % 3);
                state.apply(&mut store, &request).unwrap();
                store.txn().put(b"alarms", &[index as u8], 0).unwrap();
                store.commit(Applied { index, term: 1 }).unwrap();
                history.push(state.clone());
                if index % 7 == 0 {
                    store.background().sync().unwrap();
                }
            }
            drop(store);
            disk.crash();
            let store = open(&disk);
            let index = store.applied().index;
            assert!(index >= 14, "seed {seed}: what was synced is gone, {index}");
            assert_eq!(
                Alarms::load(&store).unwrap(),
                history[index as usize],
                "seed {seed}, applied {index}"
            );
        }
    }
}
