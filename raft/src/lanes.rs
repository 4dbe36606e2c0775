//! What was handed out and not reported back, and what waits for it.
//!
//! Batches for the log are numbered and come back in order. A promise rests on the newest batch that was handed
//! out when it was made: it leaves when that batch, and so everything before it, is durable. A batch with a
//! snapshot counts as durable only once the snapshot is installed as well.

use std::collections::VecDeque;

use crate::message::Message;
use crate::types::{EntryId, Index, SnapshotMeta, Term};

/// A batch on its way to the log.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    /// It changes more than the commit index.
    pub(crate) must_sync: bool,
    pub(crate) promises: Vec<Message>,
    pub(crate) mark: Option<Mark>,
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) persisted: bool,
}

/// What to tell the log when a batch is durable: it held everything up to `last` in `term`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) term: Term,
    pub(crate) last: Option<EntryId>,
}

/// A batch on its way to the state machine.
#[derive(Debug)]
pub(crate) struct Applying {
    pub(crate) number: u64,
    pub(crate) last: Index,
    pub(crate) wire_bytes: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) snapshot: bool,
}

/// Where the received snapshot at the head of the persist lane stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Install {
    /// There is none.
    #[default]
    None,
    /// Recorded in the log; the applier shall install it.
    Due,
    /// The applier has it.
    Running,
    /// Installed before the log reported it recorded (only with [`ApplyTiming::WithPersist`](crate::ApplyTiming)).
    Done,
}

#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) batches: VecDeque<Batch>,
    pub(crate) applying: VecDeque<Applying>,
    pub(crate) install: Install,
    /// Promises that came true, for the next Ready.
    pub(crate) released: Vec<Message>,
    next_batch: u64,
    next_apply: u64,
}

impl Lanes {
    pub(crate) fn next_batch(&mut self) -> u64 {
        self.next_batch += 1;
        self.next_batch
    }

    pub(crate) fn next_apply(&mut self) -> u64 {
        self.next_apply += 1;
        self.next_apply
    }

    /// Notes that a batch is durable. False when it is not the oldest that is not.
    pub(crate) fn note_persisted(&mut self, number: u64) -> bool {
        match self.batches.iter_mut().find(|batch| !batch.persisted) {
            Some(batch) if batch.number == number => {
                batch.persisted = true;
                true
            }
            _ => false,
        }
    }

    /// The newest batch that promises made now must wait for.
    pub(crate) fn newest_synced(&mut self) -> Option<&mut Batch> {
        self.batches.iter_mut().rev().find(|batch| batch.must_sync || !batch.promises.is_empty())
    }

    /// The oldest batch, when everything about it is done.
    pub(crate) fn take_complete(&mut self) -> Option<Batch> {
        let front = self.batches.front()?;
        if !front.persisted {
            return None;
        }
        if front.snapshot.is_some() {
            match self.install {
                Install::None => {
                    self.install = Install::Due;
                    return None;
                }
                Install::Due | Install::Running => return None,
                Install::Done => self.install = Install::None,
            }
        }
        self.batches.pop_front()
    }
}
