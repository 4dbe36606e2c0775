//! Compaction: refused or accepted at once, carried out in small steps.
//!
//! What is dead at a compaction point C, exactly:
//!
//! * a version that a later one at or below C replaced;
//! * a tombstone below C. A tombstone *at* C is kept, so that a watch from C on still sees it.
//!
//! Every change in the log names the version it replaced, so the dead are found by reading the changes between the old
//! compaction point and the new one, once, in order. Each step marks some of them in their segments' tables of dead;
//! nothing is copied or unlinked here. Reads never ask for a dead version, so they need not know how far this is.

use crate::error::{CompactError, Fault};
use crate::hash;
use crate::log::record::Change;
use crate::planted::{Bug, planted};
use crate::revision::Revision;
use crate::shared::{Shared, Totals, lock};
use crate::store::Progress;
use crate::types::Sizes;

/// Checks a request against the store's revision and compaction point, as etcd does.
pub(crate) fn check(requested: i64, current: i64, compacted: i64) -> Result<(), CompactError> {
    if requested <= compacted {
        Err(CompactError::Compacted { requested, compacted })
    } else if requested > current {
        Err(CompactError::Future { requested, current })
    } else {
        Ok(())
    }
}

/// How far the search for the dead is, as of the last finished step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Physical {
    /// The compaction point whose dead are all marked.
    pub(crate) done: i64,
    /// Bytes and number of all versions marked so far.
    pub(crate) dead: Totals,
    /// Sum of the hashes that a hash at compaction point `done` leaves out.
    pub(crate) dead_hash: u64,
}

impl Default for Physical {
    fn default() -> Physical {
        Physical { done: -1, dead: Totals::default(), dead_hash: 0 }
    }
}

/// The search itself.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    physical: Physical,
    /// The point it is on its way to, the next change to look at, and what it has found of the hash.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    target: i64,
    next: Revision,
    hash: u64,
}

impl Scan {
    pub(crate) fn new(physical: Physical) -> Scan {
        Scan { physical, running: None }
    }

    /// The state, when no search is under way.
    pub(crate) fn at_rest(&self) -> Option<Physical> {
        self.running.is_none().then_some(self.physical)
    }

    /// Looks at up to `budget` changes.
    pub(crate) fn step(&mut self, shared: &Shared, budget: usize) -> Result<Progress, Fault> {
        let done = self.physical.done;
        if self.running.is_none() {
            let target = shared.root.get().compacted.min(shared.oldest_epoch());
            if target <= done {
                return Ok(Progress::Idle);
            }
            // Tombstones at the old point were kept; they are looked at again.
            let next = Revision::new(done.max(0), 0);
            self.running = Some(Running { target, next, hash: self.physical.dead_hash });
        }
        let Some(running) = &mut self.running else { return Ok(Progress::Idle) };
        for (looked_at, change) in shared.log.changes(running.next, running.target).enumerate() {
            if looked_at == budget {
                *lock(&shared.physical) = self.physical;
                return Ok(Progress::More);
            }
            let change = change?;
            running.next = Revision::new(change.revision.main, change.revision.sub.saturating_add(1));
            let effect = effect(&change, done, running.target);
            if let Some(replaced) = effect.replaced {
                running.hash = running.hash.wrapping_add(kill(shared, replaced, &mut self.physical.dead)?);
            }
            if effect.tombstone_hashed {
                running.hash = running.hash.wrapping_add(hash::change(&change));
            }
            if effect.tombstone_dead {
                kill(shared, change.revision, &mut self.physical.dead)?;
            }
        }
        self.physical.done = running.target;
        self.physical.dead_hash = running.hash;
        self.running = None;
        *lock(&shared.physical) = self.physical;
        Ok(Progress::More)
    }
}

/// What a change between two compaction points says about the dead.
pub(crate) struct Effect {
    /// The version it replaced is dead.
    pub(crate) replaced: Option<Revision>,
    /// It is a tombstone that a hash at the new point leaves out.
    pub(crate) tombstone_hashed: bool,
    /// It is a tombstone below the new point: dead itself.
    pub(crate) tombstone_dead: bool,
}

/// See [`Effect`]; the change lies in `from..=to`.
pub(crate) fn effect(change: &Change, from: i64, to: i64) -> Effect {
    let main = change.revision.main;
    let tombstone = change.is_delete();
    Effect {
        replaced: change.superseded().filter(|_| main > from && !planted(Bug::CompactionForgetsTheReplaced)),
        tombstone_hashed: tombstone && main > from,
        tombstone_dead: tombstone
            && (main < to || planted(Bug::CompactionDropsTombstonesAtThePoint))
            && !planted(Bug::CompactionKeepsTombstones),
    }
}

/// Marks a version dead and adds it to `dead`; returns its hash. Does nothing for one that is marked already.
fn kill(shared: &Shared, revision: Revision, dead: &mut Totals) -> Result<u64, Fault> {
    let set = shared.log.set();
    let change = shared.log.read(revision)?;
    let Some((segment, row)) = set.find(revision) else { return Ok(0) };
    if !segment.dead().mark(row) {
        return Ok(0);
    }
    dead.bytes += Totals::charge(&change);
    dead.versions += 1;
    Ok(hash::change(&change))
}

/// The store's sizes.
pub(crate) fn sizes(shared: &Shared) -> Sizes {
    let root = shared.root.get();
    let physical = *lock(&shared.physical);
    let physical_bytes = shared.log.wal.stats().live_bytes;
    let logical_bytes = root.written.bytes.saturating_sub(physical.dead.bytes) + root.tables.bytes();
    Sizes {
        logical_bytes,
        in_use_bytes: logical_bytes.min(physical_bytes),
        physical_bytes,
        keys: root.tree.count().live,
        revisions: root.written.versions.saturating_sub(physical.dead.versions),
    }
}
