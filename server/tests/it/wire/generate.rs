//! Draws requests of every RPC: mostly legal, some odd, some illegal.

use std::collections::BTreeSet;

use bytes::Bytes;
use ketch_proto::etcdserverpb::compare::TargetUnion;
use ketch_proto::etcdserverpb::request_op::Request as Op;
use ketch_proto::etcdserverpb::*;
use ketch_proto::healthpb::{HealthCheckRequest, HealthListRequest};

use crate::harness::random::Random;

use super::request::{Reply, Request};

/// Few keys, so that requests meet; with bytes at both ends, and a prefix of each other.
pub(super) const KEYS: [&[u8]; 10] =
    [b"a", b"aa", b"ab", b"b", b"b\0", b"c/1", b"c/2", b"\0", b"\xff", b"\xff\xff"];

/// Ends of ranges: none, "from here on", between keys, before most keys.
pub(super) const ENDS: [&[u8]; 9] = [b"", b"", b"\0", b"b", b"c/", b"c0", b"zz", b"\xff\xff\xff", b"\0\0"];

/// How deep transactions are nested at most.
const DEPTH_MAX: u32 = 3;

/// The source of requests. It follows the store's revision, so as to ask for interesting ones.
#[derive(Debug)]
pub(super) struct Generator {
    pub(super) random: Random,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    values: u64,
    /// Where was compacted without waiting for it: etcd may not have hashed there yet.
    hashing: BTreeSet<i64>,
    /// Alarms that are raised; while there are some, most writes are refused.
    pub(super) alarms: Vec<AlarmMember>,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Generator {
        Generator {
            random: Random::new(seed),
            revision: 1,
            compacted: 0,
            values: 0,
            hashing: BTreeSet::new(),
            alarms: Vec::new(),
        }
    }

    /// Takes note of an answer.
    pub(super) fn learn(&mut self, request: &Request, reply: &Reply) {
        self.revision = self.revision.max(reply.revision);
        match request {
            Request::Compact(request) if !reply.refused => {
                self.compacted = request.revision;
                if !request.physical {
                    self.hashing.insert(request.revision);
                }
            }
            Request::Alarm(request) if !reply.refused => match request.action {
                1 => self.alarms.extend(reply.alarms.iter().copied()),
                2 => self.alarms.retain(|alarm| !reply.alarms.contains(alarm)),
                _ => {}
            },
            _ => {}
        }
    }

    pub(super) fn request(&mut self) -> Request {
        if !self.alarms.is_empty() && self.random.one_in(8) {
            return self.disarm();
        }
        match self.random.between(0, 999) {
            0..330 => Request::Put(self.put()),
            330..580 => Request::Range(self.range()),
            580..630 => Request::RangeStream(self.range_streamed()),
            630..720 => Request::Delete(self.delete()),
            720..940 => Request::Txn(self.txn(1)),
            940..960 => Request::Compact(self.compact()),
            _ => self.upkeep(),
        }
    }

    /// Lowers the alarm raised last.
    pub(super) fn disarm(&mut self) -> Request {
        let alarm = self.alarms.last().copied().unwrap_or_default();
        Request::Alarm(AlarmRequest { action: 2, member_id: alarm.member_id, alarm: alarm.alarm })
    }

    /// Everything besides keys.
    fn upkeep(&mut self) -> Request {
        match self.random.between(0, 99) {
            0..20 => Request::Alarm(self.alarm()),
            20..45 => Request::Status(StatusRequest {}),
            45..50 => Request::Hash(HashRequest {}),
            50..70 => {
                let revision = self.revision();
                let hashing = self.hashing.contains(&revision);
                Request::HashKv(HashKvRequest { revision: if hashing { 0 } else { revision } })
            }
            70..75 => Request::Defragment(DefragmentRequest {}),
            75..85 => Request::Downgrade(self.downgrade()),
            85..89 => Request::Snapshot(SnapshotRequest {}),
            89..94 => Request::MemberList(MemberListRequest { linearizable: self.random.one_in(2) }),
            94..98 => {
                let service = self.random.pick(&["", "", "etcdserverpb.KV", "wat"]).to_owned();
                Request::Check(HealthCheckRequest { service })
            }
            _ => Request::List(HealthListRequest {}),
        }
    }

