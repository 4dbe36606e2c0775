//! From a gRPC path to the method: the one list of what is served. Everything else is UNIMPLEMENTED, by name.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::codec::Codec;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::codec::AnswerCodec;
use super::context::Context;
use super::error::{ApiError, message_too_large};
use super::streams::Guarded;
use super::{Api, cluster, health, kv, maintenance};

/// What gRPC adds to the largest command: room for everything around it.
const GRPC_OVERHEAD_BYTES: usize = 512 << 10;

/// Answers one gRPC request.
pub async fn serve<B>(api: Arc<Api>, request: http::Request<B>) -> http::Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let call = Call { api, request };
    match call.request.uri().path() {
        "/etcdserverpb.KV/Range" => call.unary(AnswerCodec::default(), kv::range).await,
        "/etcdserverpb.KV/Put" => call.unary(AnswerCodec::default(), kv::put).await,
        "/etcdserverpb.KV/DeleteRange" => call.unary(AnswerCodec::default(), kv::delete).await,
        "/etcdserverpb.KV/Txn" => call.unary(AnswerCodec::default(), kv::txn).await,
        "/etcdserverpb.KV/Compact" => call.unary(AnswerCodec::default(), kv::compact).await,
        "/etcdserverpb.Maintenance/Status" => call.plain(maintenance::status).await,
        "/etcdserverpb.Maintenance/Alarm" => call.plain(maintenance::alarm).await,
        "/etcdserverpb.Maintenance/Defragment" => call.plain(maintenance::defragment).await,
        "/etcdserverpb.Maintenance/Hash" => call.plain(maintenance::hash).await,
        "/etcdserverpb.Maintenance/HashKV" => call.plain(maintenance::hash_kv).await,
        "/etcdserverpb.Maintenance/MoveLeader" => call.plain(maintenance::move_leader).await,
        "/etcdserverpb.Maintenance/Downgrade" => call.plain(maintenance::downgrade).await,
        "/etcdserverpb.Cluster/MemberList" => call.plain(cluster::list).await,
        "/grpc.health.v1.Health/Check" => call.plain(health::check).await,
        "/grpc.health.v1.Health/List" => call.plain(health::list).await,
        "/grpc.health.v1.Health/Watch" => call.server_stream(ProstCodec::default(), health::watch).await,
        path => unimplemented(path),
    }
}

struct Call<B> {
    api: Arc<Api>,
    request: http::Request<B>,
}

