//! Apply: committed commands → state → answers.
//!
//! [`core`] owns the store and is the only writer of it; applying is a function of (state, command) alone, so
//! every member computes the same state and the same answers. [`command`] is the way a command is encoded,
//! and one file per noun carries it out.

pub mod alarm;
pub mod answer;
pub mod cluster;
pub mod command;
pub mod core;
pub mod downgrade;
pub mod hashes;
pub mod kv;
pub mod observe;
pub mod size;
pub mod tally;
pub mod txn;
