//! Behaviour of the crate through its public face.

mod planted;
mod simulation;
mod single;
