//! The list of methods is exactly etcd's: 42 of its own services, 7 of locks and elections, and health.

use crate::generator::descriptors;

/// Service, then its methods; `<` marks a client stream, `>` a server stream.
const METHODS: [(&str, &str); 9] = [
    ("etcdserverpb.KV", "Range RangeStream> Put DeleteRange Txn Compact"),
    ("etcdserverpb.Watch", "Watch<>"),
    ("etcdserverpb.Lease", "LeaseGrant LeaseRevoke LeaseKeepAlive<> LeaseTimeToLive LeaseLeases"),
    ("etcdserverpb.Cluster", "MemberAdd MemberRemove MemberUpdate MemberList MemberPromote"),
    ("etcdserverpb.Maintenance", "Alarm Status Defragment Hash HashKV Snapshot> MoveLeader Downgrade"),
    (
        "etcdserverpb.Auth",
        "AuthEnable AuthDisable AuthStatus Authenticate UserAdd UserGet UserList UserDelete \
         UserChangePassword UserGrantRole UserRevokeRole RoleAdd RoleGet RoleList RoleDelete \
         RoleGrantPermission RoleRevokePermission",
    ),
    ("v3lockpb.Lock", "Lock Unlock"),
    ("v3electionpb.Election", "Campaign Proclaim Leader Observe> Resign"),
    ("grpc.health.v1.Health", "Check List Watch>"),
];

#[test]
fn methods_and_their_shapes() {
    let mut found = Vec::new();
    for file in descriptors().file {
        for service in &file.service {
            let methods: Vec<String> = service
                .method
                .iter()
                .map(|method| {
                    let client = if method.client_streaming() { "<" } else { "" };
                    let server = if method.server_streaming() { ">" } else { "" };
                    format!("{}{client}{server}", method.name())
                })
                .collect();
            found.push((format!("{}.{}", file.package(), service.name()), methods.join(" ")));
        }
    }
    let expected = METHODS.map(|(service, methods)| (service.to_owned(), methods.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn stubs_use_the_same_paths() {
    let text =
        std::fs::read_to_string(crate::generator::crate_dir().join("src/gen/etcdserverpb.rs")).unwrap();
    for path in ["/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch", "/etcdserverpb.Auth/UserAdd"] {
        assert!(text.contains(&format!("\"{path}\"")), "{path}");
    }
}
