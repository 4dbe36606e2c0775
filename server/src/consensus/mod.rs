//! Consensus: the raft node with its log on disk.
//!
//! [`core`] is a synchronous state machine (inputs → raft → outputs) without any I/O; [`persist`] is the log
//! lane, [`record`] the bytes in the log, [`storage`] what raft reads back, and [`shell`] the threads around
//! them.

pub mod conf_change;
pub mod core;
pub mod persist;
pub mod record;
pub mod shell;
pub mod storage;
