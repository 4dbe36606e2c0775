//! openraft, set up as its own minimal benchmark does: a log and a state machine in memory, calls in place of a network,
//! and one task for each proposal in flight, which proposes again as soon as it has its answer.

mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{RPCError, ReplicationClosed, StreamingError};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::impls::{InlineBatch, OneshotResponder, TokioRuntime, Vote};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{DefaultEntryOf, SnapshotOf, VoteOf};
use openraft::{AnyError, Config, EntryPayload, Raft, RaftTypeConfig};
use tokio::runtime::{Builder, Runtime};

use crate::Cluster;
use store::{LogStore, Machine};

/// What is replicated.
#[derive(Clone, Debug)]
pub(crate) struct Payload(Bytes);

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0.len())
    }
}

/// The answer to a proposal.
#[derive(Clone, Debug)]
pub(crate) struct Done;

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("done")
    }
}

/// The types of this cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Payload;
    type R = Done;
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = Vote<LeaderId<u64, u64>>;
    type Payload = EntryPayload<Payload, u64, ()>;
    type Entry = DefaultEntryOf<Types>;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = OneshotResponder<Types, T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = AnyError;
}

type Member = Raft<Types, Machine>;

/// Finds the members by id.
#[derive(Clone, Default)]
struct Router(Arc<Mutex<BTreeMap<u64, Member>>>);

/// Calls one member.
struct Line(Member);

impl RaftNetworkFactory<Types> for Router {
    type Network = Line;

    async fn new_client(&mut self, target: u64, _: &()) -> Line {
        let members = self.0.lock().expect("nobody panics with it");
        Line(members.get(&target).expect("all are there before the first call").clone())
    }
}

fn unreachable(error: impl std::error::Error + 'static) -> RPCError<Types> {
    RPCError::Unreachable(openraft::error::Unreachable::new(&error))
}

impl RaftNetworkV2<Types> for Line {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.0.append_entries(request).await.map_err(unreachable)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.0.vote(request).await.map_err(unreachable)
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<Types>,
        _: SnapshotOf<Types, ()>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let error = AnyError::error("nobody falls behind here");
        Err(StreamingError::Unreachable(openraft::error::Unreachable::new(&error)))
    }
}

/// A cluster whose first member leads.
pub(crate) struct OpenRaft {
    runtime: Runtime,
    members: Vec<Member>,
    payload: Payload,
}

impl OpenRaft {
    /// All members on a runtime of `threads` threads, the clients with them.
    pub(crate) fn start(members: u64, payload: Bytes, threads: usize) -> OpenRaft {
        let mut builder =
            if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        let runtime = builder.worker_threads(threads.max(1)).enable_all().build().expect("threads");
        let members = runtime.block_on(cluster(members));
        OpenRaft { runtime, members, payload: Payload(payload) }
    }
}

async fn cluster(size: u64) -> Vec<Member> {
    let config = Config {
        election_timeout_min: 200,
        election_timeout_max: 2000,
        purge_batch_size: 1024,
        max_payload_entries: 1024,
        ..Config::default()
    };
    let config = Arc::new(config.validate().expect("sound options"));
    let router = Router::default();
    let mut members = Vec::new();
    for id in 0..size {
        let log = LogStore::default();
        let member = Raft::new(id, config.clone(), router.clone(), log, Machine::default());
        members.push(member.await.expect("an empty store is sound"));
    }
    *router.0.lock().expect("nobody panics with it") = (0..size).zip(members.iter().cloned()).collect();
    members[0].initialize((0..size).collect::<BTreeSet<u64>>()).await.expect("it is new");
    for member in &members {
        let wait = member.wait(Some(Duration::from_secs(5)));
        wait.applied_index_at_least(Some(1), "first entries").await.expect("a leader comes up");
    }
    members
}

async fn client(leader: Member, payload: Payload, proposals: u64) {
    for _ in 0..proposals {
        leader.client_write(payload.clone()).await.expect("a leader takes proposals");
    }
}

impl Cluster for OpenRaft {
    fn run(&mut self, window: usize, windows: u64) {
        self.runtime.block_on(async {
            let clients: Vec<_> = (0..window)
                .map(|_| tokio::spawn(client(self.members[0].clone(), self.payload.clone(), windows)))
                .collect();
            for client in clients {
                client.await.expect("clients do not panic");
            }
        });
    }
}

impl Drop for OpenRaft {
    fn drop(&mut self) {
        for member in &self.members {
            // What is left of it ends with the runtime.
            let _ = self.runtime.block_on(member.shutdown());
        }
    }
}
