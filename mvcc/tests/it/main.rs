//! The store's behaviour, in one binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adopt;
mod crash;
mod damage;
mod directed;
mod duties;
mod fixtures;
mod histories;
mod history;
mod hub;
mod opening;
mod planted;
mod publishing;
mod random;
mod rests;
mod watches;
