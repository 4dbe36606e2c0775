//! From a gRPC path to the method: the one list of what is served. Everything else is UNIMPLEMENTED, by name.

use std::sync::Arc;

use bytes::Bytes;
use ketch_proto::rpc_error::RpcError;
use prost::Message;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;

use super::answer::Answer;
use super::context::Context;
use super::error::{ApiError, too_large_to_send};
use super::slow::{Facts, Remote, Watch};
use super::streams::Guarded;
use super::{Api, cluster, health, kv, maintenance, range_stream, watch};
use crate::clock;
use crate::grpc;
use crate::grpc::outgoing::{MESSAGE_BYTES_MAX, Outgoing};
use crate::metrics::{CallKind, GrpcMetrics};

/// Answers one gRPC request.
pub async fn serve<B>(api: Arc<Api>, remote: Remote, request: http::Request<B>) -> http::Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    if let Err(refusal) = for_learner(&api, request.uri().path()) {
        return Status::from(refusal).into_http();
    }
    let call = Call { api, remote, request };
    // Frequent calls have room in the task that answers; for the others it would be too much.
    match call.request.uri().path() {
        "/etcdserverpb.KV/Range" => call.unary(kv::range).await,
        "/etcdserverpb.KV/RangeStream" => Box::pin(call.server_stream(range_stream::range_stream)).await,
        "/etcdserverpb.KV/Put" => call.unary(kv::put).await,
        "/etcdserverpb.KV/DeleteRange" => call.unary(kv::delete).await,
        "/etcdserverpb.KV/Txn" => call.unary(kv::txn).await,
        "/etcdserverpb.KV/Compact" => Box::pin(call.unary(kv::compact)).await,
        "/etcdserverpb.Maintenance/Status" => Box::pin(call.unary(maintenance::status)).await,
        "/etcdserverpb.Maintenance/Alarm" => Box::pin(call.unary(maintenance::alarm)).await,
        "/etcdserverpb.Maintenance/Defragment" => Box::pin(call.unary(maintenance::defragment)).await,
        "/etcdserverpb.Maintenance/Hash" => Box::pin(call.unary(maintenance::hash)).await,
        "/etcdserverpb.Maintenance/HashKV" => Box::pin(call.unary(maintenance::hash_kv)).await,
        "/etcdserverpb.Maintenance/MoveLeader" => Box::pin(call.unary(maintenance::move_leader)).await,
        "/etcdserverpb.Maintenance/Downgrade" => Box::pin(call.unary(maintenance::downgrade)).await,
        "/etcdserverpb.Maintenance/Snapshot" => Box::pin(call.server_stream(maintenance::snapshot)).await,
        "/etcdserverpb.Cluster/MemberList" => Box::pin(call.unary(cluster::list)).await,
        "/etcdserverpb.Cluster/MemberAdd" => Box::pin(call.unary(cluster::add)).await,
        "/etcdserverpb.Cluster/MemberRemove" => Box::pin(call.unary(cluster::remove)).await,
        "/etcdserverpb.Cluster/MemberUpdate" => Box::pin(call.unary(cluster::update)).await,
        "/etcdserverpb.Cluster/MemberPromote" => Box::pin(call.unary(cluster::promote)).await,
        "/etcdserverpb.Watch/Watch" => watch::serve(call.api, call.request),
        "/grpc.health.v1.Health/Check" => Box::pin(call.unary(health::check)).await,
        "/grpc.health.v1.Health/List" => Box::pin(call.unary(health::list)).await,
        "/grpc.health.v1.Health/Watch" => Box::pin(call.server_stream(health::watch)).await,
        path => unimplemented(path),
    }
}

/// A learner only answers what it can answer by itself. Of ranges those that are serializable, see [`kv::range`].
fn for_learner(api: &Api, path: &str) -> Result<(), RpcError> {
    match path {
        "/etcdserverpb.Maintenance/Status"
        | "/etcdserverpb.Maintenance/Snapshot"
        | "/etcdserverpb.KV/Range" => Ok(()),
        _ if api.shared.standing().is_learner => Err(RpcError::NotSupportedForLearner),
        _ => Ok(()),
    }
}

struct Call<B> {
    api: Arc<Api>,
    remote: Remote,
    request: http::Request<B>,
}

impl<B> Call<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    /// A method of one request and one answer.
    async fn unary<Q, A, F, R>(self, handler: F) -> http::Response<Body>
    where
        Q: Message + Default,
        A: Answer,
        F: FnOnce(Arc<Api>, Context, Q) -> R,
        R: Future<Output = Result<A, ApiError>>,
    {
        let answered = self.answer(CallKind::Unary, handler).await;
        let sent = answered.and_then(|(_, answer, watch)| {
            let facts = answer.facts();
            let message = sendable(answer.into_outgoing())?;
            if let Some(watch) = watch {
                watch.answered(Facts { bytes: message.len(), ..facts });
            }
            Ok(message)
        });
        sent.map_or_else(Status::into_http, grpc::answer::unary)
    }

    /// A method of one request and a stream of answers.
    async fn server_stream<Q, A, S, F, R>(self, handler: F) -> http::Response<Body>
    where
        Q: Message + Default,
        A: Answer,
        S: Stream<Item = Result<A, ApiError>> + Send + Unpin + 'static,
        F: FnOnce(Arc<Api>, Context, Q) -> R,
        R: Future<Output = Result<S, ApiError>>,
    {
        let api = Arc::clone(&self.api);
        match self.answer(CallKind::Stream, handler).await {
            Ok((context, answers, _)) => {
                let messages = Guarded::new(&api, &context, answers)
                    .map(|answer| answer.and_then(|answer| sendable(answer.into_outgoing())));
                grpc::answer::streaming(messages)
            }
            Err(status) => status.into_http(),
        }
    }

    /// Reads the request and hands it to `handler`.
    async fn answer<Q, A, F, R>(
        self,
        kind: CallKind,
        handler: F,
    ) -> Result<(Context, A, Option<Watch>), Status>
    where
        Q: Message + Default,
        F: FnOnce(Arc<Api>, Context, Q) -> R,
        R: Future<Output = Result<A, ApiError>>,
    {
        let Call { api, remote, request } = self;
        let (parts, body) = request.into_parts();
        let message = grpc::request::message(&parts.headers, body, api.limits.message_bytes_max()).await?;
        let request = Q::decode(message.clone())
            .map_err(|error| Status::internal(format!("grpc: error unmarshalling request: {error}")))?;
        let watch = (kind == CallKind::Unary).then(|| {
            let path = GrpcMetrics::known_path(parts.uri.path());
            Watch::of(Arc::clone(&api), path, remote, message, clock::now())
        });
        let context = Context::of(&api, &MetadataMap::from_headers(parts.headers), kind)?;
        let answer = handler(api, context.clone(), request).await;
        let answer = answer.map_err(|error| Status::from(context.name_timeout(error)))?;
        Ok((context, answer, watch))
    }
}

/// Refuses a message that is longer than etcd sends, in the words of gRPC-Go.
pub(super) fn sendable(message: Outgoing) -> Result<Outgoing, Status> {
    match message.len() {
        0..=MESSAGE_BYTES_MAX => Ok(message),
        len => Err(too_large_to_send(len, MESSAGE_BYTES_MAX)),
    }
}

fn unimplemented(path: &str) -> http::Response<Body> {
    let name = path.trim_start_matches('/');
    Status::from(ApiError::Unimplemented(format!("ketch: {name} is not implemented in this version")))
        .into_http()
}
