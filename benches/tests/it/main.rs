//! Behaviour tests of `ketch-benches`.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the message")]

mod counting_server;
mod load;
