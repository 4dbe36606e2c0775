//! One life of the process: writers and a reader at work until it is killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use ketch_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::request_op::Request as Op;
use ketch_proto::etcdserverpb::*;
use ketch_proto::range_end::prefix_end;
use ketch_proto::tonic::transport::{Channel, Endpoint};
use ketch_proto::tonic::{Code, Status};
use tokio::sync::Notify;

use crate::harness::process::{Instance, Process};
use crate::harness::random::Random;

use super::history::{Ask, Event, Held, Sight};

/// Clients that write, each its own keys.
pub(super) const WRITERS: usize = 6;

/// Keys of a writer that it puts one by one.
const KEYS: i64 = 12;

/// How a life ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// As a crash would end it.
    Kill,
    /// As a supervisor would end it.
    Terminate,
}

/// What happens in a life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// It ends when so many requests were answered.
    pub(super) answers: u64,
    pub(super) end: End,
    /// Whether the writers compact now and then.
    pub(super) compact: bool,
}

/// Shared by the clients of one life.
#[derive(Debug)]
struct Shared {
    answers: AtomicU64,
    plan: Plan,
    reached: Notify,
    over: AtomicBool,
    /// For compaction: the highest revision seen in an answer.
    revision: AtomicU64,
}

/// A connection to the server.
pub(super) async fn connect(server: &Instance) -> KvClient<Channel> {
    let channel = Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
    KvClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// Lets the clients work as planned, then ends the process at once.
pub(super) async fn live(
    server: &Instance,
    mut process: Process,
    random: &mut Random,
    plan: Plan,
) -> (Vec<Event>, Vec<Sight>) {
    let shared = Arc::new(Shared {
        answers: AtomicU64::new(0),
        plan,
        reached: Notify::new(),
        over: AtomicBool::new(false),
        revision: AtomicU64::new(0),
    });
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = connect(server).await;
        writers.push(tokio::spawn(write(client, writer, Random::new(random.next()), shared.clone())));
    }
    let reader = tokio::spawn(read(connect(server).await, shared.clone()));
    shared.reached.notified().await;
    match plan.end {
        End::Kill => process.kill(),
        End::Terminate => {
            process.signal("TERM");
            let status = tokio::task::spawn_blocking(move || process.wait()).await.unwrap();
            assert!(status.success() || status.code().is_none(), "ended with {status} after SIGTERM");
        }
    }
    shared.over.store(true, SeqCst);
    let mut events = Vec::new();
    for writer in writers {
        events.extend(writer.await.unwrap());
    }
    (events, reader.await.unwrap())
}

/// Writes until the process is gone.
async fn write(
    mut client: KvClient<Channel>,
    writer: usize,
    mut random: Random,
    shared: Arc<Shared>,
) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let ask = draw(writer, &mut random, &shared);
        match send(&mut client, &ask).await {
            Ok(revision) => {
                shared.revision.fetch_max(revision.unsigned_abs(), SeqCst);
                events.push(Event { ask, revision: Some(revision) });
                if shared.answers.fetch_add(1, SeqCst) + 1 == shared.plan.answers {
                    shared.reached.notify_one();
                }
            }
            // Compacting twice at one place: not what this is about.
            Err(status) if status.code() == Code::OutOfRange => {}
            Err(status) => {
                let lost = [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled];
                assert!(lost.contains(&status.code()), "{ask:?}: {status:?}");
                events.push(Event { ask, revision: None });
                return events;
            }
        }
    }
}

