//! Behaviour of the crate through its public face.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod hostile;
mod planted;
mod simulation;
mod single;
