//! Status, headers and body of every HTTP endpoint: ketch's routers, called in this process, beside the real etcd.

use std::future::ready;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use ketch_server::http::{
    Access, Alarm, HttpState, Probe, ReadFuture, Versions, client_router, metrics_router,
};
use ketch_server::metrics::Metrics;
use tower::ServiceExt as _;

use crate::harness::ports;
use crate::harness::process::Instance;
use crate::harness::programs;

/// A member in perfect health, as a fresh etcd is.
struct Healthy;

impl Probe for Healthy {
    fn has_leader(&self) -> bool {
        true
    }

    fn is_learner(&self) -> bool {
        false
    }

    fn alarms(&self) -> Vec<Alarm> {
        Vec::new()
    }

    fn versions(&self) -> Versions {
        Versions { cluster: Some("3.7.0".to_owned()), storage: Some("3.7.0".to_owned()) }
    }

    fn serializable_read(&self) -> ReadFuture<'_> {
        Box::pin(ready(Ok(())))
    }

    fn linearizable_read(&self) -> ReadFuture<'_> {
        Box::pin(ready(Ok(())))
    }
}

/// Status, sorted headers, body.
#[derive(Debug, PartialEq, Eq)]
struct Answer(u16, Vec<String>, String);

impl Answer {
    /// Leaves out what says how, not what was answered, and the body where it cannot be the same.
    fn new(status: u16, headers: Vec<String>, body: String, path: &str) -> Self {
        let transport = ["date:", "content-length:", "transfer-encoding:", "connection:"];
        let mut headers: Vec<String> =
            headers.into_iter().filter(|line| !transport.iter().any(|name| line.starts_with(name))).collect();
        headers.sort();
        let own = status == 200 && (path.starts_with("/metrics") || path.starts_with("/debug"));
        let several = path == "/readyz?verbose"; // etcd's order changes from request to request
        let body = match (own, several) {
            (true, _) => String::new(),
            (_, true) => {
                let mut lines: Vec<&str> = body.lines().collect();
                lines.sort_unstable();
                lines.join("\n")
            }
            _ => body,
        };
        Self(status, headers, body)
    }
}

fn by_etcd(port: u16, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        format!("{}: {value}", name.to_lowercase())
    });
    Answer::new(status, headers.collect(), body.to_owned(), path)
}

fn by_ketch(router: Router, method: &str, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("Host", "127.0.0.1:2379");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        // The transport leaves the body of an answer to HEAD out.
        let body = if method == "HEAD" { String::new() } else { String::from_utf8(body.to_vec()).unwrap() };
        Answer::new(status, headers, body, path)
    })
}

#[test]
fn endpoints_answer_as_the_real_etcd() {
    let Some(tools) = programs::real_etcd("endpoints_answer_as_the_real_etcd") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut etcd = Instance::new(tools.join("etcd"), dir.path().join("data"));
    let probes = ports::free();
    etcd.flags = vec![format!("--listen-metrics-urls=http://127.0.0.1:{probes}")];
    let _running = etcd.start();
    let state = HttpState {
        probe: Arc::new(Healthy),
        metrics: Arc::new(Metrics::new()),
        access: Arc::new(Access::default()),
    };
    let paths = [
        "/health",
        "/health?serializable=true",
        "/health?exclude=NOSPACE&exclude=x",
        "/version",
        "/metrics",
        "/debug/vars",
        "/livez",
        "/livez?verbose",
        "/livez?verbose=false&exclude=nope",
        "/livez?exclude=serializable_read",
        "/livez/serializable_read?verbose",
        "/readyz",
        "/readyz?verbose",
        "/readyz/data_corruption",
        "/readyz/serializable_read",
        "/readyz/linearizable_read",
        "/readyz/non_learner",
        "/readyz/none",
        "/health/",
        "/version/",
        "/nope",
        "/debug/pprof/",
    ];
    for (port, router) in [(etcd.client_port, client_router(state.clone())), (probes, metrics_router(state))]
    {
        for path in paths {
            for method in ["GET", "POST", "HEAD", "OPTIONS", "DELETE"] {
                let (found, expected) = (by_ketch(router.clone(), method, path), by_etcd(port, method, path));
                assert_eq!(found, expected, "{method} {path} on port {port}: ketch is left, etcd right");
            }
        }
    }
}
