//! Processes, ports, clients and the real etcd, for all end-to-end tests.

pub(crate) mod http;
pub(crate) mod lines;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod random;
pub(crate) mod raw;
pub(crate) mod script;
pub(crate) mod watch;
