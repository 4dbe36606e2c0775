//! Turns `proto/proto/*.proto` into the files of `src/gen/`.
//!
//! It lives among the tests because only the freshness test and its regenerate switch run it: users of the
//! crate compile neither a protobuf compiler nor a code generator.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost_types::FileDescriptorSet;

use crate::known_fields;

/// The `.proto` files, in the order in which their packages are generated.
const SOURCES: [&str; 10] = [
    "kv.proto",
    "auth.proto",
    "membership.proto",
    "rpc.proto",
    "raft_internal.proto",
    "lease.proto",
    "raft.proto",
    "v3lock.proto",
    "v3election.proto",
    "health.proto",
];

/// Packages with services, whose stubs sit behind the features `client` and `server`.
const SERVICE_PACKAGES: [&str; 4] = ["etcdserverpb", "v3lockpb", "v3electionpb", "grpc.health.v1"];

/// Commands that are rare: boxed, so that the frequent ones do not carry their size through every queue.
const BOXED_COMMANDS: [&str; 21] = [
    "lease_checkpoint",
    "auth_enable",
    "auth_disable",
    "auth_status",
    "authenticate",
    "auth_user_add",
    "auth_user_delete",
    "auth_user_get",
    "auth_user_change_password",
    "auth_user_grant_role",
    "auth_user_revoke_role",
    "auth_user_list",
    "auth_role_list",
    "auth_role_add",
    "auth_role_delete",
    "auth_role_get",
    "auth_role_grant_permission",
    "auth_role_revoke_permission",
    "cluster_version_set",
    "cluster_member_attr_set",
    "downgrade_info_set",
];

/// The folder of this crate.
pub(crate) fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Parses and links the `.proto` files.
pub(crate) fn descriptors() -> FileDescriptorSet {
    let dir = crate_dir().join("proto");
    let files: Vec<PathBuf> = SOURCES.iter().map(|name| dir.join(name)).collect();
    protox::compile(files, [dir]).expect("the .proto files are valid")
}

/// File name to content of everything that belongs into `src/gen/`.
pub(crate) fn generate() -> BTreeMap<String, String> {
    let set = descriptors();
    let out = tempfile::tempdir().expect("a temporary folder");
    let mut builder = tonic_prost_build::configure().out_dir(out.path()).bytes(".");
    for package in SERVICE_PACKAGES {
        builder = builder
            .client_mod_attribute(package, "#[cfg(feature = \"client\")]")
            .server_mod_attribute(package, "#[cfg(feature = \"server\")]");
    }
    for command in BOXED_COMMANDS {
        builder = builder.boxed(format!(".etcdserverpb.InternalRaftRequest.{command}"));
    }
    builder.compile_fds(set.clone()).expect("code generation");

    let mut files: BTreeMap<String, String> = fs::read_dir(out.path())
        .expect("generated folder")
        .map(|entry| entry.expect("generated file"))
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).expect("generated text");
            (entry.file_name().into_string().expect("a plain name"), readable(&text))
        })
        .collect();
    files.insert("known_fields.rs".to_owned(), known_fields::render(&set));
    files
}

/// The generator splits `URLs` into `ur_ls`; nobody should have to type that.
fn readable(text: &str) -> String {
    text.replace("peer_ur_ls", "peer_urls").replace("client_ur_ls", "client_urls")
}
