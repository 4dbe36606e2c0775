//! A request of any RPC, and what is compared of its answer.

use std::fmt::Debug;

use ketch_proto::etcdserverpb::cluster_client::ClusterClient;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::healthpb::health_client::HealthClient;
use ketch_proto::healthpb::{HealthCheckRequest, HealthListRequest};
use ketch_proto::tonic::metadata::MetadataValue;
use ketch_proto::tonic::service::interceptor::InterceptedService;
use ketch_proto::tonic::transport::Channel;
use ketch_proto::tonic::{Request as GrpcRequest, Response, Status, Streaming};

/// Every RPC of one member but Watch, which has a life of its own (see `watching`).
#[derive(Clone, Debug)]
pub(super) enum Request {
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Alarm(AlarmRequest),
    Status(StatusRequest),
    Hash(HashRequest),
    HashKv(HashKvRequest),
    Defragment(DefragmentRequest),
    Downgrade(DowngradeRequest),
    Snapshot(SnapshotRequest),
    MemberList(MemberListRequest),
    MemberAdd(MemberAddRequest),
    MemberRemove(MemberRemoveRequest),
    MemberPromote(MemberPromoteRequest),
    Check(HealthCheckRequest),
    List(HealthListRequest),
}

impl Request {
    /// The RPC's name, as `docs/compat.md` has it.
    pub(super) fn rpc(&self) -> &'static str {
        match self {
            Request::Range(_) => "etcdserverpb.KV/Range",
            Request::RangeStream(_) => "etcdserverpb.KV/RangeStream",
            Request::Put(_) => "etcdserverpb.KV/Put",
            Request::Delete(_) => "etcdserverpb.KV/DeleteRange",
            Request::Txn(_) => "etcdserverpb.KV/Txn",
            Request::Compact(_) => "etcdserverpb.KV/Compact",
            Request::Alarm(_) => "etcdserverpb.Maintenance/Alarm",
            Request::Status(_) => "etcdserverpb.Maintenance/Status",
            Request::Hash(_) => "etcdserverpb.Maintenance/Hash",
            Request::HashKv(_) => "etcdserverpb.Maintenance/HashKV",
            Request::Defragment(_) => "etcdserverpb.Maintenance/Defragment",
            Request::Downgrade(_) => "etcdserverpb.Maintenance/Downgrade",
            Request::Snapshot(_) => "etcdserverpb.Maintenance/Snapshot",
            Request::MemberList(_) => "etcdserverpb.Cluster/MemberList",
            Request::MemberAdd(_) => "etcdserverpb.Cluster/MemberAdd",
            Request::MemberRemove(_) => "etcdserverpb.Cluster/MemberRemove",
            Request::MemberPromote(_) => "etcdserverpb.Cluster/MemberPromote",
            Request::Check(_) => "grpc.health.v1.Health/Check",
            Request::List(_) => "grpc.health.v1.Health/List",
        }
    }
}

/// What a request brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// The whole answer or the error, sizes and hashes masked.
    pub(super) text: String,
    /// The revision that the answer states, or 0.
    pub(super) revision: i64,
    pub(super) refused: bool,
    /// Alarms that the answer lists.
    pub(super) alarms: Vec<AlarmMember>,
}

/// An answer as text: the whole message, or code and text of the error.
pub(super) fn answer<T: Debug>(result: Result<Response<T>, Status>) -> String {
    match result {
        Ok(response) => format!("{:?}", response.into_inner()),
        Err(status) => format!("{:?}: {:?}", status.code(), status.message()),
    }
}

/// The clients of one server.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    kv: KvClient<InterceptedService<Channel, Metadata>>,
    maintenance: MaintenanceClient<Channel>,
    cluster: ClusterClient<Channel>,
    health: HealthClient<Channel>,
}

/// What goes with each request.
type Metadata = fn(GrpcRequest<()>) -> Result<GrpcRequest<()>, Status>;

/// A token, which means nothing while there is no authentication: the servers answer as without, if perhaps by other means.
fn token(mut request: GrpcRequest<()>) -> Result<GrpcRequest<()>, Status> {
    request.metadata_mut().insert("token", MetadataValue::from_static("none"));
    Ok(request)
}

impl Asker {
    pub(super) fn new(channel: Channel) -> Asker {
        Asker::with(channel, Ok)
    }

    /// One whose requests of KV have metadata.
    pub(super) fn with_token(channel: Channel) -> Asker {
        Asker::with(channel, token)
    }

    fn with(channel: Channel, metadata: Metadata) -> Asker {
        let kv = KvClient::with_interceptor(channel.clone(), metadata);
        Asker {
            kv: kv.max_decoding_message_size(usize::MAX),
            maintenance: MaintenanceClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            health: HealthClient::new(channel),
        }
    }

