//! The versions that a member answers for.

/// The API version: clients see this one.
pub const SERVER: &str = "3.7.1";
/// The version of the stored schema, in etcd's terms.
pub const STORAGE: &str = "3.7.0";
/// The version that a cluster of such members agrees on.
pub const CLUSTER: &str = "3.7.0";
/// ketch's own version.
pub const KETCH: &str = env!("CARGO_PKG_VERSION");
