//! A seeded simulator: a whole cluster of nodes, your own state machine, a bad network, bad disks and bad clocks, in
//! one thread.
//!
//! ```
//! use ketch_raft::sim::{Journal, Options, Simulation};
//!
//! let report = Simulation::new(7, Options { chaos_ms: 2_000, ..Options::default() }, Journal::default()).run().unwrap();
//! assert!(report.stats.elections > 0);
//! ```
//!
//! Give it your own [`StateMachine`] instead of [`Journal`]. A run has two parts. In the first, messages are lost,
//! delayed, doubled, reordered, held back past restarts and cut off by partitions (whole or one-way); disks are slow,
//! hang, and lose what was not synced; clocks run apart and stop; members crash and restart; members are added, demoted,
//! removed; leadership is handed over; logs are compacted; reads are asked everywhere. Then everything is healed, and
//! within a bounded time the cluster must converge.
//!
//! Checked at every step, between members:
//! * at most one leader a term, and it holds everything committed before;
//! * an index is committed only when a quorum (of both halves of a joint configuration) holds it on its disk;
//! * nobody applies another entry at an index than anybody else, nor out of order, nor before it is durable there;
//! * equal (index, term) means equal entries and equal predecessors, on every disk;
//! * what leaves a member rests on its disk: votes granted and asked for, appends acknowledged;
//! * a confirmed read index is at least what was committed anywhere when the read was asked;
//! * terms and commit indexes never fall within a life;
//! * `applied` never passes what the state machine has installed;
//! * no pre-vote changes a term; no append goes to a member that waits for a snapshot;
//! * the invariants of each member, after each of its steps.
//!
//! Everything follows from the seed: the same seed gives the same [`Report`], digest included.

mod checks;
mod cluster;
mod disk;
mod lanes;
mod machine;
mod member;
mod options;
mod rng;
mod stats;
mod world;

pub use cluster::{Failure, Report, Simulation};
pub use machine::{Journal, StateMachine};
pub use options::Options;
pub use rng::Rng;
pub use stats::Stats;
