//! The load generator: N connections × M clients, closed loop or at a given rate.
//!
//! *Closed loop*: each client sends its next request when the last one was answered. The rate is what the
//! server reaches; the latency is what a caller sees at that rate.
//!
//! *Open loop* (a rate is given): request i is due at start + i / rate, whatever the server does. A request
//! that cannot be sent when it is due, because every client still waits, counts from the moment it was due,
//! so a stall of the server shows in the latency of everything it delayed.

mod connection;
mod drive;
mod plan;
mod report;
mod request;
mod run;

pub use plan::{Length, Operation, Plan};
pub use report::{Latency, Report};
pub use run::{run, run_until};
