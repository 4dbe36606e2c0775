//! The HTTP side of the client port: same status codes, same bodies.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

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

/// Status line's code and body.
fn request(port: u16, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n").unwrap();
    write!(stream, "Content-Length: 0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap();
    (code, body.to_owned())
}

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
