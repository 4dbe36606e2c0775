//! Snapshots: a connection of its own for each, so that messages never wait behind one.
//!
//! ```text
//! sender                                   receiver
//!   │ ── Message (the snapshot's) ──────────► │ Staging::begin
//!   │ ◄──────────── Held: what is here so far ┤ nothing, or what came before an earlier transfer was cut off
//!   │ ── Chunk, Chunk, … ───────────────────► │ what is missing of this state; taken in on a blocking thread
//!   │ ◄──────────────── Taken: so many bytes ─┤ the sender is at most a window ahead
//!   │                                         │ Staging::finish: verified and synced; the message goes to raft
//!   │ ◄─────────────────────────────── Done ──┤
//! ```
//!
//! Instead of any answer the receiver may say why it refuses. Both sides say something at least every
//! [`PING_EVERY`](super::PING_EVERY): a disk may be slow, but a silent peer is given up.

mod receive;
mod send;

use std::time::Duration;

pub(super) use receive::receive;
pub(super) use send::send;

/// About so many bytes of content in a chunk. Members cut their streams alike.
const CHUNK_BYTES: usize = 512 << 10;
/// So far may the sender be ahead of what the receiver has taken in.
const WINDOW_BYTES: u64 = 4 << 20;
/// A side that says nothing for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(15);
