//! What the servers say about themselves.

use ketch_proto::etcdserverpb::cluster_client::ClusterClient;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::healthpb::health_client::HealthClient;
use ketch_proto::healthpb::{HealthCheckRequest, HealthListRequest};
use ketch_proto::tonic::transport::Channel;

use super::{Pair, answer, runtime};

/// Everything compared about one server, as text.
async fn describe(channel: Channel) -> Vec<String> {
    let mut facts = Vec::new();
    let mut cluster = ClusterClient::new(channel.clone());
    for linearizable in [false, true] {
        facts.push(answer(cluster.member_list(MemberListRequest { linearizable }).await));
    }
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let status = maintenance.status(StatusRequest {}).await.map(|mut response| {
        let status = response.get_mut();
        assert!(status.db_size >= status.db_size_in_use && status.db_size_in_use > 0, "{status:?}");
        (status.db_size, status.db_size_in_use) = (0, 0);
        response
    });
    facts.push(answer(status));
    let mut health = HealthClient::new(channel);
    for service in ["", "etcdserverpb.KV"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        facts.push(answer(health.check(request.clone()).await));
        let mut watched = health.watch(request).await.unwrap().into_inner();
        facts.push(format!("{:?}", watched.message().await));
    }
    facts.push(answer(health.list(HealthListRequest {}).await));
    facts
}

#[test]
fn members_status_and_health_are_equal() {
    let Some(pair) = Pair::start("members_status_and_health_are_equal") else { return };
    runtime().block_on(async {
        let [etcd, ketch] = pair.channels().await;
        assert_eq!(describe(ketch.clone()).await, describe(etcd.clone()).await, "ketch is left, etcd right");
        // Raft's indexes go on alike: a write is one entry, a read none.
        for channel in [&etcd, &ketch] {
            let mut kv = KvClient::new(channel.clone());
            for number in 0..10 {
                let key = format!("key{number}");
                kv.put(PutRequest { key: key.clone().into(), ..Default::default() }).await.unwrap();
                kv.range(RangeRequest { key: key.into(), ..Default::default() }).await.unwrap();
            }
        }
        assert_eq!(describe(ketch).await, describe(etcd).await, "ketch is left, etcd right");
    });
}
