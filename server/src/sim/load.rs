//! The clients of a simulated member: a few keys, all kinds of commands, several in flight.

use ketch_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, PutRequest,
    RequestOp, TxnRequest,
    alarm_request::AlarmAction,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};

use super::history::{Intent, Write};
use super::{History, Member, Random, Report};

const KEYS: u64 = 24;
const IN_FLIGHT_MAX: usize = 12;

/// Offers commands and reads.
#[derive(Debug, Default)]
pub struct Load {
    values: u64,
    tickets: u64,
}

impl Load {
    /// Perhaps offers something to `member`.
    pub fn offer(
        &mut self,
        member: &mut Member,
        history: &mut History,
        random: &mut Random,
        report: &mut Report,
    ) {
        if random.one_in(4) {
            self.tickets += 1;
            history.ask_read(self.tickets);
            member.read(self.tickets);
        }
        if history.open() >= IN_FLIGHT_MAX || random.one_in(3) {
            return;
        }
        let (request, intent) = match random.below(10) {
            _ if random.one_in(60) => alarm(true),
            _ if random.one_in(12) => alarm(false),
            0..=4 => self.put(random),
            5 => delete(random),
            6..=8 => self.txn(random),
            _ => compact(random, member.revision()),
        };
        report.proposed += 1;
        let id = member.propose(request);
        history.proposed(id, intent);
    }

    fn put(&mut self, random: &mut Random) -> (InternalRaftRequest, Intent) {
        let put = self.put_request(key(random), random);
        let writes = vec![Write::Put(put.key.clone(), put.value.clone())];
        (InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() }, Intent::Writes(writes))
    }

    /// If a key has an even version: two puts and a delete, otherwise one put.
    fn txn(&mut self, random: &mut Random) -> (InternalRaftRequest, Intent) {
        let first = random.below(KEYS);
        let [a, b, c] = [first, first + 1, first + 2].map(|number| name(number % KEYS));
        let puts = [self.put_request(a.clone(), random), self.put_request(b, random)];
        let otherwise = self.put_request(c.clone(), random);
        let delete = DeleteRangeRequest { key: c.clone().into(), ..DeleteRangeRequest::default() };
        let put_op = |put: &PutRequest| RequestOp { request: Some(Request::RequestPut(put.clone())) };
        let compare = Compare {
            result: CompareResult::Less as i32,
            target: CompareTarget::Version as i32,
            key: a.into(),
            target_union: Some(TargetUnion::Version(random.below(6) as i64)),
            ..Compare::default()
        };
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![
                put_op(&puts[0]),
                put_op(&puts[1]),
                RequestOp { request: Some(Request::RequestDeleteRange(delete)) },
            ],
            failure: vec![put_op(&otherwise)],
        };
        let then = puts.iter().map(|put| Write::Put(put.key.clone(), put.value.clone()));
        let then = then.chain([Write::Delete(c.into())]).collect();
        let otherwise = vec![Write::Put(otherwise.key, otherwise.value)];
        (
            InternalRaftRequest { txn: Some(txn), ..InternalRaftRequest::default() },
            Intent::Either(then, otherwise),
        )
    }

    fn put_request(&mut self, key: String, random: &mut Random) -> PutRequest {
        self.values += 1;
        let filler = "x".repeat(random.below(900) as usize);
        PutRequest {
            key: key.into(),
            value: format!("{} {filler}", self.values).into(),
            ..PutRequest::default()
        }
    }
}

fn delete(random: &mut Random) -> (InternalRaftRequest, Intent) {
    let key = key(random);
    let delete = DeleteRangeRequest { key: key.clone().into(), ..DeleteRangeRequest::default() };
    let request = InternalRaftRequest { delete_range: Some(delete), ..InternalRaftRequest::default() };
    (request, Intent::Writes(vec![Write::Delete(key.into())]))
}

/// Lowered more often than raised: a full store takes little.
fn alarm(raised: bool) -> (InternalRaftRequest, Intent) {
    let action = if raised { AlarmAction::Activate } else { AlarmAction::Deactivate };
    let alarm = AlarmRequest { action: action as i32, member_id: 1, alarm: AlarmType::Nospace as i32 };
    (InternalRaftRequest { alarm: Some(alarm), ..InternalRaftRequest::default() }, Intent::Alarm(raised))
}

fn compact(random: &mut Random, revision: i64) -> (InternalRaftRequest, Intent) {
    let revision = revision - random.below(60) as i64;
    let compaction = CompactionRequest { revision, ..CompactionRequest::default() };
    (
        InternalRaftRequest { compaction: Some(compaction), ..InternalRaftRequest::default() },
        Intent::Compact(revision),
    )
}

fn key(random: &mut Random) -> String {
    name(random.below(KEYS))
}

fn name(number: u64) -> String {
    format!("key{number:02}")
}
