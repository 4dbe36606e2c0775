//! `HashKV` and `Hash` of ketch's own members: equal states have equal hashes, whatever became of the files; others do not.

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::tonic::Code;
use ketch_proto::tonic::transport::{Channel, Endpoint};

use crate::harness::process::{Instance, Process};
use crate::harness::programs;

const WRITES: i64 = 300;

struct Member {
    process: Process,
    server: Instance,
    kv: KvClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

impl Member {
    async fn start(server: Instance) -> Member {
        let process = tokio::task::block_in_place(|| server.start());
        let channel = Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
        let (kv, maintenance) = (KvClient::new(channel.clone()), MaintenanceClient::new(channel));
        Member { process, server, kv, maintenance }
    }

    /// The same history on every member: puts, overwrites, deletes, several changes in one revision.
    async fn write(&mut self, from: i64, to: i64) {
        for number in from..to {
            let key = format!("key/{}", number % 37);
            let put = PutRequest {
                key: key.clone().into(),
                value: format!("{number}").into(),
                ..Default::default()
            };
            if number % 5 == 0 {
                let delete = DeleteRangeRequest { key: key.into(), ..Default::default() };
                self.kv.delete_range(delete).await.unwrap();
            } else if number % 7 == 0 {
                let other = PutRequest { key: "other".into(), ..put.clone() };
                let op = |put| RequestOp { request: Some(request_op::Request::RequestPut(put)) };
                let success = vec![op(put), op(other)];
                self.kv.txn(TxnRequest { success, ..Default::default() }).await.unwrap();
            } else {
                self.kv.put(put).await.unwrap();
            }
        }
    }

    async fn hash(&mut self, revision: i64) -> HashKvResponse {
        let mut answer = self.maintenance.hash_kv(HashKvRequest { revision }).await.unwrap().into_inner();
        answer.header = None;
        answer
    }

    async fn compact(&mut self, revision: i64, physical: bool) {
        self.kv.compact(CompactionRequest { revision, physical }).await.unwrap();
    }

    async fn revision(&mut self) -> i64 {
        let status = self.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        status.header.unwrap().revision
    }
}

#[test]
fn equal_states_have_equal_hashes() {
    if !programs::is_ketch() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let server = |name: &str| Instance::new(programs::ketch(), dir.path().join(name));
    runtime.block_on(async {
        let mut one = Member::start(server("one")).await;
        let mut two = Member::start(server("two")).await;
        one.write(1, WRITES).await;
        two.write(1, WRITES / 2).await;
        // The other one is killed on the way, and goes on.
        let restarted = two.server.clone();
        tokio::task::block_in_place(|| two.process.kill());
        let mut two = Member::start(restarted).await;
        two.write(WRITES / 2, WRITES).await;
        let latest = one.revision().await;
        assert_eq!(latest, two.revision().await);
        let mut hashes = Vec::new();
        for revision in [2, 3, 50, 99, 100, 101, latest - 1, latest, 0] {
            let hash = one.hash(revision).await;
            assert_eq!(two.hash(revision).await, hash, "at {revision}");
            let named = if revision == 0 { latest } else { revision };
            assert_eq!((hash.hash_revision, hash.compact_revision), (named, -1));
            hashes.push(hash.hash);
        }
        assert_eq!(hashes.pop(), hashes.last().copied(), "0 is the latest");
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 8, "different states have different hashes");

        // Compacted at the same revision, in one step or in several, with the files cleaned up or not.
        let before = one.hash(120).await;
        one.compact(120, true).await;
        assert_eq!(one.hash(120).await, before, "a compaction keeps the hash of what it finds");
        for revision in [40, 80] {
            two.compact(revision, false).await;
        }
        assert_ne!(one.hash(200).await.hash, two.hash(200).await.hash, "what is compacted counts");
        let before = two.hash(120).await;
        two.compact(120, false).await;
        assert_eq!(two.hash(120).await, before, "also while it is not carried out");
        for (point, compact_revision) in [(40, -1), (80, 40), (120, 80)] {
            assert_eq!(two.hash(point).await.compact_revision, compact_revision, "each from the one before");
        }
        for revision in [121, 200, latest, 0] {
            let hash = one.hash(revision).await;
            assert_eq!(two.hash(revision).await, hash, "at {revision}");
            assert_eq!(hash.compact_revision, 120);
        }
        for (revision, message) in [
            (119, "etcdserver: mvcc: required revision has been compacted"),
            (latest + 1, "etcdserver: mvcc: required revision is a future revision"),
        ] {
            let refused = one.maintenance.hash_kv(HashKvRequest { revision }).await.unwrap_err();
            assert_eq!((refused.code(), refused.message()), (Code::OutOfRange, message));
        }
        let whole = one.maintenance.hash(HashRequest {}).await.unwrap().into_inner().hash;
        assert_eq!(two.maintenance.hash(HashRequest {}).await.unwrap().into_inner().hash, whole);

        // Ten are kept; a restart forgets them.
        for point in 121..=130 {
            one.compact(point, false).await;
        }
        let refused = one.maintenance.hash_kv(HashKvRequest { revision: 120 }).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        assert_eq!(one.hash(121).await.compact_revision, 120);
        two.compact(130, true).await;
        let restarted = one.server.clone();
        tokio::task::block_in_place(|| one.process.kill());
        let mut one = Member::start(restarted).await;
        let refused = one.maintenance.hash_kv(HashKvRequest { revision: 121 }).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);

        // One byte apart.
        one.write(2, 3).await;
        let put = PutRequest { key: "key/2".into(), value: "3".into(), ..Default::default() };
        two.kv.put(put).await.unwrap();
        assert_eq!(one.revision().await, two.revision().await);
        assert_ne!(one.hash(0).await.hash, two.hash(0).await.hash);
        assert_eq!(one.hash(latest).await, two.hash(latest).await, "before, they were equal");
    });
}
