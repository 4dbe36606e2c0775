//! What a leader knows of one peer, and how that decides what may be sent to it.
//!
//! ```text
//!            accepted                         cannot be caught up from the log
//!   Probe ─────────────► Replicate      Probe, Replicate ─────────────► Snapshot
//!     ▲                      │                    ▲                         │
//!     └── rejected, or ──────┘                    └── reported done/failed ─┘
//!         unreachable                          (or an answer reconnects it: → Replicate)
//! ```

mod inflights;
mod tracker;

use std::fmt;

pub use inflights::Inflights;
pub use tracker::Tracker;

use crate::types::{Index, NodeId};

/// How a leader feeds a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProgressState {
    /// One append a heartbeat, to find out where the logs match.
    #[default]
    Probe,
    /// Appends in a row, before they are acknowledged.
    Replicate,
    /// Nothing, while a snapshot travels.
    Snapshot,
}

/// What a leader knows of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Up to here the peer's log matches and is durable there.
    pub match_index: Index,
    /// The next entry to send. Always above `match_index`; those between are in flight.
    pub next_index: Index,
    /// The highest commit index on its way to the peer.
    pub(crate) sent_commit: Index,
    /// How it is fed.
    pub state: ProgressState,
    /// In [`ProgressState::Snapshot`]: the snapshot's index.
    pub pending_snapshot: Index,
    /// It was heard of since quorum was last checked.
    pub recent_active: bool,
    /// Appends wait for a heartbeat's answer.
    pub flow_paused: bool,
    /// Appends in flight.
    pub inflights: Inflights,
    /// It does not vote.
    pub is_learner: bool,
    /// Entries for it are being read by the owner: the number of that fetch, or 0. At most one at a time, whatever
    /// becomes of the state meanwhile.
    pub(crate) fetching: u64,
    /// The newest heartbeat round it answered in this leader's term.
    pub(crate) acked_round: u64,
}

impl Progress {
    /// A peer of whom nothing is known; sending starts at `next_index`.
    pub fn new(next_index: Index, inflights: Inflights, is_learner: bool) -> Progress {
        Progress {
            match_index: 0,
            next_index,
            sent_commit: 0,
            state: ProgressState::Probe,
            pending_snapshot: 0,
            recent_active: false,
            flow_paused: false,
            inflights,
            is_learner,
            fetching: 0,
            acked_round: 0,
        }
    }

    fn reset_state(&mut self, state: ProgressState) {
        self.flow_paused = false;
        self.pending_snapshot = 0;
        self.state = state;
        self.inflights.reset();
    }

    /// Back to asking, from what matched or, if larger, from the snapshot that was sent.
    pub fn become_probe(&mut self) {
        let snapshot = self.pending_snapshot;
        let from_snapshot = self.state == ProgressState::Snapshot;
        self.reset_state(ProgressState::Probe);
        self.next_index = self.match_index + 1;
        if from_snapshot {
            self.next_index = self.next_index.max(snapshot + 1);
        }
        self.sent_commit = self.sent_commit.min(self.next_index - 1);
    }

    /// To pipelining.
    pub fn become_replicate(&mut self) {
        self.reset_state(ProgressState::Replicate);
        self.next_index = self.match_index + 1;
    }

    /// Waits for a snapshot at `index` to arrive.
    pub fn become_snapshot(&mut self, index: Index) {
        self.reset_state(ProgressState::Snapshot);
        self.pending_snapshot = index;
        self.next_index = index + 1;
        self.sent_commit = index;
    }

    /// Notes an append of `entries` entries with `bytes` of payload.
    pub fn sent_entries(&mut self, entries: u64, bytes: u64) {
        match self.state {
            ProgressState::Replicate => {
                if entries > 0 {
                    self.next_index += entries;
                    self.inflights.add(self.next_index - 1, bytes);
                }
                self.flow_paused = self.inflights.is_full();
            }
            ProgressState::Probe => self.flow_paused |= entries > 0,
            ProgressState::Snapshot => {}
        }
    }

    /// Notes the commit index of a message that was sent.
    pub fn sent_commit(&mut self, commit: Index) {
        self.sent_commit = commit;
    }

    /// Could telling it of `commit` move it on?
    pub fn can_bump_commit(&self, commit: Index) -> bool {
        commit > self.sent_commit && self.sent_commit < self.next_index - 1
    }

    /// It holds committed entries that it was not told of, by any message.
    pub(crate) fn is_owed(&self, committed: Index) -> bool {
        self.state == ProgressState::Replicate && self.match_index.min(committed) > self.sent_commit
    }

    /// An acknowledgement of everything up to `index`. False when it is old news.
    pub fn accepted(&mut self, index: Index) -> bool {
        if index <= self.match_index {
            return false;
        }
        self.match_index = index;
        self.next_index = self.next_index.max(index + 1);
        self.flow_paused = false;
        true
    }

    /// A refusal of the append after `refused`, with a guess where the logs match. False when it is old news.
    pub fn rejected(&mut self, refused: Index, hint: Index) -> bool {
        if self.state == ProgressState::Replicate {
            if refused <= self.match_index {
                return false;
            }
            self.next_index = self.match_index + 1;
            self.sent_commit = self.sent_commit.min(self.next_index - 1);
            return true;
        }
        if self.next_index - 1 != refused {
            return false;
        }
        self.next_index = refused.min(hint + 1).max(self.match_index + 1);
        self.sent_commit = self.sent_commit.min(self.next_index - 1);
        self.flow_paused = false;
        true
    }

    /// Nothing may be sent now.
    pub fn is_paused(&self) -> bool {
        self.state == ProgressState::Snapshot || self.flow_paused
    }
}

/// `Replicate match=3 next=7 inflight=2`, with what deviates from the ordinary.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} match={} next={}", self.state, self.match_index, self.next_index)?;
        if self.is_learner {
            f.write_str(" learner")?;
        }
        if self.is_paused() {
            f.write_str(" paused")?;
        }
        if self.pending_snapshot > 0 {
            write!(f, " pendingSnap={}", self.pending_snapshot)?;
        }
        if !self.recent_active {
            f.write_str(" inactive")?;
        }
        if self.inflights.count() > 0 {
            write!(f, " inflight={}", self.inflights.count())?;
            if self.inflights.is_full() {
                f.write_str("[full]")?;
            }
        }
        Ok(())
    }
}

/// A peer's id with what is known of it.
pub(crate) type Peer = (NodeId, Progress);
