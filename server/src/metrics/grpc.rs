//! Counters of every RPC, under the names of Go's gRPC middleware that dashboards and alerts ask for.

use MethodKind::{BidiStream, ServerStream, Unary};

use std::time::Duration;

use super::instrument::{Counter, Histogram};
use super::text::Page;

/// Chooses one counter of an RPC.
type Pick = fn(&GrpcMethod) -> &Counter;

/// Names of the gRPC status codes, by number.
pub const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Bounds of the times that RPCs take, in milliseconds: those of Go's client where nobody says others.
const HANDLING_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// Number of [`CODES`] for an RPC whose caller went away.
pub(crate) const CANCELED: usize = 1;
/// Number of [`CODES`] for what has no other.
pub(crate) const UNKNOWN: usize = 2;

/// The shape of an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodKind {
    /// One request, one answer.
    Unary,
    /// One request, many answers.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl MethodKind {
    fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// Every RPC of the API: `/service/method` and its shape, sorted.
pub(crate) const METHODS: &[(&str, MethodKind)] = &[
    ("/etcdserverpb.Auth/AuthDisable", Unary),
    ("/etcdserverpb.Auth/AuthEnable", Unary),
    ("/etcdserverpb.Auth/AuthStatus", Unary),
    ("/etcdserverpb.Auth/Authenticate", Unary),
    ("/etcdserverpb.Auth/RoleAdd", Unary),
    ("/etcdserverpb.Auth/RoleDelete", Unary),
    ("/etcdserverpb.Auth/RoleGet", Unary),
    ("/etcdserverpb.Auth/RoleGrantPermission", Unary),
    ("/etcdserverpb.Auth/RoleList", Unary),
    ("/etcdserverpb.Auth/RoleRevokePermission", Unary),
    ("/etcdserverpb.Auth/UserAdd", Unary),
    ("/etcdserverpb.Auth/UserChangePassword", Unary),
    ("/etcdserverpb.Auth/UserDelete", Unary),
    ("/etcdserverpb.Auth/UserGet", Unary),
    ("/etcdserverpb.Auth/UserGrantRole", Unary),
    ("/etcdserverpb.Auth/UserList", Unary),
    ("/etcdserverpb.Auth/UserRevokeRole", Unary),
    ("/etcdserverpb.Cluster/MemberAdd", Unary),
    ("/etcdserverpb.Cluster/MemberList", Unary),
    ("/etcdserverpb.Cluster/MemberPromote", Unary),
    ("/etcdserverpb.Cluster/MemberRemove", Unary),
    ("/etcdserverpb.Cluster/MemberUpdate", Unary),
    ("/etcdserverpb.KV/Compact", Unary),
    ("/etcdserverpb.KV/DeleteRange", Unary),
    ("/etcdserverpb.KV/Put", Unary),
    ("/etcdserverpb.KV/Range", Unary),
    ("/etcdserverpb.KV/RangeStream", ServerStream),
    ("/etcdserverpb.KV/Txn", Unary),
    ("/etcdserverpb.Lease/LeaseGrant", Unary),
    ("/etcdserverpb.Lease/LeaseKeepAlive", BidiStream),
    ("/etcdserverpb.Lease/LeaseLeases", Unary),
    ("/etcdserverpb.Lease/LeaseRevoke", Unary),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Unary),
    ("/etcdserverpb.Maintenance/Alarm", Unary),
    ("/etcdserverpb.Maintenance/Defragment", Unary),
    ("/etcdserverpb.Maintenance/Downgrade", Unary),
    ("/etcdserverpb.Maintenance/Hash", Unary),
    ("/etcdserverpb.Maintenance/HashKV", Unary),
    ("/etcdserverpb.Maintenance/MoveLeader", Unary),
    ("/etcdserverpb.Maintenance/Snapshot", ServerStream),
    ("/etcdserverpb.Maintenance/Status", Unary),
    ("/etcdserverpb.Watch/Watch", BidiStream),
    ("/grpc.health.v1.Health/Check", Unary),
    ("/grpc.health.v1.Health/List", Unary),
    ("/grpc.health.v1.Health/Watch", ServerStream),
    ("/v3electionpb.Election/Campaign", Unary),
    ("/v3electionpb.Election/Leader", Unary),
    ("/v3electionpb.Election/Observe", ServerStream),
    ("/v3electionpb.Election/Proclaim", Unary),
    ("/v3electionpb.Election/Resign", Unary),
    ("/v3lockpb.Lock/Lock", Unary),
    ("/v3lockpb.Lock/Unlock", Unary),
];

/// Counters of one RPC.
#[derive(Debug)]
pub struct GrpcMethod {
    path: &'static str,
    kind: MethodKind,
    /// Calls that arrived.
    pub started: Counter,
    /// Calls that ended, by status code.
    pub handled: [Counter; CODES.len()],
    /// Request messages.
    pub received: Counter,
    /// Answer messages.
    pub sent: Counter,
    /// Time from a call's arrival to its end, if it is measured.
    pub handling: Option<Histogram>,
}

/// Counters of all RPCs.
#[derive(Debug)]
pub struct GrpcMetrics {
    methods: Vec<GrpcMethod>,
    /// Bytes of all request messages, without framing.
    pub received_bytes: Counter,
    /// Bytes of all answer messages, without framing.
    pub sent_bytes: Counter,
}

