//! What happens next: events in the order of virtual time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use ketch_raft::Message;

use super::ask::{Ask, Told};
use crate::consensus::persist::FetchJob;

/// A member in one of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) node: usize,
    pub(super) life: u64,
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) from: Who,
    pub(super) to: Who,
    pub(super) message: Message,
}

/// A client's request on its way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) operation: u64,
    pub(super) ask: Ask,
}

/// Something that happens at a point in time.
#[derive(Debug)]
pub(super) enum What {
    /// A member's clock ticks.
    Tick(Who),
    /// A member looks into its inbox.
    Wake(Who),
    /// The log's disk is done.
    Synced(Who),
    /// The applier is done.
    Applied(Who),
    /// Old entries are read.
    Fetched(Who, Box<FetchJob>),
    /// A member's upkeep.
    Upkeep(Who),
    /// A message arrives.
    Arrive(Box<Parcel>),
    /// A piece of a snapshot arrives.
    Chunk(u64),
    /// A client's request arrives.
    Request(Who, Box<Request>),
    /// A client hears the outcome.
    Answer(u64, Box<Told>),
    /// A client is tired of waiting.
    Timeout(u64),
    /// A client goes on.
    Client(usize),
    /// A watcher does something.
    Watch,
    /// A process starts.
    Start(usize),
    /// The machine of a removed member is switched off.
    Retire(usize),
    /// A stopped process goes on.
    Resume(Who),
    /// A hanging disk comes back.
    Unstick(Who),
    /// A partition ends.
    Mend(u64),
    /// The next member of a rolling restart.
    Roll(usize),
    /// A full disk has room again.
    Room(usize),
    /// Something goes wrong.
    Chaos,
    /// Nothing goes wrong any more.
    Heal,
    /// Has everybody converged?
    Look,
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    number: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Events by time; those of one moment in the order in which they were scheduled.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
}

impl Queue {
    /// `what` happens at `at`.
    pub(super) fn push(&mut self, at: u64, what: What) {
        self.scheduled += 1;
        self.heap.push(Reverse(Scheduled { at, number: self.scheduled, what }));
    }

    /// The next event and its time.
    pub(super) fn pop(&mut self) -> Option<(u64, What)> {
        self.heap.pop().map(|Reverse(next)| (next.at, next.what))
    }
}
