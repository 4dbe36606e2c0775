//! Requests of a plan, encoded.

use bytes::{BufMut as _, Bytes};
use ketch_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use ketch_proto::etcdserverpb::request_op::Request as Op;
use ketch_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use ketch_proto::prost::Message;
use ketch_proto::range_end::prefix_end;

use super::plan::{Operation, Plan};

/// Draws the requests of one client.
#[derive(Debug)]
pub(super) struct Requests<'a> {
    plan: &'a Plan,
    random: u64,
    value: Bytes,
    prefix_end: Vec<u8>,
}

impl<'a> Requests<'a> {
    /// The requests of client number `client`.
    pub(super) fn new(plan: &'a Plan, client: usize) -> Requests<'a> {
        // A value that does not compress and differs between clients.
        let mut random = plan.seed ^ (client as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95);
        let value = (0..plan.value_size).map(|_| b'!' + (next(&mut random) % 90) as u8).collect();
        Requests { plan, random, value, prefix_end: prefix_end(plan.prefix.as_bytes()) }
    }

    /// Appends the request with the given number as gRPC carries it: five bytes, then the message.
    pub(super) fn encode(&mut self, number: u64, out: &mut Vec<u8>) {
        match self.plan.operation {
            Operation::Put => framed(&self.put(number), out),
            Operation::Txn => framed(&self.txn(number), out),
            Operation::Get | Operation::Range | Operation::Count => framed(&self.range(number), out),
        }
    }

    fn key(&mut self, number: u64) -> Vec<u8> {
        let space = self.plan.key_space.max(1);
        let index = if self.plan.sequential { number % space } else { next(&mut self.random) % space };
        let width = self.plan.key_size.saturating_sub(self.plan.prefix.len());
        format!("{}{index:0width$}", self.plan.prefix).into_bytes()
    }

    fn put(&mut self, number: u64) -> PutRequest {
        let key = self.key(number);
        PutRequest { key: key.into(), value: self.value.clone(), ..Default::default() }
    }

    fn txn(&mut self, number: u64) -> TxnRequest {
        let put = self.put(number);
        let compare = Compare {
            key: put.key.clone(),
            target: CompareTarget::Create.into(),
            result: CompareResult::Equal.into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Default::default()
        };
        let branch = vec![RequestOp { request: Some(Op::RequestPut(put)) }];
        TxnRequest { compare: vec![compare], success: branch.clone(), failure: branch }
    }

    fn range(&mut self, number: u64) -> RangeRequest {
        let mut request = RangeRequest { serializable: self.plan.serializable, ..Default::default() };
        match self.plan.operation {
            Operation::Count => {
                request.key = self.plan.prefix.clone().into();
                request.range_end = self.prefix_end.clone().into();
                request.count_only = true;
            }
            Operation::Range => {
                request.key = self.key(number).into();
                request.range_end = self.prefix_end.clone().into();
                request.limit = self.plan.limit;
            }
            _ => request.key = self.key(number).into(),
        }
        request
    }
}

fn framed(message: &impl Message, out: &mut Vec<u8>) {
    out.put_u8(0);
    out.put_u32(message.encoded_len() as u32);
    message.encode(out).expect("a vector grows");
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_size_asked_for_and_stay_in_their_space() {
        let plan = Plan { key_size: 12, key_space: 3, sequential: true, ..Plan::default() };
        let mut requests = Requests::new(&plan, 0);
        let keys: Vec<_> = (0..4).map(|number| String::from_utf8(requests.key(number)).unwrap()).collect();
        assert_eq!(keys, ["load/0000000", "load/0000001", "load/0000002", "load/0000000"]);
    }

    #[test]
    fn one_seed_draws_the_same_keys() {
        let plan = Plan::default();
        let draw = |client| Requests::new(&plan, client).key(0);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
