//! A whole cluster in one thread, from one seed: every member with the real consensus core, apply core, raft log and store,
//! on a simulated disk of its own; network, clocks, disks and clients simulated, in virtual time.

mod admin;
mod apply;
mod ask;
mod chaos;
mod client;
mod drive;
mod life;
mod members;
mod network;
mod node;
mod options;
mod planted;
mod queue;
mod settle;
mod snapshot;
mod stats;
#[cfg(test)]
mod tests;
mod trace;
mod truth;
mod vacancy;
mod watchers;
mod wgl;
mod world;

pub use options::{Options, SCENARIOS, Weights};
pub use planted::{Bug, first_seed};
pub use stats::Stats;
pub use world::{Failure, Report, play, run};