    /// Actions that exist: etcd crashes on others.
    fn alarm(&mut self) -> AlarmRequest {
        AlarmRequest {
            action: self.random.pick(&[0, 0, 0, 1, 1, 2]),
            member_id: self.random.pick(&[0, 0, 1, u64::MAX]),
            alarm: self.random.pick(&[0, 1, 1, 2, 3]),
        }
    }

    /// Nothing that would start a downgrade: how far that got is a matter of time.
    fn downgrade(&mut self) -> DowngradeRequest {
        let action = self.random.pick(&[0, 0, 2, 3, -1]);
        let versions =
            ["3.6", "3.6.0", "3.5.0", "3.7", "3.7.0", "3.8.0", "", "wat", "3", "3.6.0-rc.1", "v3.6.0"];
        DowngradeRequest { action, version: self.random.pick(&versions).to_owned() }
    }

    /// Mostly without what a stream refuses.
    fn range_streamed(&mut self) -> RangeRequest {
        let mut range = self.range();
        if self.random.one_in(6) {
            // A target without an order is served, but by etcd with keys left out and repeated.
            range.sort_target = if range.sort_order == 0 { 0 } else { range.sort_target };
            return range;
        }
        RangeRequest {
            sort_order: 0,
            sort_target: 0,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            ..range
        }
    }

    fn key(&mut self) -> Bytes {
        if self.random.one_in(40) { Bytes::new() } else { Bytes::from_static(self.random.pick(&KEYS)) }
    }

    fn end(&mut self) -> Bytes {
        Bytes::from_static(self.random.pick(&ENDS))
    }

    /// Around the compacted, the current and impossible revisions.
    fn revision(&mut self) -> i64 {
        match self.random.between(0, 9) {
            0 => self.compacted + self.random.between(-2, 2),
            1 => self.revision + self.random.between(-3, 2),
            2 => self.random.pick(&[-1, 1, i64::MAX, i64::MIN]),
            _ => self.random.between(self.compacted, self.revision),
        }
    }

    /// Mostly 0, which switches a field off.
    fn rare_revision(&mut self) -> i64 {
        if self.random.one_in(8) { self.revision() } else { 0 }
    }

    /// One of `legal` values, now and then one that the enum does not know.
    fn choice(&mut self, legal: i64) -> i32 {
        let high = if self.random.one_in(60) { legal + 1 } else { legal - 1 };
        let value = i32::try_from(self.random.between(0, high)).unwrap();
        if self.random.one_in(400) { -1 } else { value }
    }