fn draw(writer: usize, random: &mut Random, shared: &Shared) -> Ask {
    // Tells every write of every life from every other.
    let mut value = format!("{writer}.{:x}", random.next());
    if random.one_in(15) {
        // More than a page, sometimes more than a segment's worth of small ones.
        value.extend(std::iter::repeat_n('x', usize::try_from(random.between(4_000, 60_000)).unwrap()));
    }
    match random.between(0, if shared.plan.compact { 99 } else { 96 }) {
        0..60 => Ask::Put { key: format!("w{writer}/{:02}", random.between(0, KEYS - 1)), value },
        60..85 => Ask::PutAll { keys: triple(writer), value },
        85..93 => Ask::Delete { prefix: format!("w{writer}/{}", random.between(0, 1)) },
        93..97 => Ask::Delete { prefix: format!("t{writer}/") },
        _ => {
            let seen = i64::try_from(shared.revision.load(SeqCst)).unwrap();
            Ask::Compact { revision: (seen - random.between(0, 200)).max(1) }
        }
    }
}

/// The keys of a writer that only ever change together.
pub(super) fn triple(writer: usize) -> Vec<String> {
    ["x", "y", "z"].map(|name| format!("t{writer}/{name}")).to_vec()
}

/// Sends a request and returns the revision that answers it.
pub(super) async fn send(client: &mut KvClient<Channel>, ask: &Ask) -> Result<i64, Status> {
    let put = |key: &String, value: &String| PutRequest {
        key: key.clone().into(),
        value: value.clone().into(),
        ..Default::default()
    };
    let header = match ask {
        Ask::Put { key, value } => client.put(put(key, value)).await?.into_inner().header,
        Ask::PutAll { keys, value } => {
            let ops = keys.iter().map(|key| RequestOp { request: Some(Op::RequestPut(put(key, value))) });
            // Always true; a transaction without a compare would be too simple.
            let compare = Compare {
                key: keys[0].clone().into(),
                target: CompareTarget::Version.into(),
                result: CompareResult::Greater.into(),
                target_union: Some(TargetUnion::Version(-1)),
                ..Default::default()
            };
            let txn = TxnRequest { compare: vec![compare], success: ops.collect(), failure: Vec::new() };
            client.txn(txn).await?.into_inner().header
        }
        Ask::Delete { prefix } => {
            let range_end = prefix_end(prefix.as_bytes()).into();
            let delete = DeleteRangeRequest { key: prefix.clone().into(), range_end, prev_kv: false };
            client.delete_range(delete).await?.into_inner().header
        }
        Ask::Compact { revision } => {
            client
                .compact(CompactionRequest { revision: *revision, physical: false })
                .await?
                .into_inner()
                .header
        }
    };
    Ok(header.unwrap().revision)
}

/// Reads everything again and again; keeps a few sights, the last one among them.
async fn read(mut client: KvClient<Channel>, shared: Arc<Shared>) -> Vec<Sight> {
    let mut sights: Vec<Sight> = Vec::new();
    while !shared.over.load(SeqCst) {
        let Ok(sight) = see(&mut client, 0).await else { break };
        if let Some(before) = sights.last() {
            assert!(before.revision <= sight.revision, "a read went back in time");
        }
        if sights.len() == 8 {
            sights.remove(0);
        }
        sights.push(sight);
    }
    sights
}

/// All keys at a revision; 0 is now.
pub(super) async fn see(client: &mut KvClient<Channel>, revision: i64) -> Result<Sight, Status> {
    let all = RangeRequest {
        key: b"\0".to_vec().into(),
        range_end: b"\0".to_vec().into(),
        revision,
        ..Default::default()
    };
    let response = client.range(all).await?.into_inner();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let keys: BTreeMap<String, Held> = response
        .kvs
        .iter()
        .map(|kv| (text(&kv.key), Held { value: text(&kv.value), revision: kv.mod_revision }))
        .collect();
    for writer in 0..WRITERS {
        let held: Vec<Option<&Held>> = triple(writer).iter().map(|key| keys.get(key)).collect();
        assert!(held.iter().all(|one| *one == held[0]), "half a transaction: {held:?}");
    }
    let now = response.header.unwrap().revision;
    Ok(Sight { revision: if revision == 0 { now } else { revision }, keys })
}
