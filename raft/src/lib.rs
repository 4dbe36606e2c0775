//! A raft consensus core: pure, synchronous, deterministic; no clock, no I/O, no async, no protobuf.
//!
//! A [`Node`] is one member of a group that agrees on a log. Its owner brings it ticks, messages and proposals, and
//! carries out what it wants done. Terms, votes and quorums are the node's business; disks, sockets and threads are
//! the owner's. Behaviour is that of etcd's raft, whose scripts it replays; what it adds is listed at the end.
//!
//! # The loop
//!
//! Bring in whatever came (`tick`, `step`, `propose`, …), then carry out [`Node::ready`], then report. The smallest owner
//! does all of it in one thread; [`drive`](drive::drive) is that loop, ready made:
//!
//! ```
//! use bytes::Bytes;
//! use ketch_raft::{Config, MemoryStorage, Node, Payload};
//!
//! let storage = MemoryStorage::with_voters([1]);
//! let mut node = Node::new(Config { id: 1, ..Config::default() }, storage)?;
//! node.campaign()?;
//! let mut proposed = false;
//! let mut state: Vec<Bytes> = Vec::new();
//! while node.has_ready() {
//!     let ready = node.ready();
//!     for message in ready.send {
//!         // to the peer `message.to`, which gives it to its own `step`
//!         # let _ = message;
//!     }
//!     if let Some(persist) = ready.persist {
//!         // write, and sync if `persist.must_sync`; then say so
//!         node.storage_mut().append(&persist.entries)?;
//!         if let Some(hard_state) = persist.hard_state {
//!             node.storage_mut().set_hard_state(hard_state);
//!         }
//!         node.persisted(persist.token)?;
//!     }
//!     if let Some(apply) = ready.apply {
//!         for entry in apply.entries {
//!             match entry.payload {
//!                 Payload::Normal(data) => state.push(data),
//!                 Payload::ConfChange(change) => drop(node.apply_conf_change(&change)?),
//!             }
//!         }
//!         node.applied(apply.token)?;
//!     }
//!     if !proposed && node.soft_state().leader == 1 {
//!         proposed = true;
//!         node.propose(Bytes::from_static(b"hello"))?;
//!     }
//! }
//! assert_eq!(state, ["", "hello"]); // each leader begins with an empty entry
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The lanes
//!
//! A [`Ready`] has five lanes, and the lanes are the ordering contract. Each may have a thread of its own.
//!
//! | lane | content | may start | then |
//! | --- | --- | --- | --- |
//! | [`send`](Ready::send) | messages that rest on nothing unwritten | at once | nothing |
//! | [`persist`](Ready::persist) | term, vote, entries, a snapshot's record | in order | [`Node::persisted`] with its token |
//! | [`apply`](Ready::apply) | committed entries that are durable here, or a snapshot to install | in order, beside the others | [`Node::applied`] with its token |
//! | [`reads`](Ready::reads) | reads and the index from which on they may be served | at once | serve when applied reached it |
//! | [`fetch`](Ready::fetch) | old entries somebody needs | at once, off the consensus thread | [`Node::fetched`] with its token |
//!
//! * Whatever a member promises (votes granted **and asked for**, appends acknowledged, its own share of a commit) stays
//!   inside the node until the batch it rests on is reported [`persisted`](Node::persisted). Nothing to remember, nothing to get wrong.
//! * A leader's appends leave before its own disk has them: the disks of all members work at the same time.
//! * Several batches may be on their way in each lane. Tokens come back in order, each once; they cannot be cloned or made.
//! * A batch with `must_sync == false` only moves the commit index. Write it without a sync; it rides with the next one.
//! * A received snapshot: stage, verify and sync its payload **before** stepping [`Body::Snapshot`]. The persist lane records it;
//!   when that is reported, the apply lane installs it; when that is reported, it is acknowledged. A start that finds the record
//!   but an older state rolls forward from the staged payload.
//! * Restart: [`Storage::initial_state`] answers the stored hard state and the members as of the owner's applied index, which goes
//!   into [`Config::applied`]. Nothing up to it is handed out again, everything after it is.
//!
//! # What the transport owes
//!
//! Messages may be lost, doubled, delayed and reordered. They must reach the member they are addressed to unharmed, and answers must not
//! outlive it: number the starts of each member, and drop what was sent to an earlier life. Report what cannot be delivered
//! ([`Node::report_unreachable`]) and how a snapshot fared ([`Node::report_snapshot`]).
//!
//! # When something is wrong
//!
//! A request that cannot be taken is a [`Refusal`], a message a [`StepError`]; nothing has changed then. A [`Fault`] means that log,
//! storage or peers contradict the protocol: the node stops for good and says what to do. No input makes it panic.
//!
//! # Beyond etcd's raft
//!
//! With [`Pacing::Gathered`], the default: one append a follower for all that was stepped between two Readys; one heartbeat round for all
//! reads; answers that wait for nothing leave at once; old leaders and old candidates are always told the newer term. Always:
//! votes asked for wait for the disk; a refused candidate learns what is committed; no read is served before a leader committed in
//! its term, not even by a sole voter; lease reads have a drift bound, survive restarts of voters and end with a transfer; a snapshot from
//! before its receiver was added is not sent; an invalid change of members is refused when proposed; storages may answer *pending*.
//!
//! # Features
//!
//! `sim`: the [simulator](sim). `serde`: derives for messages and states. `planted`, `testing`: for this crate's own tests.

mod bootstrap;
mod candidate;
mod collect;
mod config;
mod core;
pub mod drive;
mod error;
mod follower;
mod invariants;
mod lanes;
mod leader;
mod log;
mod membership;
mod message;
mod node;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
#[expect(unreachable_pub, reason = "public where bugs can be planted")]
mod planted;
mod progress;
pub mod quorum;
mod read_index;
mod ready;
mod replicate;
#[cfg(feature = "sim")]
pub mod sim;
mod status;
mod step;
mod storage;
mod storage_memory;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod tick;
mod trace;
mod transfer;
mod types;
mod unstable;

pub use bootstrap::bootstrap;
pub use config::{ApplyTiming, Config, Pacing, ReadMode, RefusedChange};
pub use error::{ChangeError, ConfigError, Fault, Refusal, StepError, StorageError};
pub use membership::{ConfChange, ConfChangeKind, ConfChangeSingle, ConfState, Transition};
pub use message::{Body, Message, NO_ROUND, Rejection};
pub use node::Node;
pub use progress::{Inflights, Progress, ProgressState, Tracker};
pub use ready::{Apply, ApplyToken, Fetch, FetchToken, Persist, PersistToken, ReadState, Ready};
pub use status::Status;
pub use storage::{Fetched, Storage};
pub use storage_memory::MemoryStorage;
pub use trace::{Event, LogSummary, Tracer, VoteKind};
pub use types::{
    Entry, EntryId, HardState, Index, NO_NODE, NodeId, Payload, ReadId, Role, SnapshotMeta, SoftState, Term,
};
