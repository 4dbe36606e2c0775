//! Benches of ketch and the load generator.
//!
//! * [`load`]: drives any etcd endpoint and measures rate and latency; the binary `ketch-load` is its face.
//! * [`versus`]: runs servers one after the other on the same machine and compares; the binary `versus`.
//! * [`server`]: a server process under test, started, awaited and stopped.
//! * [`usage`]: processor time and memory of a process, from `/proc`.
//! * [`args`]: the command lines of both binaries.

pub mod args;
pub mod load;
pub mod server;
pub mod usage;
pub mod versus;
