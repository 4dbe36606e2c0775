//! What is not served yet says so: `UNIMPLEMENTED` with the name of the RPC, never a made-up success.

use std::fs;
use std::path::Path;

use ketch_proto::tonic::client::Grpc;
use ketch_proto::tonic::codegen::http::uri::PathAndQuery;
use ketch_proto::tonic::transport::Endpoint;
use ketch_proto::tonic::{Code, Request};

use crate::harness::process::Instance;
use crate::harness::programs;

use super::runtime;

/// RPCs of `docs/compat.md`, and whether they are missing.
fn documented() -> Option<Vec<(String, bool)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compat.md");
    let text = fs::read_to_string(path).ok()?;
    let (_, rows) = text.split_once("## RPCs").unwrap();
    let (rows, _) = rows.split_once("\n## ").unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), cells[2] == "missing"))
    };
    Some(rows.lines().filter_map(row).collect())
}

#[test]
fn missing_rpcs_say_so() {
    let Some(rpcs) = documented().filter(|_| programs::is_ketch()) else { return };
    assert!(rpcs.len() >= 50, "{rpcs:?}");
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("data"));
    let _process = server.start();
    runtime().block_on(async {
        let channel = Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
        let mut client = Grpc::new(channel);
        for (rpc, _) in rpcs.iter().filter(|(_, missing)| *missing) {
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
