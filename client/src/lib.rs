//! A typed client for etcd v3 servers.
