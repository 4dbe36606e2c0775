//! Giving space back: segments that are mostly dead are copied without their dead, a few records at a time, and the old
//! files unlinked when the last reader lets go.
//!
//! Only what the checkpoint in place knows to be dead is left out, and only segments wholly before it are touched: so a
//! start from that checkpoint finds everything it expects, wherever a crash interrupts this. A segment without anything
//! alive is dropped without a copy.

use std::sync::Arc;

use bytes::Bytes;
use ketch_wal::{Batch, SegmentBuilder, SegmentId};

use super::record::{self, Row};
use super::rows::{self, ActiveRows, Rows};
use super::segment::{Dead, Segment, SegmentSet};
use crate::checkpoint::Checkpoints;
use crate::error::{Fault, FaultKind};
use crate::planted::{Bug, planted};
use crate::shared::Shared;
use crate::store::Progress;

/// The rewrite under way, if any.
#[derive(Debug, Default)]
pub(crate) struct Rewriter {
    job: Option<Job>,
}

#[derive(Debug)]
struct Job {
    /// The segments that are replaced, oldest first, with the dead that are left out.
    old: Vec<(Arc<Segment>, Dead)>,
    builder: SegmentBuilder,
    /// The new segment's rows, and which of them have died since the checkpoint.
    rows: Box<ActiveRows>,
    /// The place to go on from: number in `old` and row.
    at: (usize, usize),
}

/// The least a segment must hold before a rewrite of a small part is thought of.
const ROWS_MIN: u64 = 64;
const BYTES_MIN: u64 = 4 << 10;

impl Rewriter {
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Whether some closed segment has enough that is of no use, with as many dead as `dead` says.
    pub(crate) fn is_worthwhile(shared: &Shared, dead: impl Fn(&Segment) -> u64) -> bool {
        let percent = u64::from(shared.options.rewrite_dead_percent);
        let infos = shared.log.wal.segments();
        let set = shared.log.set();
        closed(&set).iter().any(|segment| {
            let bytes = infos.iter().find(|info| info.id == segment.id()).map_or(0, |info| info.bytes);
            is_mostly_dead(segment, bytes, dead(segment), percent)
        })
    }

    /// Copies up to `budget` records, or begins or ends a rewrite.
    pub(crate) fn step(
        &mut self,
        shared: &Shared,
        checkpoints: &Checkpoints,
        budget: usize,
    ) -> Result<Progress, Fault> {
        let Some(job) = &mut self.job else { return self.begin(shared, checkpoints) };
        if job.copy(shared, budget)? == Progress::More {
            return Ok(Progress::More);
        }
        if let Some(job) = self.job.take() {
            job.finish(shared)?;
        }
        Ok(Progress::More)
    }

    fn begin(&mut self, shared: &Shared, checkpoints: &Checkpoints) -> Result<Progress, Fault> {
        // Roots of an earlier compaction point may still read what that one kept.
        if checkpoints.done > shared.oldest_epoch() {
            return Ok(Progress::Idle);
        }
        let Some(old) = candidates(shared, checkpoints) else { return Ok(Progress::Idle) };
        if old.iter().all(|(segment, dead)| dead.count == segment.rows().len() as u64) {
            let ids: Vec<SegmentId> = old.iter().map(|(segment, _)| segment.id()).collect();
            shared.log.replace(&ids, Vec::new(), None)?;
            return Ok(Progress::More);
        }
        let builder = shared.log.wal.build_segment().map_err(Fault::log("begin a rewritten segment"))?;
        self.job = Some(Job { old, builder, rows: Box::default(), at: (0, 0) });
        Ok(Progress::More)
    }
}

/// All segments but the active one. One that the log closed by itself has no footer and is treated like the others.
fn closed(set: &SegmentSet) -> &[Arc<Segment>] {
    set.segments().split_last().map_or(&[], |(_, closed)| closed)
}

/// Whether enough of a segment's bytes are of no use: records of dead versions, and what is no version at all (tables,
/// ends of batches), which a checkpoint has made obsolete.
fn is_mostly_dead(segment: &Segment, bytes: u64, dead: u64, percent: u64) -> bool {
    let rows = segment.rows().len() as u64;
    if dead == rows {
        return true;
    }
    if dead > 0 && rows >= ROWS_MIN && dead * 100 >= rows * percent {
        return true;
    }
    let Some(used) = segment.rows().bytes() else { return false };
    let alive = used / rows * (rows - dead) + (rows - dead) * record::ROW_BYTES as u64;
    bytes >= BYTES_MIN && alive.saturating_mul(100) <= bytes.saturating_mul(100 - percent.min(100))
}

