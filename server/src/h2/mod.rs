//! HTTP/2 as a server speaks it (RFC 9113 and 7541), made for calls that take microseconds and for connections that idle.
//!
//! | file | lives there |
//! | --- | --- |
//! | `frame` | the bytes of frames |
//! | `hpack`, `huffman` | header fields from their compressed form, and back |
//! | `request` | a request's head, checked |
//! | `state` | one connection: streams, windows, limits; no socket, no task |
//! | `receive`, `send` | what comes in, what goes out |
//! | `pings` | clients that ping too often |
//! | `output` | bytes that wait for the system |
//! | `exchange` | what the tasks of requests have of it |
//!
//! Not here: pushing and priorities, which nobody uses; upgrades from HTTP/1. Who reads and writes the socket is
//! [`serve`](crate::serve)'s.
//!
//! # What a client can make a connection hold
//!
//! | what | at most |
//! | --- | --- |
//! | bodies that nobody reads | 1 MiB a stream, 4 MiB a connection: the windows |
//! | a frame, a header block that is not whole | 16 KiB, 1 MiB in 80 frames |
//! | fields that it wants remembered | 4 KiB |
//! | bytes that it does not take | 256 KiB of what it caused; answers wait with their tasks above 128 KiB |
//! | streams | as many as are announced (`--max-concurrent-streams`) |
//! | time until its settings have come | two minutes ([`serve`](crate::serve)) |
//! | requests that it takes back or that are none | 10,000 more than were answered, then it is sent away |

pub mod exchange;
pub mod frame;
pub mod hpack;
mod huffman;
pub mod output;
mod pings;
mod receive;
pub mod request;
pub mod send;
pub mod state;

pub use exchange::{Bell, Body, Gone, Link, Reply};
pub use frame::{PREFACE, Reason};
pub use output::Output;
pub use request::RequestHead;
pub use send::Sent;
pub use state::{Event, Fatal, Options, State};

#[cfg(test)]
mod tests;
