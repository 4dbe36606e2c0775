//! Maintenance, request by request: alarms and what they forbid, downgrades, hashes, a full store.

use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::alarm_request::AlarmAction::{Activate, Deactivate, Get};
use ketch_proto::etcdserverpb::downgrade_request::DowngradeAction::{Cancel, Enable, Validate};
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::tonic::Request;
use ketch_proto::tonic::metadata::MetadataValue;
use ketch_proto::tonic::transport::{Channel, Endpoint};

use crate::harness::http;
use crate::harness::process::Instance;
use crate::harness::programs;

use super::{Pair, answer, runtime};

/// Patience with a busy machine. Nothing that works comes near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// One server, and what it answered so far.
struct Side {
    kv: KvClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    port: u16,
    facts: Vec<String>,
}

/// Which lowest revision and keys a step is about does not matter here: every key is `k`.
fn put(value: &str) -> PutRequest {
    PutRequest { key: "k".into(), value: value.to_owned().into(), ..PutRequest::default() }
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn ops() -> [RequestOp; 3] {
    let range = RangeRequest { key: "k".into(), ..RangeRequest::default() };
    let delete = DeleteRangeRequest { key: "none".into(), ..DeleteRangeRequest::default() };
    [
        op(request_op::Request::RequestRange(range)),
        op(request_op::Request::RequestPut(put("t"))),
        op(request_op::Request::RequestDeleteRange(delete)),
    ]
}

impl Side {
    async fn of(channel: Channel, server: &Instance) -> Side {
        let (kv, maintenance) = (KvClient::new(channel.clone()), MaintenanceClient::new(channel));
        Side { kv, maintenance, port: server.client_port, facts: Vec::new() }
    }

    fn note(&mut self, what: &str, fact: String) {
        self.facts.push(format!("{what}: {fact}"));
    }

    async fn alarm(&mut self, action: i32, alarm: i32, member_id: u64) {
        let request = AlarmRequest { action, alarm, member_id };
        let mut answered = self.maintenance.alarm(request).await;
        if let Ok(response) = &mut answered {
            // etcd lists them in no order.
            response.get_mut().alarms.sort_by_key(|alarm| (alarm.alarm, alarm.member_id));
        }
        self.note(&format!("{request:?}"), answer(answered));
    }

    /// One request of each kind, and what the probes say.
    async fn everything(&mut self, when: &str) {
        let [range, write, delete] = ops();
        let txns = [
            ("empty txn", vec![], vec![]),
            ("txn that reads", vec![range.clone()], vec![]),
            ("txn that deletes", vec![range.clone(), delete], vec![]),
            ("txn that may put", vec![range], vec![write]),
        ];
        for (name, success, failure) in txns {
            let answered = self.kv.txn(TxnRequest { compare: vec![], success, failure }).await;
            self.note(&format!("{when}, {name}"), answer(answered));
        }
        let range = RangeRequest { key: "k".into(), serializable: true, ..RangeRequest::default() };
        let answers = [
            ("put", answer(self.kv.put(put("v")).await)),
            ("illegal put", answer(self.kv.put(PutRequest::default()).await)),
            ("range", answer(self.kv.range(range).await)),
            (
                "delete",
                answer(
                    self.kv
                        .delete_range(DeleteRangeRequest { key: "none".into(), ..Default::default() })
                        .await,
                ),
            ),
            (
                "compact",
                answer(self.kv.compact(CompactionRequest { revision: 999, ..Default::default() }).await),
            ),
        ];
        for (name, fact) in answers {
            self.note(&format!("{when}, {name}"), fact);
        }
        for path in [
            "/health",
            "/health?serializable=true",
            "/health?exclude=NOSPACE",
            "/health?exclude=CORRUPT&exclude=NOSPACE",
            "/health?exclude=7&exclude=NOSPACE",
            "/readyz/data_corruption",
            "/readyz?exclude=data_corruption",
        ] {
            let mut found = http::request(self.port, "GET", path);
            if when == "full and corrupt" && path.starts_with("/health") {
                // With several alarms etcd names any of them.
                found.1 = found.1.replace("NOSPACE", "one of them").replace("CORRUPT", "one of them");
            }
            self.note(&format!("{when}, {path}"), format!("{found:?}"));
        }
        let status = self.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        let mut errors: Vec<String> = status.errors.iter().map(|error| error.replace("  ", " ")).collect();
        errors.sort();
        self.note(&format!("{when}, status"), format!("{errors:?} {:?}", status.downgrade_info));
    }

    async fn downgrade(&mut self, action: i32, version: &str) {
        let request = DowngradeRequest { action, version: version.to_owned() };
        let answered = self.maintenance.downgrade(request.clone()).await;
        self.note(&format!("{request:?}"), answer(answered));
    }

    /// The revisions that an answer names; what the hash is over is each server's own.
    async fn hash_kv(&mut self, revision: i64) {
        let mut answered = self.maintenance.hash_kv(HashKvRequest { revision }).await;
        if let Ok(response) = &mut answered {
            response.get_mut().hash = 0;
        }
        self.note(&format!("hash at {revision}"), answer(answered));
    }
}

async fn compare(pair: &Pair, script: impl AsyncFn(&mut Side)) {
    let [etcd, ketch] = pair.channels().await;
    let mut expected = Side::of(etcd, &pair.etcd).await;
    let mut found = Side::of(ketch, &pair.ketch).await;
    script(&mut expected).await;
    script(&mut found).await;
    assert_eq!(expected.facts.len(), found.facts.len());
    let differences = expected.facts.iter().zip(&found.facts).filter(|(a, b)| a != b);
    let differences: Vec<String> =
        differences.map(|(etcd, ketch)| format!(" etcd: {etcd}\nketch: {ketch}")).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn alarms_and_what_they_forbid() {
    let Some(pair) = Pair::start("alarms_and_what_they_forbid") else { return };
    runtime().block_on(compare(&pair, async |side| {
        side.everything("at first").await;
        let [get, activate, deactivate] = [Get, Activate, Deactivate].map(|action| action as i32);
        for (action, alarm, member) in [
            (get, 0, 0),
            (activate, 0, 3),
            (activate, 1, 0),
            (activate, 1, 0),
            (activate, 1, 9),
            (get, 0, 0),
            (get, 1, 77),
            (get, 2, 0),
            (deactivate, 0, 9),
            (deactivate, 2, 9),
            (deactivate, 1, 9),
        ] {
            side.alarm(action, alarm, member).await;
        }
        side.everything("full").await;
        side.alarm(activate, 2, u64::MAX).await;
        side.everything("full and corrupt").await;
        side.alarm(deactivate, 1, 0).await;
        side.everything("corrupt").await;
        side.alarm(deactivate, 2, u64::MAX).await;
        side.alarm(activate, 7, 5).await;
        side.alarm(get, 7, 0).await;
        side.everything("with an alarm that nobody knows").await;
        side.alarm(deactivate, 7, 5).await;
        side.alarm(deactivate, 7, 5).await;
        side.everything("in the end").await;
    }));
}

#[test]
fn downgrades_hashes_and_the_rest() {
    let Some(pair) = Pair::start("downgrades_hashes_and_the_rest") else { return };
    runtime().block_on(compare(&pair, async |side| {
        let [validate, enable, cancel] = [Validate, Enable, Cancel].map(|action| action as i32);
        for version in [
            "3.6",
            "3.7",
            "3.5",
            "4.6",
            "3.6.0",
            "3.6.9",
            "3.6.0-rc.1",
            "3.6.0+x",
            "",
            "3",
            "x",
            "v3.6",
            "3.6.0.1",
            "+3.6",
            "3.6.0-a_b",
        ] {
            side.downgrade(validate, version).await;
        }
        side.downgrade(7, "3.6").await;
        side.downgrade(cancel, "").await;
        side.downgrade(enable, "3.7").await;
        side.downgrade(enable, "nonsense").await;
        for value in ["a", "b", "c", "d"] {
            side.kv.put(put(value)).await.unwrap();
        }
        for revision in [-3, 0, 1, 3, 5, 6, i64::MAX] {
            side.hash_kv(revision).await;
        }
        side.kv.compact(CompactionRequest { revision: 4, physical: true }).await.unwrap();
        for revision in [0, 2, 3, 4, 5] {
            side.hash_kv(revision).await;
        }
        side.kv.compact(CompactionRequest { revision: 5, physical: true }).await.unwrap();
        for revision in [0, 3, 4, 5] {
            side.hash_kv(revision).await;
        }
        let own = side.maintenance.status(StatusRequest {}).await.unwrap().into_inner().leader;
        for target_id in [own, 0, 1, u64::MAX] {
            let answered = side.maintenance.move_leader(MoveLeaderRequest { target_id }).await;
            side.note("move leader", answer(answered));
        }
        let answered = side.maintenance.defragment(DefragmentRequest {}).await;
        side.note("defragment", answer(answered));
        side.everything("after a compaction").await;
        let header = side.maintenance.hash(HashRequest {}).await.unwrap().into_inner().header;
        side.note("hash", format!("{header:?}"));
        // The cluster version moves within seconds, and then nothing more can be asked alike.
        side.downgrade(enable, "3.6").await;
        let status = side.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        side.note("status", format!("{:?}", status.downgrade_info));
    }));
}

#[test]
fn a_client_version_that_is_no_text_is_refused() {
    let Some(pair) = Pair::start("a_client_version_that_is_no_text_is_refused") else { return };
    runtime().block_on(compare(&pair, async |side| {
        for version in [&b"3.7.1"[..], b"", b"anything", b"\xff\xfe", b"3.7\x80"] {
            let mut request = Request::new(RangeRequest { key: "k".into(), ..RangeRequest::default() });
            let value = MetadataValue::try_from(version).unwrap();
            request.metadata_mut().insert("client-api-version", value);
            let answered = side.kv.range(request).await;
            side.note(&format!("{version:?}"), answer(answered));
        }
    }));
}

impl Side {
    /// Waits until the cluster and its data have this version: both servers look every few seconds.
    async fn await_version(&mut self, version: &str) {
        let wanted = format!("\"etcdcluster\":\"{version}\",\"storage\":\"{version}\"");
        let start = Instant::now();
        while !http::request(self.port, "GET", "/version").1.contains(&wanted) {
            assert!(start.elapsed() < PATIENCE, "the cluster version is not {version} after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let status = self.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        self.note("status", format!("{} {:?}", status.storage_version, status.downgrade_info));
    }

    async fn is_in_progress(&mut self) -> bool {
        let request = DowngradeRequest { action: Validate as i32, version: "3.6".to_owned() };
        let refused = self.maintenance.downgrade(request).await.unwrap_err();
        refused.message() == "etcdserver: cluster has a downgrade job in progress"
    }
}

#[test]
fn a_downgrade_moves_the_cluster_version_and_its_end_moves_it_back() {
    let Some(pair) = Pair::start("a_downgrade_moves_the_cluster_version_and_its_end_moves_it_back") else {
        return;
    };
    runtime().block_on(compare(&pair, async |side| {
        // The version may move between two requests: then once more.
        for attempt in 0.. {
            side.await_version("3.7.0").await;
            side.facts.clear();
            side.downgrade(Enable as i32, "3.6").await;
            if side.is_in_progress().await {
                break;
            }
            assert!(attempt < 5, "no job was ever in progress");
            side.downgrade(Cancel as i32, "").await;
        }
        side.await_version("3.6.0").await;
        for (action, version) in [(Validate, "3.6"), (Enable, "3.6"), (Validate, "3.5"), (Validate, "x")] {
            side.downgrade(action as i32, version).await;
        }
        side.kv.put(put("on the way")).await.unwrap();
        side.downgrade(Cancel as i32, "").await;
        side.await_version("3.7.0").await;
        side.downgrade(Validate as i32, "3.6").await;
    }));
}

/// The procedure of etcd's manual. etcd needs a defragmentation before there is room again, ketch does not mind one.
#[test]
fn a_full_store_and_the_way_out() {
    let flags = ["--quota-backend-bytes", "53248"];
    let Some(pair) = Pair::start_with("a_full_store_and_the_way_out", &flags) else { return };
    runtime().block_on(compare(&pair, async |side| {
        let status = side.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        assert!(status.db_size < status.db_size_quota, "{status:?}");
        side.note("quota", status.db_size_quota.to_string());
        let mut puts = 0;
        let refusal = loop {
            match side.kv.put(put("some value")).await {
                Ok(_) => puts += 1,
                Err(status) => break format!("{:?}: {}", status.code(), status.message()),
            }
        };
        assert!((100..1000).contains(&puts), "{puts} puts fit into 53,248 bytes");
        side.note("refused", refusal);
        side.alarm(Get as i32, 0, 0).await;
        side.everything("full by quota").await;
        let status = side.maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        let revision = status.header.unwrap().revision;
        side.kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
        side.alarm(Get as i32, 0, 0).await;
        side.maintenance.defragment(DefragmentRequest {}).await.unwrap();
        let refused = side.kv.put(put("with room but with the alarm")).await.unwrap_err();
        side.note("with the alarm", refused.message().to_owned());
        let own = status.header.unwrap().member_id;
        side.alarm(Deactivate as i32, AlarmType::Nospace as i32, own).await;
        let written = side.kv.put(put("with room")).await;
        side.note(
            "with room",
            format!("{:?}", written.map(|_| ()).map_err(|status| status.message().to_owned())),
        );
        side.facts.iter_mut().for_each(|fact| *fact = without_revisions(fact));
        // etcd counts versions of one key alike in both; the count is how many fitted.
        side.facts.retain(|fact| !fact.contains("version: "));
    }));
}

/// Many clients find the store full at once; then everything is deleted, and there is room again. etcd has none then: the
/// tombstones at the compaction point are kept, as in ketch, and count.
#[test]
fn a_store_full_of_keys_is_emptied() {
    if !programs::is_ketch() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut server = Instance::new(programs::ketch(), dir.path().join("data"));
    server.flags = ["--quota-backend-bytes", "53248"].map(str::to_owned).to_vec();
    let process = server.start();
    runtime().block_on(async {
        let channel = Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
        let mut side = Side::of(channel, &server).await;
        let clients = (0..8).map(|client| {
            let mut kv = side.kv.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let key = format!("key {client} {number}").into();
                    let request = PutRequest { key, value: "value".into(), ..PutRequest::default() };
                    if let Err(status) = kv.put(request).await {
                        return status.message().to_owned();
                    }
                }
                String::new()
            })
        });
        for client in clients.collect::<Vec<_>>() {
            assert_eq!(client.await.unwrap(), "etcdserver: mvcc: database space exceeded");
        }
        assert_eq!(process.log().matches("raising the alarm NOSPACE").count(), 1, "{}", process.log());
        let alarms = side.maintenance.alarm(AlarmRequest::default()).await.unwrap().into_inner().alarms;
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        let all = DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let deleted = side.kv.delete_range(all).await.unwrap().into_inner();
        let revision = deleted.header.unwrap().revision;
        side.kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
        side.alarm(Deactivate as i32, alarms[0].alarm, alarms[0].member_id).await;
        side.kv.put(put("with room")).await.unwrap();
    });
}

/// Each store takes as many puts as fit, so revisions differ.
fn without_revisions(fact: &str) -> String {
    let mut parts = fact.split("revision: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}
