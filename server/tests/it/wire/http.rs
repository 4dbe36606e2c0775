//! The HTTP side of the client port: same status codes, same bodies.

use crate::harness::http::request;

use super::Pair;

/// Method and path.
const REQUESTS: [(&str, &str); 14] = [
    ("GET", "/health"),
    ("GET", "/health?serializable=true"),
    ("GET", "/health?exclude=NOSPACE"),
    ("POST", "/health"),
    ("GET", "/version"),
    ("GET", "/livez"),
    ("GET", "/livez?verbose"),
    ("GET", "/livez/serializable_read"),
    ("GET", "/readyz"),
    ("GET", "/readyz/data_corruption"),
    ("GET", "/readyz/serializable_read"),
    ("GET", "/readyz/linearizable_read"),
    ("GET", "/readyz/non_learner"),
    ("GET", "/nothing/here"),
];

/// Names of metrics that must be there, whatever their values.
const METRICS: [&str; 4] = [
    "etcd_server_has_leader",
    "etcd_server_proposals_committed_total",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_server_version",
];

#[test]
fn http_answers_are_equal() {
    let Some(pair) = Pair::start("http_answers_are_equal") else { return };
    for (method, path) in REQUESTS {
        let expected = request(pair.etcd.client_port, method, path);
        let found = request(pair.ketch.client_port, method, path);
        assert_eq!(found, expected, "{method} {path}: ketch is left, etcd right");
    }
    for server in [&pair.etcd, &pair.ketch] {
        let (code, metrics) = request(server.client_port, "GET", "/metrics");
        assert_eq!(code, 200);
        for name in METRICS {
            assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} is missing:\n{metrics}");
        }
    }
}
