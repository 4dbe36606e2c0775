//! A raft consensus core: pure, synchronous, deterministic; no clock, no I/O, no async.

mod bootstrap;
mod candidate;
mod collect;
mod config;
mod core;
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
pub use message::{Body, Message, Rejection};
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
