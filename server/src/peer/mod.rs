//! Members among themselves: raft messages in lanes, snapshots beside them, and the plain paths of the peer port.
//!
//! ```text
//!            Outlet::send                                                          Inlet::messages
//! driver ──► lane urgent ── codec ── frames ──► socket ~~~► accept ── frames ── codec ──► raft of the peer
//!        ──► lane append ── …
//!        ──► bulk: cursor?, chunks of a pinned view ~~~~~► Staging, then the snapshot's message
//! ```
//!
//! | file | does |
//! | --- | --- |
//! | `network.rs` | the peers of a member; the threads `ketch-peer` and, for snapshots, `ketch-bulk`, each with an event loop of its own; those of the readers |
//! | `table.rs`, `lane.rs`, `link.rs` | one peer; what waits for it, written by whoever brings it; the task that keeps a lane connected |
//! | `accept.rs`, `reader.rs` | a lane from a peer; the thread that waits for entries and does what a lone one leads to |
//! | `bulk/` | snapshots |
//! | `codec/`, `frame.rs`, `handshake.rs` | the bytes (`docs/format/peer.md`) |
//! | `stream.rs` | the transport beneath |
//! | `http.rs`, `ask.rs` | the plain paths, served and asked |
//!
//! Each direction of each lane is a connection of its own, opened by the sender. What waits for a peer is bounded;
//! what does not fit is dropped, as a network may, and raft hears that the peer is unreachable.

mod accept;
pub mod ask;
mod bulk;
pub mod codec;
mod frame;
mod handshake;
mod http;
mod lane;
mod link;
mod network;
mod reader;
mod reports;
mod stream;
mod table;

use std::sync::Arc;
use std::time::Duration;

use ketch_raft::{Message, NodeId};

pub use http::{api_routes, router};
pub use network::Network;

use crate::metrics::Metrics;
use crate::staging::Staging;

/// How often a peer is asked for a sign of life, on each lane.
const PING_EVERY: Duration = Duration::from_millis(1500);
/// A peer that leaves so many questions in a row without answer is taken for dead; etcd waits 5 s.
const QUIET_TICKS_MAX: u32 = 3;
/// A connection from a peer on which nothing comes for so long is closed: pings come more often.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// What comes from the peers. Called on threads of the network, never from inside [`Network::send`]; must not block, but for
/// [`appends`](Self::appends).
pub trait Inlet: Send + Sync + 'static {
    /// Messages, in the order in which one peer sent them on one lane.
    fn messages(&self, messages: Vec<Message>);
    /// The same, from a lane for entries: what comes behind them may wait as long as the disk needs for them.
    fn appends(&self, messages: Vec<Message>);
    /// Messages to `to` were lost.
    fn unreachable(&self, to: NodeId);
    /// How the transfer of a snapshot to `to` ended: staged and durable over there, or not.
    fn snapshot_report(&self, to: NodeId, ok: bool);
    /// A peer says that this member was removed from the cluster.
    fn removed(&self);
}

/// What a network must know.
#[derive(Clone)]
pub struct NetworkOptions {
    /// This member.
    pub member_id: NodeId,
    /// Its cluster.
    pub cluster_id: u64,
    /// Counts its starts; durable.
    pub boot: u64,
    /// For the jitter of pauses between attempts to connect.
    pub seed: u64,
    /// The election timeout.
    pub election: Duration,
    /// Where peers reach this member.
    pub peer_urls: Vec<String>,
    /// Where received snapshots go.
    pub staging: Arc<Staging>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// The most that one snapshot may take of the network and of the receiver's disk, in bytes a second.
    pub snapshot_bytes_per_second: u64,
}

/// The usual limit of [`NetworkOptions::snapshot_bytes_per_second`].
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 512 << 20;
