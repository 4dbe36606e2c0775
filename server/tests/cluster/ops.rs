//! What clients ask, and what they were told.

use std::time::Duration;

use bytes::Bytes;
use ketch_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::request_op::Request;
use ketch_proto::etcdserverpb::response_op::Response;
use ketch_proto::etcdserverpb::*;
use ketch_proto::mvccpb::KeyValue;
use ketch_proto::tonic::Status;
use ketch_proto::tonic::transport::Channel;

use crate::harness::random::Random;

/// The keys of the clients lie between these.
pub(crate) const FROM: &[u8] = b"k/";
pub(crate) const END: &[u8] = b"k0";
/// How many there are: few, so that clients meet.
const KEYS: u64 = 10;

/// One request. Values are unique.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Put {
        key: Bytes,
        value: Bytes,
    },
    Delete {
        key: Bytes,
    },
    /// If the guard's version is below, two puts in one revision, else a put of the third.
    Swap {
        guard: Bytes,
        below: i64,
        puts: [(Bytes, Bytes); 2],
        third: (Bytes, Bytes),
    },
    Get {
        key: Bytes,
        serializable: bool,
    },
    /// Everything; at a revision, unless that is 0.
    All {
        revision: i64,
        serializable: bool,
    },
    Compact {
        revision: i64,
    },
}

/// What an answer says beside its revision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Nothing,
    Pairs(Vec<KeyValue>),
    Deleted(Vec<KeyValue>),
    /// Whether the condition held, and the guard as it was before.
    Branch(bool, Vec<KeyValue>),
}

/// One request of one client.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    #[expect(dead_code, reason = "shown where something is wrong")]
    pub(crate) client: usize,
    #[expect(dead_code, reason = "shown where something is wrong")]
    pub(crate) member: String,
    pub(crate) ask: Ask,
    /// Since the run began.
    pub(crate) asked: Duration,
    pub(crate) ended: Duration,
    /// The revision and the rest; `None` if the client was not told whether it happened.
    pub(crate) told: Option<(i64, Seen)>,
}

pub(crate) fn key(number: u64) -> Bytes {
    format!("k/{:02}", number % KEYS).into()
}

impl Ask {
    /// Something; `floor` is a revision up to which all watchers have seen everything, `newest` one that is there.
    pub(crate) fn draw(random: &mut Random, client: usize, floor: i64, newest: i64) -> Ask {
        let mut value = || {
            let filler = if random.one_in(10) { random.between(100, 3000) } else { random.between(0, 20) };
            let filler = "x".repeat(usize::try_from(filler).unwrap());
            Bytes::from(format!("{client}.{:x} {filler}", random.next()))
        };
        let values = [value(), value(), value()];
        let [first, second, third] = values;
        let number = random.next();
        let serializable = random.one_in(3);
        match random.between(0, 99) {
            0..35 => Ask::Put { key: key(number), value: first },
            35..45 => Ask::Delete { key: key(number) },
            45..60 => Ask::Swap {
                guard: key(number),
                below: random.between(0, 6),
                puts: [(key(number), first), (key(number + 1), second)],
                third: (key(number + 2), third),
            },
            60..86 => Ask::Get { key: key(number), serializable },
            86..94 => Ask::All { revision: 0, serializable },
            94..99 => Ask::All { revision: (newest - random.between(0, 40)).max(1), serializable },
            _ => Ask::Compact { revision: (floor - random.between(1, 60)).max(1) },
        }
    }

    pub(crate) fn writes(&self) -> bool {
        matches!(self, Ask::Put { .. } | Ask::Delete { .. } | Ask::Swap { .. })
    }

    /// Whether the answer must show everything that was acknowledged before.
    pub(crate) fn is_linearizable(&self) -> bool {
        match self {
            Ask::Get { serializable, .. } => !serializable,
            Ask::All { revision, serializable } => *revision == 0 && !serializable,
            Ask::Compact { .. } => false,
            _ => true,
        }
    }

    /// Sends it; the revision that the answer names, and what else it says.
    pub(crate) async fn send(&self, channel: Channel) -> Result<(i64, Seen), Status> {
        let mut kv = KvClient::new(channel);
        let revision = |header: Option<ResponseHeader>| header.unwrap_or_default().revision;
        match self {
            Ask::Put { key, value } => {
                let request = PutRequest { prev_kv: true, ..put(key, value) };
                let told = kv.put(request).await?.into_inner();
                Ok((revision(told.header), Seen::Pairs(told.prev_kv.into_iter().collect())))
            }
            Ask::Delete { key } => {
                let request = DeleteRangeRequest { key: key.clone(), prev_kv: true, ..Default::default() };
                let told = kv.delete_range(request).await?.into_inner();
                assert_eq!(told.deleted, told.prev_kvs.len() as i64, "{self:?}");
                Ok((revision(told.header), Seen::Deleted(told.prev_kvs)))
            }
            Ask::Swap { guard, below, puts, third } => {
                let told = kv.txn(swap(guard, *below, puts, third)).await?.into_inner();
                let Some(Response::ResponseRange(read)) = &told.responses[0].response else {
                    panic!("{self:?}: {told:?}");
                };
                Ok((revision(told.header), Seen::Branch(told.succeeded, read.kvs.clone())))
            }
            Ask::Get { key, serializable } => {
                let request =
                    RangeRequest { key: key.clone(), serializable: *serializable, ..Default::default() };
                let told = kv.range(request).await?.into_inner();
                Ok((revision(told.header), Seen::Pairs(told.kvs)))
            }
            Ask::All { revision: at, serializable } => {
                let (key, range_end) = (Bytes::from_static(FROM), Bytes::from_static(END));
                let request = RangeRequest {
                    key,
                    range_end,
                    revision: *at,
                    serializable: *serializable,
                    ..Default::default()
                };
                let told = kv.range(request).await?.into_inner();
                Ok((revision(told.header), Seen::Pairs(told.kvs)))
            }
            Ask::Compact { revision: at } => {
                let told = kv.compact(CompactionRequest { revision: *at, physical: false }).await?;
                Ok((revision(told.into_inner().header), Seen::Nothing))
            }
        }
    }
}

fn put(key: &Bytes, value: &Bytes) -> PutRequest {
    PutRequest { key: key.clone(), value: value.clone(), ..Default::default() }
}

fn swap(guard: &Bytes, below: i64, puts: &[(Bytes, Bytes); 2], third: &(Bytes, Bytes)) -> TxnRequest {
    let compare = Compare {
        key: guard.clone(),
        target: CompareTarget::Version.into(),
        result: CompareResult::Less.into(),
        target_union: Some(TargetUnion::Version(below)),
        ..Default::default()
    };
    let read = RangeRequest { key: guard.clone(), ..Default::default() };
    let read = RequestOp { request: Some(Request::RequestRange(read)) };
    let op =
        |(key, value): &(Bytes, Bytes)| RequestOp { request: Some(Request::RequestPut(put(key, value))) };
    let success = [read.clone()].into_iter().chain(puts.iter().map(op)).collect();
    TxnRequest { compare: vec![compare], success, failure: vec![read, op(third)] }
}
