//! An etcd v3 compatible key-value server: the ketch binary and its embedding API.

pub mod cluster;
pub mod config;
pub mod http;
pub mod metrics;
