//! An etcd v3 compatible key-value server: the ketch binary and its embedding API.
//!
//! A put's way, by file: [`serve`] (listeners) → [`api`] (validate, convert) → [`propose`] (request id, size
//! limit, waiter) → [`consensus`] (raft; log records, one sync) → [`apply`] (commands → store → answers) →
//! [`wait`] (the waiter) → [`api`] (the answer). [`wiring`] puts a member together on one screen.
//!
//! The cores ([`consensus::core`], [`apply::core`]) are synchronous state machines without I/O, clock or
//! chance of their own; `sim` runs a member of them in one thread from one seed.

pub mod api;
pub mod apply;
pub mod aside;
pub mod bootstrap;
pub mod caller;
pub mod clock;
pub mod cluster;
pub mod compactor;
pub mod config;
pub mod consensus;
pub mod corrupt;
pub mod datadir;
pub mod deliver;
pub mod grpc;
pub mod h2;
pub mod http;
pub mod late;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod peer;
pub mod priority;
pub mod probe;
pub mod propose;
pub mod publish;
pub mod quota;
pub mod read;
pub mod serve;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod snapshot;
pub mod staging;
pub mod state;
pub mod stint;
mod sync;
pub mod upkeep;
pub mod version;
pub mod versions;
pub mod wait;
pub mod wiring;
