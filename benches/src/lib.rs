//! Benches of ketch and the load generator.
//!
//! * [`load`]: drives any etcd endpoint and measures rate and latency; the binary `ketch-load` is its face.
//! * [`versus`]: runs servers one after the other on the same machine and compares; the binary `versus`.
//! * [`cluster`]: three members of each program: loads, a killed leader, a new member; the binary `cluster`.
//! * [`mixes`]: watchers, stalls, lists, idle connections; the binary `mixes`.
//! * [`restart`]: how long a server needs to be ready again; the binary `restart`.
//! * [`programs`]: which servers are compared, and where their data goes.
//! * [`server`]: a server process under test, started, awaited and stopped.
//! * [`usage`]: processor time and memory of a process, from `/proc`.
//! * [`args`]: the command lines of the binaries.

pub mod args;
pub mod cluster;
pub mod load;
pub mod mixes;
pub mod programs;
pub mod restart;
pub mod server;
pub mod usage;
pub mod versus;
