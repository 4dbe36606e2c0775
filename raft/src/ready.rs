//! The lanes: what a node wants done, and the tokens that say it was.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::message::Message;
use crate::types::{Entry, HardState, Index, NodeId, ReadId, SnapshotMeta, SoftState, Term};

/// Everything that became due since the last one. The table in the [crate's manual](crate) says what may run beside what.
#[derive(Debug, Default)]
#[must_use = "what a Ready hands out is not handed out again"]
pub struct Ready {
    /// The leader or the own role changed.
    pub soft: Option<SoftState>,
    /// May leave at once.
    pub send: Vec<Message>,
    /// To be made durable, in order.
    pub persist: Option<Persist>,
    /// To be applied, in order, beside the other lanes.
    pub apply: Option<Apply>,
    /// Reads that may be served once their index is applied.
    pub reads: Vec<ReadState>,
    /// Old entries to be read, off the consensus thread.
    pub fetch: Vec<Fetch>,
}

impl Ready {
    /// Nothing is due.
    pub fn is_empty(&self) -> bool {
        self.soft.is_none()
            && self.send.is_empty()
            && self.persist.is_none()
            && self.apply.is_none()
            && self.reads.is_empty()
            && self.fetch.is_empty()
    }
}

/// One batch for the log. Write `snapshot` (which replaces the log), `entries` (which replace what the log holds at
/// or after the first of them) and `hard_state`; sync when `must_sync`; then call
/// [`Node::persisted`](crate::Node::persisted). Messages that rest on it stay inside the node until then.
#[derive(Debug)]
pub struct Persist {
    /// The new hard state, when it changed.
    pub hard_state: Option<HardState>,
    /// Consecutive entries.
    pub entries: Vec<Entry>,
    /// A received snapshot: its payload is already staged and synced by the owner.
    pub snapshot: Option<SnapshotMeta>,
    /// False when only the commit index moved: write it, but let it ride with the next sync, and give the token back
    /// at once, after those before it.
    pub must_sync: bool,
    /// Give it back when all of this is durable, as far as `must_sync` asks for that.
    pub token: PersistToken,
}

/// One batch for the state machine: entries, or a snapshot to install, never both.
#[derive(Debug)]
pub struct Apply {
    /// Committed entries in order.
    pub entries: Vec<Entry>,
    /// Replace the state by this snapshot's payload, durably, after all earlier batches.
    pub snapshot: Option<SnapshotMeta>,
    /// Give it back when all of this is applied.
    pub token: ApplyToken,
}

/// A read that may be served once `index` is applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// As passed to [`Node::read_index`](crate::Node::read_index).
    pub id: ReadId,
    /// Applied must reach this first.
    pub index: Index,
}

/// Entries that somebody needs and [`Storage::entries`](crate::Storage::entries) answered *pending* for.
#[derive(Debug)]
pub struct Fetch {
    /// The first.
    pub low: Index,
    /// One past the last.
    pub high: Index,
    /// Bytes to read at most, but at least one entry.
    pub max_bytes: u64,
    /// Give it back with the entries.
    pub token: FetchToken,
}

/// Names one node's life within this process: a member started again must not take the tokens of its earlier life,
/// whose batches were never written for this one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life(u64);

impl Life {
    pub(crate) fn begin() -> Life {
        static LIVES: AtomicU64 = AtomicU64::new(0);
        Life(LIVES.fetch_add(1, Ordering::Relaxed))
    }
}

/// Says nothing: one seed must print the same twice.
impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// Proof that a [`Persist`] was handed out, in this life. Not clonable, not constructible outside.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the node waits for it"]
pub struct PersistToken {
    pub(crate) life: Life,
    pub(crate) number: u64,
}

/// Proof that an [`Apply`] was handed out, in this life. Not clonable, not constructible outside.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the node waits for it"]
pub struct ApplyToken {
    pub(crate) life: Life,
    pub(crate) number: u64,
}

/// Proof that a [`Fetch`] was handed out, in this life. Not clonable, not constructible outside.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the node waits for it"]
pub struct FetchToken {
    pub(crate) life: Life,
    pub(crate) low: Index,
    pub(crate) purpose: FetchPurpose,
}

/// For whom entries are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchPurpose {
    /// For a follower of the leader of `term`.
    Follower { to: NodeId, term: Term, number: u64 },
    /// For the own apply lane.
    Apply,
}
