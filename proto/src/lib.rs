//! The etcd v3 wire messages, services and error strings.
