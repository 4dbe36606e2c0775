//! gRPC over HTTP/2, the part of it that a server needs: one message out of a request's body, messages and trailers
//! into an answer's (the "gRPC over HTTP2" protocol document of the gRPC project).
//!
//! Which method is served and what it answers is decided in [`crate::api`]; this room knows frames only.

pub mod answer;
pub mod encoding;
pub mod outgoing;
pub mod request;

/// A message's head: one byte for compression, four for the length.
pub const HEAD_BYTES: usize = 5;
