//! A KV service that counts what it is asked, on a loopback port of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ketch_proto::etcdserverpb::kv_server::{Kv, KvServer};
use ketch_proto::etcdserverpb::*;
use ketch_proto::rpc_error::RpcError;
use ketch_proto::tonic::transport::Server;
use ketch_proto::tonic::transport::server::TcpIncoming;
use ketch_proto::tonic::{Request, Response, Status, async_trait};

/// How often each method was called.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) puts: AtomicU64,
    pub(crate) value_bytes: AtomicU64,
    pub(crate) gets: AtomicU64,
    pub(crate) lists: AtomicU64,
    pub(crate) counts: AtomicU64,
    pub(crate) txns: AtomicU64,
}

/// Every so many puts, one is refused.
pub(crate) const REFUSED_EVERY: u64 = 10;

#[derive(Debug)]
struct Counting(Arc<Counts>);

/// Starts the service; it ends with the runtime.
pub(crate) async fn start() -> (String, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    let service = KvServer::new(Counting(counts.clone()));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    (url, counts)
}

#[async_trait]
impl Kv for Counting {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        let counter = match (request.count_only, request.range_end.is_empty()) {
            (true, _) => &self.0.counts,
            (false, true) => &self.0.gets,
            (false, false) => &self.0.lists,
        };
        counter.fetch_add(1, Relaxed);
        Ok(Response::new(RangeResponse::default()))
    }

    type RangeStreamStream = tokio_stream::Empty<Result<RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.0.value_bytes.fetch_add(request.get_ref().value.len() as u64, Relaxed);
        if self.0.puts.fetch_add(1, Relaxed).is_multiple_of(REFUSED_EVERY) {
            return Err(RpcError::NoSpace.into());
        }
        Ok(Response::new(PutResponse::default()))
    }

    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        Ok(Response::new(DeleteRangeResponse::default()))
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.0.txns.fetch_add(1, Relaxed);
        Ok(Response::new(TxnResponse::default()))
    }

    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        Ok(Response::new(CompactionResponse::default()))
    }
}