impl GrpcMetrics {
    pub(crate) fn new() -> Self {
        let methods = METHODS.iter().map(|(path, kind)| GrpcMethod {
            path,
            kind: *kind,
            started: Counter::default(),
            handled: std::array::from_fn(|_| Counter::default()),
            received: Counter::default(),
            sent: Counter::default(),
            handling: None,
        });
        Self {
            methods: methods.collect(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
        }
    }

    /// Measures how long RPCs take from now on.
    pub(crate) fn time_handling(&mut self) {
        for method in &mut self.methods {
            method.handling = Some(Histogram::with_bounds(HANDLING_MS.map(Duration::from_millis)));
        }
    }

    /// The place of an RPC among all, by its path; `None` for a path that is none of the API's.
    #[must_use]
    pub fn index_of(path: &str) -> Option<usize> {
        METHODS.binary_search_by_key(&path, |(path, _)| path).ok()
    }

    /// The path of the list that equals `path`; an empty one if none does.
    #[must_use]
    pub fn known_path(path: &str) -> &'static str {
        Self::index_of(path).and_then(|index| METHODS.get(index)).map_or("", |(path, _)| path)
    }

    /// The counters of an RPC by its place.
    #[must_use]
    pub fn method(&self, index: usize) -> Option<&GrpcMethod> {
        self.methods.get(index)
    }

    #[cfg(test)]
    pub(crate) fn methods_for_tests(&self, path: &str) -> &GrpcMethod {
        self.methods.iter().find(|method| method.path == path).unwrap()
    }

    pub(crate) fn render(&self, page: &mut Page) {
        // The middleware lists every method of the services it knows at start; Lock and Election join when used.
        let shown = || {
            self.methods.iter().filter_map(|method| {
                let (service, name) = method.path.trim_start_matches('/').split_once('/')?;
                (!service.starts_with("v3") || method.started.get() > 0).then_some((service, name, method))
            })
        };
        let mut family =
            page.family("grpc_server_handled_total", "counter", "RPCs that ended, by status code");
        for (service, name, method) in shown() {
            for (code, count) in CODES.iter().zip(&method.handled) {
                family.sample(
                    &[
                        ("grpc_code", code),
                        ("grpc_method", name),
                        ("grpc_service", service),
                        ("grpc_type", method.kind.label()),
                    ],
                    count.get(),
                );
            }
        }
        if shown().any(|(.., method)| method.handling.is_some()) {
            let name = "grpc_server_handling_seconds";
            let mut family = page.family(name, "histogram", "Time from an RPC's arrival to its end");
            for (service, name, method) in shown() {
                if let Some(handling) = &method.handling {
                    let labels = [
                        ("grpc_method", name),
                        ("grpc_service", service),
                        ("grpc_type", method.kind.label()),
                    ];
                    family.histogram(&labels, handling);
                }
            }
        }
        let families: [(&str, &str, Pick); 3] = [
            ("grpc_server_msg_received_total", "Request messages of all RPCs", |method| &method.received),
            ("grpc_server_msg_sent_total", "Answer messages of all RPCs", |method| &method.sent),
            ("grpc_server_started_total", "RPCs that arrived", |method| &method.started),
        ];
        for (family, help, pick) in families {
            let mut family = page.family(family, "counter", help);
            for (service, name, method) in shown() {
                let labels =
                    [("grpc_method", name), ("grpc_service", service), ("grpc_type", method.kind.label())];
                family.sample(&labels, pick(method).get());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A file of the workspace; `None`, said aloud, in a package that was taken out of it.
    fn read(path: &str) -> Option<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = fs::read_to_string(&path).ok();
        if text.is_none() {
            eprintln!("skipped: there is no {}", path.display());
        }
        text
    }

    /// Every `"/service/method"` literal.
    fn paths_in(source: &str) -> BTreeSet<&str> {
        let literals = source.split('"').filter_map(|text| text.strip_prefix('/'));
        literals
            .filter(|text| text.contains('.') && text.matches('/').count() == 1 && !text.contains(' '))
            .collect()
    }

    fn paths() -> BTreeSet<&'static str> {
        METHODS.iter().map(|(path, _)| path.trim_start_matches('/')).collect()
    }

    #[test]
    fn the_list_is_that_of_the_generated_services() {
        let mut generated = String::new();
        for file in ["etcdserverpb", "grpc.health.v1", "v3electionpb", "v3lockpb"] {
            let Some(source) = read(&format!("../proto/src/gen/{file}.rs")) else { return };
            generated.push_str(&source);
        }
        assert_eq!(paths(), paths_in(&generated));
    }

    #[test]
    fn the_document_says_of_every_rpc_whether_it_is_served() {
        let Some(document) = read("../docs/compat.md") else { return };
        let section = document.split("\n## ").find(|part| part.starts_with("RPCs")).unwrap();
        let rows: BTreeMap<&str, &str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .filter_map(|(path, rest)| Some((path, rest.split_once(" |")?.0)))
            .collect();
        assert_eq!(rows.keys().copied().collect::<BTreeSet<_>>(), paths());
        let Some(router) = read("src/api/router.rs") else { return };
        let served: BTreeSet<&str> =
            rows.iter().filter(|(_, status)| **status != "missing").map(|(path, _)| *path).collect();
        assert_eq!(served, paths_in(&router));
    }

    #[test]
    fn every_path_is_found() {
        assert!(METHODS.is_sorted_by_key(|(path, _)| path));
        for (index, (path, _)) in METHODS.iter().enumerate() {
            assert_eq!(GrpcMetrics::index_of(path), Some(index));
        }
        assert_eq!(GrpcMetrics::index_of("/health"), None);
    }
}
