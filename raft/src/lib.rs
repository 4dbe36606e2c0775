//! A raft consensus core: pure, synchronous, deterministic; no clock, no I/O, no async.
