//! The live segments in the log's order, and the ranges that were truncated.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Error;
use crate::format::HEADER_BYTES;
use crate::layout::Layout;
use crate::planted::{Bug, planted};
use crate::position::Position;
use crate::segment::Segment;

#[derive(Debug, Default)]
pub(crate) struct Table {
    order: Vec<Arc<Segment>>,
    by_id: BTreeMap<u64, Arc<Segment>>,
    dead: Vec<(u64, u64)>,
}

impl Table {
    pub(crate) fn new(order: Vec<Arc<Segment>>, dead: Vec<(u64, u64)>) -> Table {
        let by_id = order.iter().map(|segment| (segment.id, Arc::clone(segment))).collect();
        Table { order, by_id, dead }
    }

    pub(crate) fn order(&self) -> &[Arc<Segment>] {
        &self.order
    }

    pub(crate) fn dead(&self) -> &[(u64, u64)] {
        &self.dead
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Arc<Segment>> {
        self.by_id.get(&id)
    }

    pub(crate) fn first(&self) -> Position {
        self.order.first().map_or(Position::START, |segment| segment.position(HEADER_BYTES))
    }

    pub(crate) fn push(&mut self, segment: Arc<Segment>) {
        self.by_id.insert(segment.id, Arc::clone(&segment));
        self.order.push(segment);
    }

    /// The record that keeps this shape.
    pub(crate) fn layout(&self, previous_end: Position) -> Layout {
        Layout {
            previous_end: previous_end.as_u64(),
            segments: self.order.iter().map(|segment| segment.id).collect(),
            dead: self.dead.clone(),
        }
    }

    /// Where the live records after a truncated range begin, if `position` lies in one.
    pub(crate) fn dead_until(&self, position: u64) -> Option<u64> {
        dead_until(&self.dead, position)
    }

    /// The segment of a position that was written.
    pub(crate) fn find(&self, position: Position) -> Result<&Arc<Segment>, Error> {
        let segment = self.get(position.segment().0).filter(|_| position.offset() >= HEADER_BYTES);
        let Some(segment) = segment else {
            return Err(Error::Purged { position, first: self.first() });
        };
        if !segment.built && self.dead_until(position.as_u64()).is_some() {
            return Err(Error::Truncated { position });
        }
        Ok(segment)
    }

    /// True when a segment that was built comes at or after `position` in the order: truncated ranges cannot name its records.
    pub(crate) fn built_after(&self, position: Position) -> bool {
        let id = position.segment().0;
        self.order.iter().skip_while(|segment| segment.id != id).any(|segment| segment.built)
    }

    /// Marks everything from `from` to the end `to` as truncated.
    pub(crate) fn truncate(&mut self, from: Position, to: Position) {
        let mut from = from.as_u64();
        while let Some(&(start, end)) = self.dead.last() {
            if end < from {
                break;
            }
            from = from.min(start);
            self.dead.pop();
        }
        if from < to.as_u64() {
            self.dead.push((from, to.as_u64()));
        }
    }

    /// Takes out the whole segments before the one that holds `position`; never the last.
    pub(crate) fn purge(&mut self, position: Position) -> Vec<Arc<Segment>> {
        let id = position.segment().0;
        let Some(keep) = self.order.iter().position(|segment| segment.id == id) else { return Vec::new() };
        let keep = if planted(Bug::PurgedTooMuch) { (keep + 1).min(self.order.len() - 1) } else { keep };
        let gone: Vec<_> = self.order.drain(..keep).collect();
        self.forget(&gone);
        gone
    }

    /// Puts `new` in the place of the segments `old`, which follow each other.
    pub(crate) fn replace(&mut self, at: usize, count: usize, new: Vec<Arc<Segment>>) -> Vec<Arc<Segment>> {
        for segment in &new {
            self.by_id.insert(segment.id, Arc::clone(segment));
        }
        let gone: Vec<_> = self.order.splice(at..at + count, new).collect();
        self.forget(&gone);
        gone
    }

    fn forget(&mut self, gone: &[Arc<Segment>]) {
        for segment in gone {
            self.by_id.remove(&segment.id);
        }
        let by_id = &self.by_id;
        let segment = |position: u64| Position::from_u64(position).segment().0;
        // A range that reaches into or over a live segment of appends still hides what lies there.
        let hides = |from, to| by_id.range(segment(from)..=segment(to)).any(|(_, live)| !live.built);
        self.dead.retain(|&(from, to)| hides(from, to));
    }
}

/// Where the live records after a truncated range begin, if `position` lies in one.
pub(crate) fn dead_until(dead: &[(u64, u64)], position: u64) -> Option<u64> {
    let after = dead.partition_point(|(from, _)| *from <= position);
    let (_, to) = after.checked_sub(1).and_then(|i| dead.get(i))?;
    (position < *to).then_some(*to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_ranges_merge() {
        let at = Position::from_u64;
        let mut table = Table::default();
        table.truncate(at(10), at(20));
        table.truncate(at(30), at(40));
        assert_eq!(table.dead(), [(10, 20), (30, 40)]);
        assert_eq!(table.dead_until(9), None);
        assert_eq!(table.dead_until(10), Some(20));
        assert_eq!(table.dead_until(20), None);
        table.truncate(at(35), at(50));
        assert_eq!(table.dead(), [(10, 20), (30, 50)]);
        table.truncate(at(50), at(60));
        assert_eq!(table.dead(), [(10, 20), (30, 60)]);
        table.truncate(at(5), at(70));
        assert_eq!(table.dead(), [(5, 70)]);
        table.truncate(at(80), at(80));
        assert_eq!(table.dead(), [(5, 70)]);
    }
}