/// The first mostly dead segment before the checkpoint, and those behind it that fit into the same new one.
fn candidates(shared: &Shared, checkpoints: &Checkpoints) -> Option<Vec<(Arc<Segment>, Dead)>> {
    let percent = u64::from(shared.options.rewrite_dead_percent);
    let set = shared.log.set();
    let infos = shared.log.wal.segments();
    let before = |segment: &Segment| {
        let info = infos.iter().find(|info| info.id == segment.id());
        info.is_some_and(|info| info.sealed && info.end <= checkpoints.end)
    };
    let mut found: Vec<(Arc<Segment>, Dead)> = Vec::new();
    let mut alive = 0;
    for segment in closed(&set) {
        let known = !planted(Bug::RewriteDropsWhatTheCheckpointDoesNotKnow);
        let dead = if known {
            checkpoints.dead.get(&segment.id()).cloned().unwrap_or_default()
        } else {
            segment.dead().clone()
        };
        let rows = segment.rows().len() as u64;
        let bytes = infos.iter().find(|info| info.id == segment.id()).map_or(0, |info| info.bytes);
        if !before(segment) || !is_mostly_dead(segment, bytes, dead.count, percent) {
            if found.is_empty() {
                continue;
            }
            break;
        }
        // Wholly dead ones go by themselves, the others together while the new segment stays of the usual size.
        let wholly = dead.count == rows;
        let more = bytes.saturating_mul(rows - dead.count) / rows.max(1);
        let fits = found.is_empty() || (!wholly && alive > 0 && alive + more <= shared.options.segment_bytes);
        if !fits {
            break;
        }
        alive += more;
        found.push((Arc::clone(segment), dead));
        if wholly {
            break;
        }
    }
    (!found.is_empty()).then_some(found)
}

impl Job {
    fn copy(&mut self, shared: &Shared, budget: usize) -> Result<Progress, Fault> {
        let mut batch = Batch::new();
        let mut revisions = Vec::new();
        while revisions.len() < budget {
            let Some((segment, dead)) = self.old.get(self.at.0) else { break };
            let Some(row) = segment.rows().get(self.at.1) else {
                self.at = (self.at.0 + 1, 0);
                continue;
            };
            self.at.1 += 1;
            let lost = planted(Bug::RewriteLosesTheNewestVersion) && segment.rows().get(self.at.1).is_none();
            if dead.is_marked(self.at.1 - 1) || lost {
                continue;
            }
            let position = segment.position(row.offset);
            let read = shared.log.wal.read(position).map_err(Fault::log("read a record to rewrite"))?;
            batch.push(read.kind, &[&read.data]);
            revisions.push(row.revision);
        }
        if revisions.is_empty() {
            return Ok(Progress::Idle);
        }
        self.builder.append(&mut batch).map_err(Fault::log("write a rewritten segment"))?;
        let ends = batch.positions().iter().skip(1).map(|position| position.offset());
        let ends = ends.chain([self.builder.position().offset()]);
        for ((&revision, position), end) in revisions.iter().zip(batch.positions()).zip(ends) {
            let row = Row { revision, offset: position.offset() as u32 };
            if !self.rows.push(row, end.saturating_sub(position.offset())) {
                return Err(Fault::new(FaultKind::Misuse { rule: "a segment holds at most 2^32 revisions" }));
            }
        }
        Ok(Progress::More)
    }

    /// Writes the footer, makes the segment durable and puts it in place.
    fn finish(self, shared: &Shared) -> Result<(), Fault> {
        let rows = Rows::Active(self.rows);
        let (mut footer, chunks) = rows::footer(&rows);
        let id = self.builder.id();
        let built = self.builder.finish(&mut footer).map_err(Fault::log("finish a rewritten segment"))?;
        let chunks = chunks.into_iter().map(Bytes::from).collect();
        let new = Segment::new(id, Rows::Sealed { chunks, len: rows.len(), bytes: rows.bytes() });
        carry_over(&self.old, &new);
        let ids: Vec<SegmentId> = self.old.iter().map(|(segment, _)| segment.id()).collect();
        shared.log.replace(&ids, vec![built], Some(Arc::new(new)))
    }
}

/// Marks in the new segment what has died since the checkpoint that allowed the rewrite.
fn carry_over(old: &[(Arc<Segment>, Dead)], new: &Segment) {
    let mut to = new.dead();
    let mut row_of_new = 0;
    for (segment, left_out) in old {
        let now = segment.dead();
        for row in (0..segment.rows().len()).filter(|&row| !left_out.is_marked(row)) {
            if now.is_marked(row) {
                to.mark(row_of_new);
            }
            row_of_new += 1;
        }
    }
}
