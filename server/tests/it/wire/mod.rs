//! The same requests over the wire to the real etcd and to ketch, with the same answers to the field.

mod generate;
mod http;
mod limits;
mod maintenance;
mod members;
mod unserved;

use std::fmt::Debug;

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::tonic::transport::{Channel, Endpoint};
use ketch_proto::tonic::{Response, Status};

use crate::harness::process::{Instance, Process};
use crate::harness::programs;
use crate::harness::random::number_from_env;

use generate::{Generator, Request};

/// Requests of one run; `KETCH_WIRE_REQUESTS` asks for more.
const REQUESTS: u64 = 6_000;

/// Differences after which there is no point in going on.
const DIFFERENCES_MAX: usize = 5;

/// Both servers, running.
struct Pair {
    etcd: Instance,
    ketch: Instance,
    _processes: [Process; 2],
    _dir: tempfile::TempDir,
}

impl Pair {
    /// Starts both in fresh directories, unless there is no real etcd.
    fn start(test: &str) -> Option<Pair> {
        Pair::start_with(test, &[])
    }

    /// The same with further flags.
    fn start_with(test: &str, flags: &[&str]) -> Option<Pair> {
        let tools = programs::real_etcd(test)?;
        let dir = tempfile::tempdir().unwrap();
        let mut etcd = Instance::new(tools.join("etcd"), dir.path().join("etcd"));
        let mut ketch = Instance::new(programs::ketch(), dir.path().join("ketch"));
        for server in [&mut etcd, &mut ketch] {
            server.flags = flags.iter().map(ToString::to_string).collect();
        }
        let processes = [etcd.start_settled(), ketch.start_settled()];
        Some(Pair { etcd, ketch, _processes: processes, _dir: dir })
    }

    /// A connection to each.
    async fn channels(&self) -> [Channel; 2] {
        let connect =
            async |server: &Instance| Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
        [connect(&self.etcd).await, connect(&self.ketch).await]
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// An answer as text: the whole message, or code and text of the error.
fn answer<T: Debug>(result: Result<Response<T>, Status>) -> String {
    match result {
        Ok(response) => format!("{:?}", response.into_inner()),
        Err(status) => format!("{:?}: {:?}", status.code(), status.message()),
    }
}

/// Sends one request; the revision that its answer states is returned beside it.
async fn send(client: &mut KvClient<Channel>, request: Request) -> (String, i64) {
    macro_rules! call {
        ($method:ident, $request:expr) => {{
            let result = client.$method($request).await;
            let header = result.as_ref().ok().and_then(|response| response.get_ref().header);
            (answer(result), header.map_or(0, |header| header.revision))
        }};
    }
    match request {
        Request::Range(request) => call!(range, request),
        Request::Put(request) => call!(put, request),
        Request::Delete(request) => call!(delete_range, request),
        Request::Txn(request) => call!(txn, request),
        Request::Compact(request) => call!(compact, request),
    }
}

#[test]
fn random_requests_have_equal_answers() {
    let seed = number_from_env("KETCH_SEED", 1);
    let requests = number_from_env("KETCH_WIRE_REQUESTS", REQUESTS);
    println!("KETCH_SEED={seed} KETCH_WIRE_REQUESTS={requests}");
    let Some(pair) = Pair::start("random_requests_have_equal_answers") else { return };
    runtime().block_on(async {
        let [mut etcd, mut ketch] = pair.channels().await.map(KvClient::new);
        let mut generator = Generator::new(seed);
        let mut differences = Vec::new();
        let mut refused = 0;
        for number in 0..requests {
            let request = generator.request();
            let (expected, revision) = send(&mut etcd, request.clone()).await;
            let (found, _) = send(&mut ketch, request.clone()).await;
            generator.learn(&request, revision);
            refused += u64::from(revision == 0);
            if expected != found {
                differences.push(format!("{number}: {request:?}\n etcd: {expected}\nketch: {found}"));
                if differences.len() == DIFFERENCES_MAX {
                    break;
                }
            }
        }
        assert!(differences.is_empty(), "seed {seed}\n{}", differences.join("\n\n"));
        // Illegal requests are a good part, but not the most.
        assert!((requests / 20..requests / 2).contains(&refused), "{refused} of {requests} were refused");
    });
}