    pub(super) async fn ask(&mut self, request: Request) -> Reply {
        let (kv, maintenance) = (&mut self.kv, &mut self.maintenance);
        match request {
            Request::Range(request) => reply(kv.range(request).await, |a| a.header),
            Request::RangeStream(request) => {
                let joined = match kv.range_stream(request).await {
                    Ok(stream) => join_chunks(stream.into_inner()).await,
                    Err(status) => Err(status),
                };
                reply(joined.map(Response::new), |a| a.header)
            }
            Request::Put(request) => reply(kv.put(request).await, |a| a.header),
            Request::Delete(request) => reply(kv.delete_range(request).await, |a| a.header),
            Request::Txn(request) => reply(kv.txn(request).await, |a| a.header),
            Request::Compact(request) => reply(kv.compact(request).await, |a| a.header),
            Request::Alarm(request) => {
                let result = maintenance.alarm(request).await.map(|answer| answer.map(sort_alarms));
                let alarms = result.as_ref().map_or(Vec::new(), |a| a.get_ref().alarms.clone());
                Reply { alarms, ..reply(result, |a| a.header) }
            }
            Request::Status(request) => {
                reply(maintenance.status(request).await.map(|a| a.map(mask_status)), |a| a.header)
            }
            Request::Hash(request) => {
                reply(maintenance.hash(request).await.map(|a| a.map(mask_hash)), |a| a.header)
            }
            Request::HashKv(request) => {
                reply(maintenance.hash_kv(request).await.map(|a| a.map(mask_hash_kv)), |a| a.header)
            }
            Request::Defragment(request) => reply(maintenance.defragment(request).await, |a| a.header),
            Request::Downgrade(request) => reply(maintenance.downgrade(request).await, |a| a.header),
            Request::Snapshot(request) => {
                let shape = match maintenance.snapshot(request).await {
                    Ok(stream) => snapshot_shape(stream.into_inner()).await,
                    Err(status) => Err(status),
                };
                reply(shape.map(Response::new), |_| None)
            }
            Request::MemberList(request) => reply(self.cluster.member_list(request).await, |a| a.header),
            Request::MemberAdd(request) => reply(self.cluster.member_add(request).await, |a| a.header),
            Request::MemberRemove(request) => reply(self.cluster.member_remove(request).await, |a| a.header),
            Request::MemberPromote(request) => {
                reply(self.cluster.member_promote(request).await, |a| a.header)
            }
            Request::Check(request) => reply(self.health.check(request).await, |_| None),
            Request::List(request) => {
                // A map: its order means nothing.
                let sorted = self.health.list(request).await.map(|answer| {
                    answer.map(|list| list.statuses.into_iter().collect::<std::collections::BTreeMap<_, _>>())
                });
                reply(sorted, |_| None)
            }
        }
    }
}

fn reply<T: Debug>(
    result: Result<Response<T>, Status>,
    header: impl FnOnce(&T) -> Option<ResponseHeader>,
) -> Reply {
    let header = result.as_ref().ok().and_then(|response| header(response.get_ref()));
    let refused = result.is_err();
    let revision = header.map_or(0, |header| header.revision);
    Reply { text: answer(result), revision, refused, alarms: Vec::new() }
}

pub(super) fn mask_status(mut status: StatusResponse) -> StatusResponse {
    assert!(status.db_size >= status.db_size_in_use && status.db_size_in_use > 0, "{status:?}");
    (status.db_size, status.db_size_in_use) = (0, 0);
    // Go puts one or two spaces between the fields of an alarm, from build to build.
    for error in &mut status.errors {
        *error = error.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    status.errors.sort_unstable();
    status
}

/// etcd lists them in no order.
fn sort_alarms(mut answer: AlarmResponse) -> AlarmResponse {
    answer.alarms.sort_by_key(|alarm| (alarm.alarm, alarm.member_id));
    answer
}

fn mask_hash(answer: HashResponse) -> HashResponse {
    HashResponse { hash: 0, ..answer }
}

fn mask_hash_kv(answer: HashKvResponse) -> HashKvResponse {
    HashKvResponse { hash: 0, ..answer }
}

/// Joins the chunks of a streamed list; what a chunk may carry is checked.
async fn join_chunks(mut stream: Streaming<RangeStreamResponse>) -> Result<RangeResponse, Status> {
    let mut kvs = Vec::new();
    let mut last: Option<RangeResponse> = None;
    while let Some(chunk) = stream.message().await? {
        if let Some(previous) = last.take() {
            let only_kvs = RangeResponse { kvs: previous.kvs.clone(), ..Default::default() };
            assert_eq!(previous, only_kvs, "only the last chunk has more than keys");
            assert!(!previous.kvs.is_empty(), "an empty chunk before the last");
            kvs.extend(previous.kvs);
        }
        last = Some(chunk.range_response.unwrap_or_default());
    }
    let last = last.ok_or_else(|| Status::unknown("the stream has no chunk"))?;
    assert!(last.header.is_some(), "the last chunk has the header: {last:?}");
    kvs.extend(last.kvs);
    Ok(RangeResponse { kvs, ..last })
}

/// What can be said of every snapshot: the names of its parts and the version, not its bytes.
#[derive(Debug)]
#[expect(dead_code, reason = "shown by Debug, which is what is compared")]
struct SnapshotShape {
    version: String,
    headers: bool,
    versions_equal: bool,
    remaining_counts_down: bool,
    remaining_at_end: u64,
    last_blob_bytes: usize,
}

async fn snapshot_shape(mut stream: Streaming<SnapshotResponse>) -> Result<SnapshotShape, Status> {
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await? {
        parts.push(part);
    }
    let (first, last) = (parts.first(), parts.last());
    let first = first.ok_or_else(|| Status::unknown("the snapshot is empty"))?;
    // What is left behind each part; the hash at the end is not counted.
    let counted = parts.split_last().map_or(&[][..], |(_, counted)| counted);
    let total: u64 = counted.iter().map(|part| part.blob.len() as u64).sum();
    let mut left = total;
    let mut counts_down = true;
    for part in counted {
        left -= part.blob.len() as u64;
        counts_down &= part.remaining_bytes == left;
    }
    Ok(SnapshotShape {
        version: first.version.clone(),
        headers: parts.iter().any(|part| part.header.is_some()),
        versions_equal: parts.iter().all(|part| part.version == first.version),
        remaining_counts_down: counts_down,
        remaining_at_end: last.map_or(0, |part| part.remaining_bytes),
        last_blob_bytes: last.map_or(0, |part| part.blob.len()),
    })
}
