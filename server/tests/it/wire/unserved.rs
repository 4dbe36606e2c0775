//! What is not served yet says so: `UNIMPLEMENTED` with the name of the RPC, never a made-up success.

use ketch_proto::tonic::client::Grpc;
use ketch_proto::tonic::codegen::http::uri::PathAndQuery;
use ketch_proto::tonic::transport::Endpoint;
use ketch_proto::tonic::{Code, Request};

use crate::harness::process::Instance;
use crate::harness::programs;

use super::{runtime, served};

#[test]
fn missing_rpcs_say_so() {
    let Some(rows) = served::documented().filter(|_| programs::is_ketch()) else { return };
    assert!(rows.len() >= 50, "{rows:?}");
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("data"));
    let _process = server.start();
    runtime().block_on(async {
        let channel = Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
        let mut client = Grpc::new(channel);
        for rpc in served::missing() {
            client.ready().await.unwrap();
            let path = PathAndQuery::try_from(format!("/{rpc}")).unwrap();
            // The empty message is a request of any kind.
            let codec = tonic_prost::ProstCodec::<(), ()>::default();
            let status = client.unary(Request::new(()), path, codec).await.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented, "{rpc}: {status:?}");
            let name = rpc.rsplit('/').next().unwrap();
            assert!(status.message().contains(name), "{rpc}: {status:?}");
        }
    });
}
