//! The families of the metrics: which there are, their types, the names of their labels, the bounds of their buckets.

use std::collections::{BTreeMap, BTreeSet};

use ketch_proto::etcdserverpb::*;

use crate::harness::http::request as http;

use super::request::{Asker, Request};
use super::{Pair, runtime};

/// Beginnings of the names of etcd's families that ketch does not have; `docs/compat.md` says why.
const ONLY_ETCD: [&str; 14] = [
    "etcd_debugging_auth_revision",
    "etcd_debugging_disk_backend_commit_",
    "etcd_debugging_lease_",
    "etcd_debugging_server_lease_expired_total",
    "etcd_debugging_snap_save_",
    "etcd_debugging_store_",
    "etcd_disk_backend_defrag_duration_seconds",
    "etcd_disk_defrag_inflight",
    "etcd_grpc_proxy_",
    "etcd_mvcc_db_open_read_transactions",
    "etcd_server_go_version",
    "etcd_snap_fsync_duration_seconds",
    "go_",
    "promhttp_",
];

/// What a page says of one family, its values left out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    kind: String,
    /// Names of samples with the names of their labels, in their order.
    samples: BTreeSet<String>,
    /// Upper bounds of the buckets.
    bounds: BTreeSet<String>,
}

fn shapes(page: &str) -> BTreeMap<String, Shape> {
    let mut families: BTreeMap<String, Shape> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|head| head.split_once(' ')) {
            name.clone_into(&mut current);
            assert!(
                families
                    .insert(current.clone(), Shape { kind: kind.to_owned(), ..Shape::default() })
                    .is_none()
            );
        } else if !line.starts_with('#') {
            let shape = families.get_mut(&current).unwrap_or_else(|| panic!("no head before {line}"));
            let (name, labels) =
                line.split_once('{').unwrap_or_else(|| (line.split(' ').next().unwrap(), ""));
            assert!(name.starts_with(&current), "{name} in {current}");
            let labels = labels.rsplit_once('}').map_or("", |(labels, _)| labels);
            let names: Vec<&str> =
                labels.split("\",").filter_map(|pair| Some(pair.split_once("=\"")?.0)).collect();
            shape.samples.insert(format!("{name} {}", names.join(",")));
            let bound = labels.rsplit_once("le=\"").map(|(_, bound)| bound.trim_end_matches('"'));
            shape.bounds.extend(bound.map(str::to_owned));
        }
    }
    families
}

/// Something of all that has a family of its own once it happens.
fn requests() -> Vec<Request> {
    let put = |key: &str| PutRequest { key: key.to_owned().into(), ..Default::default() };
    let range = |revision| Request::Range(RangeRequest { key: "a".into(), revision, ..Default::default() });
    let read = RequestOp {
        request: Some(request_op::Request::RequestRange(RangeRequest {
            key: "a".into(),
            ..Default::default()
        })),
    };
    vec![
        Request::Put(put("a")),
        Request::Put(put("a")),
        range(0),
        range(99),
        Request::Txn(TxnRequest { success: vec![read], ..Default::default() }),
        Request::Compact(CompactionRequest { revision: 2, physical: true }),
        Request::Alarm(AlarmRequest { action: 1, member_id: 1, alarm: 1 }),
    ]
}

#[test]
fn families_are_those_of_etcd() {
    let Some(pair) = Pair::start_with("families_are_those_of_etcd", &["--metrics=extensive"]) else { return };
    runtime().block_on(async {
        for mut server in pair.channels().await.map(Asker::new) {
            for request in requests() {
                server.ask(request).await;
            }
        }
    });
    let [mut etcd, mut ketch] = [&pair.etcd, &pair.ketch].map(|server| {
        assert_eq!(http(server.client_port, "GET", "/readyz").0, 200);
        shapes(&http(server.client_port, "GET", "/metrics").1)
    });
    for beginning in ONLY_ETCD {
        let before = etcd.len();
        etcd.retain(|name, _| !name.starts_with(beginning));
        assert!(etcd.len() < before, "etcd has no {beginning}");
    }
    let before = ketch.len();
    ketch.retain(|name, _| !name.starts_with("ketch_"));
    assert!(ketch.len() < before);
    let names = |families: &BTreeMap<String, Shape>| families.keys().cloned().collect::<BTreeSet<_>>();
    let (of_etcd, of_ketch) = (names(&etcd), names(&ketch));
    assert_eq!(of_etcd.difference(&of_ketch).collect::<Vec<_>>(), Vec::<&String>::new(), "ketch lacks them");
    assert_eq!(
        of_ketch.difference(&of_etcd).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "etcd has none of them"
    );
    for (name, shape) in &ketch {
        assert_eq!(Some(shape), etcd.get(name), "{name}: ketch is left, etcd right");
    }
}
