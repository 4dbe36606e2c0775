//! Milestones in the history of one key: how a read at an old revision skips over a hundred thousand newer versions.
//!
//! Each version in the log names the one before it, so a key's history is a list in the log and appending to it is
//! O(1). Every [`STRIDE`]-th version also leaves a mark here. Marks form a skip list that only grows at its head:
//!
//! ```text
//! mark      1 ◄─ 2 ◄─ 3 ◄─ 4 ◄─ 5 ◄─ 6 ◄─ 7      previous
//!           ▲────────┘         │         │
//!           ▲──────────────────┴─ … ─────┘      jump (skew-binary: O(log n) to any mark)
//! ```
//!
//! A mark never changes, so any number of roots share the tail of a history.

use std::sync::Arc;

use crate::revision::Revision;

/// Versions between two marks.
pub(crate) const STRIDE: u8 = 16;

/// One mark; see the file's picture.
#[derive(Debug)]
pub(crate) struct Mark {
    revision: Revision,
    depth: u32,
    previous: Option<Arc<Mark>>,
    jump: Option<Arc<Mark>>,
}

impl Mark {
    /// The history with one more mark at its head.
    pub(crate) fn push(previous: Option<&Arc<Mark>>, revision: Revision) -> Arc<Mark> {
        let Some(head) = previous else {
            return Arc::new(Mark { revision, depth: 1, previous: None, jump: None });
        };
        let jump = match &head.jump {
            Some(jump) if head.depth - jump.depth == jump.depth - jump.jump_depth() => jump.jump.clone(),
            _ => Some(Arc::clone(head)),
        };
        Arc::new(Mark { revision, depth: head.depth + 1, previous: Some(Arc::clone(head)), jump })
    }

    /// The depth its jump leads to; the oldest mark counts as jumping to itself.
    fn jump_depth(&self) -> u32 {
        self.jump.as_ref().map_or(self.depth, |jump| jump.depth)
    }

    /// How many marks there are from here back.
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether half of the marks are at or below `main`.
    pub(crate) fn is_mostly_below(&self, main: i64) -> bool {
        let mut at = self;
        // Jumps halve the depth at least every other time, so this is a rough middle found in O(log n).
        while let Some(jump) = at.jump.as_ref().filter(|jump| jump.depth >= self.depth / 2) {
            at = jump;
        }
        at.revision.main <= main
    }

    /// The oldest marked version whose main revision is above `main`; walking back from it reaches the newest
    /// version at or below `main` within [`STRIDE`] steps. `None` when no mark is above.
    pub(crate) fn oldest_above(self: &Arc<Mark>, main: i64) -> Option<Revision> {
        if self.revision.main <= main {
            return None;
        }
        let mut at = self;
        loop {
            at = match (&at.jump, &at.previous) {
                (Some(jump), _) if jump.revision.main > main => jump,
                (_, Some(previous)) if previous.revision.main > main => previous,
                _ => return Some(at.revision),
            };
        }
    }

    /// All marks above `main`, oldest first.
    pub(crate) fn above(self: &Arc<Mark>, main: i64) -> Vec<Revision> {
        let mut found = Vec::new();
        let mut at = Some(self);
        while let Some(mark) = at.filter(|mark| mark.revision.main > main) {
            found.push(mark.revision);
            at = mark.previous.as_ref();
        }
        found.reverse();
        found
    }

    /// A history of these marks, given oldest first.
    pub(crate) fn rebuild(marks: &[Revision]) -> Option<Arc<Mark>> {
        marks.iter().fold(None, |head, &revision| Some(Mark::push(head.as_ref(), revision)))
    }
}

/// Long histories are taken apart in a loop: the compiler's own drop would recurse once per mark.
impl Drop for Mark {
    fn drop(&mut self) {
        let mut loose: Vec<Arc<Mark>> = Vec::new();
        loose.extend(self.jump.take());
        loose.extend(self.previous.take());
        while let Some(mark) = loose.pop() {
            if let Some(mut last) = Arc::into_inner(mark) {
                loose.extend(last.jump.take());
                loose.extend(last.previous.take());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_scan_finds() {
        let revisions: Vec<Revision> = (1..500).map(|i| Revision::new(i * 3, 0)).collect();
        let head = Mark::rebuild(&revisions).unwrap();
        for main in 0..1510 {
            let scanned = revisions.iter().copied().find(|r| r.main > main);
            assert_eq!(head.oldest_above(main), scanned, "at {main}");
            let above: Vec<Revision> = revisions.iter().copied().filter(|r| r.main > main).collect();
            assert_eq!(head.above(main), above);
        }
    }

    #[test]
    fn a_search_is_logarithmic() {
        let mut head = None;
        for i in 1..=100_000 {
            head = Some(Mark::push(head.as_ref(), Revision::new(i, 0)));
        }
        let head = head.unwrap();
        let (mut at, mut steps) = (&head, 0);
        while let Some(jump) = &at.jump {
            at = jump;
            steps += 1;
        }
        assert!(steps < 40, "{steps} jumps");
    }

    #[test]
    fn a_million_marks_are_dropped_without_recursion() {
        let mut head = None;
        for i in 1..=1_000_000 {
            head = Some(Mark::push(head.as_ref(), Revision::new(i, 0)));
        }
        drop(head);
    }
}
