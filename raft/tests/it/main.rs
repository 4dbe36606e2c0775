//! Behaviour of the crate through its public face.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../scripts/datadriven.rs"]
#[expect(dead_code, reason = "shared with the script driver, which uses all of it")]
mod datadriven;
#[path = "../scripts/describe.rs"]
#[expect(dead_code, reason = "shared with the script driver, which uses all of it")]
mod describe;
mod hostile;
mod islands;
mod leases;
mod net;
mod owners;
mod planted;

mod sentences;
mod simulation;
mod single;
mod stepping;
mod transcripts;