    fn range(&mut self) -> RangeRequest {
        let sorted = self.random.one_in(3);
        RangeRequest {
            key: self.key(),
            range_end: self.end(),
            limit: if self.random.one_in(3) { self.random.between(-1, 4) } else { 0 },
            revision: if self.random.one_in(3) { self.revision() } else { 0 },
            sort_order: if sorted { self.choice(3) } else { 0 },
            sort_target: if sorted { self.choice(5) } else { 0 },
            serializable: self.random.one_in(4),
            keys_only: self.random.one_in(4),
            count_only: self.random.one_in(6),
            min_mod_revision: self.rare_revision(),
            max_mod_revision: self.rare_revision(),
            min_create_revision: self.rare_revision(),
            max_create_revision: self.rare_revision(),
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.random.one_in(12);
        let ignore_lease = self.random.one_in(12);
        self.values += 1;
        // Few values, so that sorting by value meets equal ones.
        let value = if self.random.one_in(10) { String::new() } else { format!("v{}", self.values % 17) };
        PutRequest {
            key: self.key(),
            value: if ignore_value && !self.random.one_in(5) { Bytes::new() } else { value.into() },
            lease: if self.random.one_in(30) { self.random.between(-1, 7) } else { 0 },
            prev_kv: self.random.one_in(3),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        // Small ranges: otherwise nothing is ever left to read.
        let range_end = if self.random.one_in(4) { self.end() } else { Bytes::new() };
        DeleteRangeRequest { key: self.key(), range_end, prev_kv: self.random.one_in(2) }
    }

    /// Not up to the end of the key space: etcd overlooks that such a delete meets a put of the same
    /// transaction, and panics at apply if that put then misses its key.
    fn delete_in_txn(&mut self) -> DeleteRangeRequest {
        let mut delete = self.delete();
        if delete.range_end == b"\0"[..] {
            delete.range_end = Bytes::new();
        }
        delete
    }

    /// Writes that make events of more than a message: three large values at once, again (with previous values twice as much),
    /// three others, and all of them deleted.
    pub(super) fn large(&mut self) -> Vec<Request> {
        let mut puts = |keys: &[&'static [u8]]| {
            let put = |key: &&'static [u8]| {
                let bytes = usize::try_from(self.random.between(150_000, 540_000)).unwrap();
                let value = vec![b'0' + (self.values % 10) as u8; bytes].into();
                self.values += 1;
                let put = PutRequest { key: Bytes::from_static(key), value, ..Default::default() };
                RequestOp { request: Some(Op::RequestPut(put)) }
            };
            Request::Txn(TxnRequest { success: keys.iter().map(put).collect(), ..Default::default() })
        };
        let all = DeleteRangeRequest { key: b"\0"[..].into(), range_end: b"\0"[..].into(), prev_kv: true };
        vec![puts(&KEYS[..3]), puts(&KEYS[..3]), puts(&KEYS[3..6]), Request::Delete(all)]
    }

    fn compact(&mut self) -> CompactionRequest {
        let revision = match self.random.between(0, 3) {
            0 => self.revision(),
            _ => self.random.between(self.compacted, self.revision.min(self.compacted + 60)),
        };
        CompactionRequest { revision, physical: self.random.one_in(2) }
    }

    fn txn(&mut self, depth: u32) -> TxnRequest {
        let compares = self.random.between(0, 3);
        let branch = |generator: &mut Generator| {
            // Now and then more operations than a transaction may have.
            let many = depth == 1 && generator.random.one_in(150);
            let count =
                if many { generator.random.between(127, 130) } else { generator.random.between(0, 3) };
            (0..count).map(|number| generator.op(depth, many, number)).collect()
        };
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: branch(self),
            failure: branch(self),
        }
    }

    fn op(&mut self, depth: u32, many: bool, number: i64) -> RequestOp {
        if many {
            // Different keys, so that only their number can be wrong; and none of them comes into being, so that
            // answers stay short: etcd sorts more than twelve keys with an unstable sort.
            let delete = DeleteRangeRequest { key: format!("many/{number}").into(), ..Default::default() };
            return RequestOp { request: Some(Op::RequestDeleteRange(delete)) };
        }
        let request = match self.random.between(0, 99) {
            0..40 => Some(Op::RequestPut(self.put())),
            40..70 => Some(Op::RequestRange(self.range())),
            70..85 => Some(Op::RequestDeleteRange(self.delete_in_txn())),
            85..99 if depth < DEPTH_MAX => Some(Op::RequestTxn(self.txn(depth + 1))),
            85..99 => Some(Op::RequestRange(self.range())),
            _ => None,
        };
        RequestOp { request }
    }

    fn compare(&mut self) -> Compare {
        let target = self.choice(5);
        // The operand belongs to the target, mostly.
        let operand = if self.random.one_in(10) { self.random.between(0, 5) } else { i64::from(target) };
        let target_union = match operand {
            0 => Some(TargetUnion::Version(self.random.between(0, 4))),
            1 => Some(TargetUnion::CreateRevision(self.revision())),
            2 => Some(TargetUnion::ModRevision(self.revision())),
            3 => Some(TargetUnion::Value(format!("v{}", self.random.between(0, 16)).into())),
            4 => Some(TargetUnion::Lease(self.random.between(0, 1))),
            _ => None,
        };
        let range_end = if self.random.one_in(5) { self.end() } else { Bytes::new() };
        Compare { result: self.choice(4), target, key: self.key(), range_end, target_union }
    }
}
