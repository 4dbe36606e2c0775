//! The etcd v3 wire: messages, services and error strings.
//!
//! * One module per protobuf package, generated once and committed; a test regenerates and compares, so
//!   nobody needs a protobuf compiler. All `bytes` fields are [`bytes::Bytes`].
//! * [`rpc_error`]: every error that a client can see, with its code and exact text.
//! * [`strict`]: decoding of replicated commands that refuses what this version does not know.
//! * [`range_end`], [`metadata`]: how key ranges and request metadata are spelled.
//!
//! Names, numbers and paths are those of etcd 3.7.1, so any etcd client can talk to a server built on this
//! crate and the client stubs can talk to any etcd. The features `client` and `server` (both on by default)
//! include the stubs of either side.
//!
//! ```
//! use ketch_proto::etcdserverpb::{PutRequest, RangeRequest};
//! use ketch_proto::{prost::Message, range_end};
//!
//! let put = PutRequest { key: "a".into(), value: "1".into(), ..Default::default() };
//! assert_eq!(put.encode_to_vec(), b"\x0a\x01a\x12\x011");
//!
//! let list = RangeRequest { key: "a/".into(), range_end: range_end::prefix_end(b"a/").into(), ..Default::default() };
//! assert_eq!(list.range_end, "a0");
//! ```

pub mod metadata;
pub mod range_end;
pub mod rpc_error;
pub mod strict;

pub use prost;
pub use tonic;

/// Declares one generated package.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated from the .proto files")]
        #[allow(clippy::all, clippy::allow_attributes_without_reason, reason = "generated code")]
        #[allow(rustdoc::all, reason = "generated code")]
        pub mod $name {
            include!(concat!("gen/", $file));
        }
    };
}

package! {
    /// The client API and the replicated commands.
    etcdserverpb, "etcdserverpb.rs"
}
package! {
    /// Key-values and events.
    mvccpb, "mvccpb.rs"
}
package! {
    /// Users, roles and permissions.
    authpb, "authpb.rs"
}
package! {
    /// Replicated facts about members and the cluster.
    membershippb, "membershippb.rs"
}
package! {
    /// Leases at rest and between members.
    leasepb, "leasepb.rs"
}
package! {
    /// Entries and messages between members.
    raftpb, "raftpb.rs"
}
package! {
    /// Locks as a service.
    v3lockpb, "v3lockpb.rs"
}
package! {
    /// Elections as a service.
    v3electionpb, "v3electionpb.rs"
}
package! {
    /// The standard gRPC health service.
    healthpb, "grpc.health.v1.rs"
}
