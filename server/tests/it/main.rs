//! End-to-end tests: the real `ketch` process, driven over its real interfaces, beside the real etcd where
//! the two can be compared.
//!
//! * `KETCH_UNDER_TEST=/path/to/program` runs everything against another server in place of ketch. With the
//!   real etcd there, the comparisons must find no difference: that is how the tests themselves are tested.
//! * Comparisons need etcd 3.7.1, built by `tools/real-etcd.sh`. Where that is impossible they print
//!   `skipped:` and why.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the message")]

mod bounded;
mod clients;
mod connections;
mod crash;
mod endpoints;
mod flags;
mod guarantees;
mod harness;
mod hashes;
mod house;
mod peer;
mod process;
mod script;
mod snapshots;
mod wire;
