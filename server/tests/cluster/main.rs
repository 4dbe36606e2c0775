//! Clusters of real `ketch` processes on loopback, with clients and watchers at work while members are killed, paused, cut off,
//! terminated, replaced, added and removed: whatever anybody was told must make one linearizable history.
//!
//! | file | does |
//! | --- | --- |
//! | `members.rs`, `net.rs` | processes; the proxies in front of their peer ports, by which links are cut, one way too |
//! | `ops.rs`, `run.rs`, `watchers.rs` | what clients ask; clients and watchers at work; when it is checked |
//! | `truth.rs`, `check.rs` | what happened, as all watchers agree; whether each answer fits it |
//! | `chaos.rs` | the long story, from a seed |
//! | the others | one story each: growth and loss of members, a cluster made of one survivor, those who may not join, data
//! that differs, pauses, snapshots, errors, etcdctl |
//!
//! The checks are those of the simulation, by revision: contents, conditions, real-time order, watch guarantees, equal
//! hashes on all members at one revision, a put through each member after healing.
//!
//! A long run prints its counts, and how soon after a leader's death the next put worked:
//! `KETCH_SEED=7 KETCH_CLUSTER_SECONDS=600 cargo test -p ketch-server --test cluster three_members -- --nocapture`
//!
//! The seed decides what is done to whom and what clients ask; processes and sockets have a will of their own, so a seed that
//! fails once may have to be tried again.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the message")]

mod answers;
mod both;
mod chaos;
mod check;
mod corrupt;
mod errors;
mod forced;
mod growth;
#[expect(dead_code, reason = "the other test binary uses all of it")]
#[path = "../it/harness/mod.rs"]
mod harness;
mod joining;
mod members;
mod net;
mod ops;
mod pauses;
mod queues;
mod run;
mod script;
mod snapshots;
mod starting;
mod truth;
mod watchers;
