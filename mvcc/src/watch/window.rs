//! The newest changes, kept for live watchers so that these need no log: bounded in number and in bytes.

use std::collections::VecDeque;

use crate::log::record::Change;

/// Changes that are published and not yet delivered, as long as there is room; the log has all of them.
#[derive(Debug)]
pub(crate) struct Window {
    changes: VecDeque<Change>,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

/// What a change holds in memory.
fn charge(change: &Change) -> usize {
    change.wire.len() + size_of::<Change>()
}

impl Window {
    pub(crate) fn new(events_max: usize, bytes_max: usize) -> Window {
        Window { changes: VecDeque::new(), bytes: 0, events_max, bytes_max }
    }

    /// Takes the changes of a commit; the oldest give way.
    pub(crate) fn append(&mut self, changes: Vec<Change>) {
        if self.events_max == 0 {
            return;
        }
        self.bytes += changes.iter().map(charge).sum::<usize>();
        self.changes.extend(changes);
        while self.changes.len() > self.events_max || self.bytes > self.bytes_max {
            if !self.forget_first() {
                break;
            }
        }
        self.shrink();
    }

    /// Lets everything up to main revision `upto` go.
    pub(crate) fn forget(&mut self, upto: i64) {
        while self.changes.front().is_some_and(|change| change.revision.main <= upto) {
            self.forget_first();
        }
        self.shrink();
    }

    fn forget_first(&mut self) -> bool {
        let Some(first) = self.changes.pop_front() else { return false };
        self.bytes -= charge(&first);
        true
    }

    /// A burst's room is given back when it is over.
    fn shrink(&mut self) {
        const SMALL: usize = 256;
        if self.changes.is_empty() && self.changes.capacity() > SMALL {
            self.changes = VecDeque::new();
        }
    }

    /// The changes from main revision `from` on; `None` when the window does not reach back that far.
    pub(crate) fn since(&self, from: i64) -> Option<impl Iterator<Item = &Change>> {
        let first = self.changes.front()?.revision;
        if first.main > from || (first.main == from && first.sub > 0) {
            return None;
        }
        let start = self.changes.partition_point(|change| change.revision.main < from);
        Some(self.changes.range(start..))
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::UPDATE;
    use crate::revision::Revision;

    fn changes(main: i64, subs: u32, bytes: usize) -> Vec<Change> {
        let change = |sub| Change {
            revision: Revision::new(main, sub),
            kind: UPDATE,
            previous: Revision::NONE,
            wire: vec![0; bytes].into(),
        };
        (0..subs).map(change).collect()
    }

    #[test]
    fn huge_values_take_the_place_of_many_small_ones() {
        let mut window = Window::new(1000, 1 << 20);
        (2..200).for_each(|main| window.append(changes(main, 1, 10)));
        assert!(window.since(2).is_some());
        (200..210).for_each(|main| window.append(changes(main, 1, 300 << 10)));
        assert!(window.bytes() <= 1 << 20);
        assert!(window.since(206).is_none());
        assert_eq!(window.since(207).map(Iterator::count), Some(3));
        window.append(changes(210, 1, 2 << 20));
        assert_eq!(window.bytes(), 0);
        assert!(window.since(210).is_none());
    }

    #[test]
    fn a_revision_that_lost_its_beginning_is_not_served() {
        let mut window = Window::new(4, 1 << 20);
        window.append(changes(5, 3, 1));
        window.append(changes(6, 3, 1));
        assert!(window.since(5).is_none());
        assert_eq!(window.since(6).map(Iterator::count), Some(3));
        window.forget(6);
        assert_eq!(window.bytes(), 0);
    }
}
