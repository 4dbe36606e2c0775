//! Requests through the routers, without a socket.

use std::sync::Mutex;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response};
use tower::ServiceExt;

use super::*;

/// A member in any condition.
#[derive(Default)]
struct Fake {
    no_leader: bool,
    learner: bool,
    alarms: Vec<Alarm>,
    versions: Versions,
    failing_read: Mutex<Option<String>>,
}

impl Fake {
    fn read(&self) -> ReadFuture<'_> {
        let outcome = self.failing_read.lock().unwrap().clone().map_or(Ok(()), Err);
        Box::pin(std::future::ready(outcome))
    }
}

impl Probe for Fake {
    fn has_leader(&self) -> bool {
        !self.no_leader
    }
    fn is_learner(&self) -> bool {
        self.learner
    }
    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.clone()
    }
    fn versions(&self) -> Versions {
        self.versions.clone()
    }
    fn serializable_read(&self) -> ReadFuture<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn linearizable_read(&self) -> ReadFuture<'_> {
        self.read()
    }
}

fn state(fake: Fake) -> HttpState {
    HttpState {
        probe: Arc::new(fake),
        metrics: Arc::new(Metrics::new()),
        access: Arc::new(Access::default()),
    }
}

/// Status, headers that matter, body.
fn ask(router: Router, method: Method, target: &str) -> (u16, String, String) {
    let request = Request::builder().method(method).uri(target).header("Host", "h:2379").body(Body::empty());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let response: Response<Body> = router.oneshot(request.unwrap()).await.unwrap();
        let mut headers: Vec<String> = response
            .headers()
            .iter()
            .filter(|(name, _)| name.as_str() != "content-length")
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        headers.sort();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, headers.join("\n"), String::from_utf8(body.to_vec()).unwrap())
    })
}

fn get(fake: Fake, target: &str) -> (u16, String) {
    let (status, _, body) = ask(client_router(state(fake)), Method::GET, target);
    (status, body)
}

#[test]
fn health_names_the_first_reason() {
    let sick = |fake, target| {
        let (status, body) = get(fake, target);
        (status, body.trim_end().to_owned())
    };
    let healthy = "{\"health\":\"true\",\"reason\":\"\"}";
    let because = |reason: &str| format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}");
    assert_eq!(get(Fake::default(), "/health"), (200, healthy.to_owned()));
    let alarmed = || Fake { alarms: vec![Alarm::NoSpace], ..Fake::default() };
    assert_eq!(sick(alarmed(), "/health"), (503, because("ALARM NOSPACE")));
    assert_eq!(sick(alarmed(), "/health?exclude=NOSPACE"), (200, healthy.to_owned()));
    let both = Fake { alarms: vec![Alarm::NoSpace, Alarm::Corrupt], ..Fake::default() };
    assert_eq!(sick(both, "/health?exclude=NOSPACE&exclude="), (503, because("ALARM CORRUPT")));
    let leaderless = || Fake { no_leader: true, ..Fake::default() };
    assert_eq!(sick(leaderless(), "/health"), (503, because("RAFT NO LEADER")));
    assert_eq!(sick(leaderless(), "/health?serializable=true"), (200, healthy.to_owned()));
    let failing = Fake { failing_read: Mutex::new(Some("a \"b\"".to_owned())), ..Fake::default() };
    assert_eq!(sick(failing, "/health"), (503, because("RANGE ERROR:a \\\"b\\\"")));
}

#[test]
fn checks_answer_alone_and_together() {
    let failing =
        || Fake { failing_read: Mutex::new(Some("timed out".to_owned())), learner: true, ..Fake::default() };
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: timed out\n\
               [-]non_learner failed: not supported for learner\n\n";
    assert_eq!(get(failing(), "/readyz"), (503, all.to_owned()));
    assert_eq!(get(failing(), "/readyz/serializable_read"), (200, "ok\n".to_owned()));
    assert_eq!(get(failing(), "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(get(failing(), "/readyz?exclude=linearizable_read&exclude=non_learner").0, 200);
    assert_eq!(get(Fake::default(), "/livez?verbose"), (200, "[+]serializable_read ok\nok\n".to_owned()));
    let corrupt = Fake { alarms: vec![Alarm::Corrupt], ..Fake::default() };
    let reason = "[-]data_corruption failed: alarm activated: CORRUPT\n\n";
    assert_eq!(get(corrupt, "/readyz/data_corruption"), (503, reason.to_owned()));
}

#[test]
fn outcomes_are_counted() {
    let state = state(Fake { no_leader: true, ..Fake::default() });
    ask(metrics_router(state.clone()), Method::GET, "/health");
    ask(metrics_router(state.clone()), Method::GET, "/livez");
    let (_, headers, page) = ask(metrics_router(state), Method::GET, "/metrics");
    assert!(headers.contains("content-type: text/plain; version=0.0.4"), "{headers}");
    for line in [
        "etcd_server_health_failures 1",
        "etcd_server_healthcheck{name=\"serializable_read\",type=\"livez\"} 1",
        "etcd_server_healthchecks_total{name=\"serializable_read\",status=\"success\",type=\"livez\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn versions_before_and_after_they_are_known() {
    let unknown = "{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"not_decided\",\"storage\":\"unknown\"}";
    assert_eq!(get(Fake::default(), "/version"), (200, unknown.to_owned()));
    let versions = Versions { cluster: Some("3.7.0".to_owned()), storage: Some("3.7.0".to_owned()) };
    let known = "{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\"}";
    assert_eq!(get(Fake { versions, ..Fake::default() }, "/version"), (200, known.to_owned()));
}

#[test]
fn only_get_and_only_known_paths() {
    for path in ["/health", "/version", "/livez", "/readyz/non_learner", "/debug/vars"] {
        for method in [Method::POST, Method::HEAD, Method::DELETE] {
            let (status, headers, _) = ask(client_router(state(Fake::default())), method, path);
            assert_eq!(status, 405, "{path}");
            assert!(headers.contains("allow: GET\n"), "{headers}");
        }
    }
    for path in ["/", "/nope", "/health/", "/readyz/nope", "/v3/kv/range"] {
        assert_eq!(get(Fake::default(), path), (404, "404 page not found\n".to_owned()), "{path}");
    }
    for path in ["/version", "/debug/vars"] {
        assert_eq!(ask(metrics_router(state(Fake::default())), Method::GET, path).0, 404, "{path}");
    }
    assert!(get(Fake::default(), "/debug/vars").1.starts_with("{\n\"cmdline\": [\""));
}

#[test]
fn access_rules_of_the_client_listener() {
    let with = |hosts: &[&str], origins: &[&str]| {
        let list = |items: &[&str]| items.iter().map(ToString::to_string).collect();
        let access = Arc::new(Access::for_tests(list(hosts), list(origins)));
        HttpState { access, ..state(Fake::default()) }
    };
    let (status, headers, _) = ask(client_router(with(&["*"], &["*"])), Method::OPTIONS, "/anything");
    assert_eq!(status, 200);
    assert!(headers.contains("access-control-allow-origin: *"), "{headers}");
    let (status, headers, _) = ask(client_router(with(&["h"], &["http://a:1"])), Method::GET, "/health");
    assert_eq!(status, 200);
    assert!(!headers.contains("access-control"), "{headers}");
    assert_eq!(ask(client_router(with(&["other"], &[])), Method::GET, "/health").0, 421);
    assert_eq!(ask(metrics_router(with(&["other"], &[])), Method::GET, "/health").0, 200);
}