impl<B> Call<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    /// A unary method whose answer prost encodes.
    async fn plain<Q, A, F, R>(self, handler: F) -> http::Response<Body>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Send + Sync + 'static,
        F: FnOnce(Arc<Api>, Context, Q) -> R + Clone + Send + 'static,
        R: Future<Output = Result<A, ApiError>> + Send + 'static,
    {
        self.unary(ProstCodec::default(), handler).await
    }

    async fn unary<C, Q, A, F, R>(self, codec: C, handler: F) -> http::Response<Body>
    where
        C: Codec<Encode = A, Decode = Q> + Send + 'static,
        Q: Send + Sync + 'static,
        A: Send + Sync + 'static,
        F: FnOnce(Arc<Api>, Context, Q) -> R + Clone + Send + 'static,
        R: Future<Output = Result<A, ApiError>> + Send + 'static,
    {
        let Call { api, request } = self;
        let limit = api.limits.request_bytes_max + GRPC_OVERHEAD_BYTES;
        let serve = service_fn(move |request: Request<Q>| {
            let (api, handler) = (Arc::clone(&api), handler.clone());
            async move { answer(&api, request, handler).await }
        });
        let mut grpc = Grpc::new(codec).max_decoding_message_size(limit);
        name_too_large(grpc.unary(serve, request).await, limit)
    }

    /// A method of one request and a stream of answers.
    async fn server_stream<C, Q, A, S, F, R>(self, codec: C, handler: F) -> http::Response<Body>
    where
        C: Codec<Encode = A, Decode = Q> + Send + 'static,
        Q: Send + Sync + 'static,
        A: Send + Sync + 'static,
        S: Stream<Item = Result<A, ApiError>> + Send + 'static,
        F: FnOnce(Arc<Api>, Context, Q) -> R + Clone + Send + 'static,
        R: Future<Output = Result<S, ApiError>> + Send + 'static,
    {
        let Call { api, request } = self;
        let limit = api.limits.request_bytes_max + GRPC_OVERHEAD_BYTES;
        let serve = service_fn(move |request: Request<Q>| {
            let (api, handler) = (Arc::clone(&api), handler.clone());
            async move { answers(&api, request, handler).await }
        });
        let mut grpc = Grpc::new(codec).max_decoding_message_size(limit);
        name_too_large(grpc.server_streaming(serve, request).await, limit)
    }

    /// A method of a stream of requests and a stream of answers.
    #[expect(dead_code, reason = "the lease service is its first user")]
    async fn bidi<C, Q, A, S, F, R>(self, codec: C, handler: F) -> http::Response<Body>
    where
        C: Codec<Encode = A, Decode = Q> + Send + 'static,
        Q: Send + Sync + 'static,
        A: Send + Sync + 'static,
        S: Stream<Item = Result<A, ApiError>> + Send + 'static,
        F: FnOnce(Arc<Api>, Context, Streaming<Q>) -> R + Clone + Send + 'static,
        R: Future<Output = Result<S, ApiError>> + Send + 'static,
    {
        let Call { api, request } = self;
        let limit = api.limits.request_bytes_max + GRPC_OVERHEAD_BYTES;
        let serve = service_fn(move |request: Request<Streaming<Q>>| {
            let (api, handler) = (Arc::clone(&api), handler.clone());
            async move { answers(&api, request, handler).await }
        });
        let mut grpc = Grpc::new(codec).max_decoding_message_size(limit);
        grpc.streaming(serve, request).await
    }
}

async fn answers<Q, A, S, F, R>(
    api: &Arc<Api>,
    request: Request<Q>,
    handler: F,
) -> Result<Response<Guarded<S>>, Status>
where
    S: Stream<Item = Result<A, ApiError>>,
    F: FnOnce(Arc<Api>, Context, Q) -> R,
    R: Future<Output = Result<S, ApiError>>,
{
    let context = Context::of(api, request.metadata())?;
    let answers = handler(Arc::clone(api), context.clone(), request.into_inner()).await;
    let answers = answers.map_err(|error| Status::from(context.name_timeout(error)))?;
    Ok(Response::new(Guarded::new(api, &context, answers)))
}

async fn answer<Q, A, F, R>(api: &Arc<Api>, request: Request<Q>, handler: F) -> Result<Response<A>, Status>
where
    F: FnOnce(Arc<Api>, Context, Q) -> R,
    R: Future<Output = Result<A, ApiError>>,
{
    let context = Context::of(api, request.metadata())?;
    let answer = handler(Arc::clone(api), context.clone(), request.into_inner()).await;
    answer.map(Response::new).map_err(|error| context.name_timeout(error).into())
}

/// tonic's refusal of an oversized message, in gRPC-Go's code and words, which etcd's clients know.
fn name_too_large(response: http::Response<Body>, limit: usize) -> http::Response<Body> {
    if response.headers().get("grpc-status").is_none_or(|status| status != "11") {
        return response;
    }
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let found = status.message().strip_prefix("Error, decoded message length too large: found ");
    match found.and_then(|rest| rest.split_once(' ')) {
        Some((found, _)) => message_too_large(found, limit).into_http(),
        None => response,
    }
}

fn unimplemented(path: &str) -> http::Response<Body> {
    let name = path.trim_start_matches('/');
    Status::from(ApiError::Unimplemented(format!("ketch: {name} is not implemented in this version")))
        .into_http()
}
