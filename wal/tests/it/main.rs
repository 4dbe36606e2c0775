//! Behaviour of the log, on the simulated disk unless a test says otherwise.
#![expect(clippy::unwrap_used, reason = "a test that fails should say where")]

mod basics;
mod cases;
mod crash;
mod failing;
mod faults;
mod fixtures;
mod flips;
mod held;
mod hunt;
mod leaving;
mod nonsense;
mod planted;
mod pools;
mod readers;
mod regressions;
mod signal;
mod threads;
mod views;
mod walctl;
