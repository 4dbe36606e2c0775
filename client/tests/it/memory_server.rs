//! A KV service that puts and reads single keys in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use ketch_proto::etcdserverpb::kv_server::{Kv, KvServer};
use ketch_proto::etcdserverpb::*;
use ketch_proto::mvccpb::KeyValue;
use ketch_proto::rpc_error::RpcError;
use ketch_proto::tonic::transport::Server;
use ketch_proto::tonic::transport::server::TcpIncoming;
use ketch_proto::tonic::{Request, Response, Status, async_trait};

/// Number of puts, and what they left.
#[derive(Debug, Default)]
struct Memory(Mutex<(i64, BTreeMap<Bytes, KeyValue>)>);

/// Starts the service and returns its URL; it ends with the runtime.
pub(crate) async fn start() -> String {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    let service = KvServer::new(Memory::default());
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    url
}

fn header(puts: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision: puts + 1, ..Default::default() })
}

fn not_here<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not part of this test"))
}

#[async_trait]
impl Kv for Memory {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let memory = self.0.lock().unwrap();
        let kvs: Vec<KeyValue> = memory.1.get(&request.get_ref().key).cloned().into_iter().collect();
        let count = i64::try_from(kvs.len()).unwrap();
        Ok(Response::new(RangeResponse { header: header(memory.0), kvs, count, more: false }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let PutRequest { key, value, .. } = request.into_inner();
        if key.is_empty() {
            return Err(RpcError::EmptyKey.into());
        }
        let mut memory = self.0.lock().unwrap();
        memory.0 += 1;
        let mod_revision = memory.0 + 1;
        memory.1.insert(key.clone(), KeyValue { key, value, mod_revision, ..Default::default() });
        Ok(Response::new(PutResponse { header: header(memory.0), prev_kv: None }))
    }

    type RangeStreamStream = tokio_stream::Empty<Result<RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        not_here()
    }

    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        not_here()
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        not_here()
    }

    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        not_here()
    }
}
