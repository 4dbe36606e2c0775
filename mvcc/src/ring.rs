//! Roots of the recent past: a read at an older revision starts from the nearest one.
//!
//! A list that is read page by page asks for one revision again and again. The root of its first page is pinned here,
//! so every further page costs what the first did. Beside these, one root in every so many revisions is kept.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::shared::{Epoch, Root};

/// See the file's comment. Small, so every search is a scan.
#[derive(Debug)]
pub(crate) struct Ring {
    spaced: VecDeque<Arc<Root>>,
    spaced_max: usize,
    spacing: i64,
    /// Most recently used last.
    lists: VecDeque<Arc<Root>>,
    lists_max: usize,
}

impl Ring {
    pub(crate) fn new(spaced_max: usize, spacing: i64, lists_max: usize) -> Ring {
        Ring { spaced: VecDeque::new(), spaced_max, spacing, lists: VecDeque::new(), lists_max }
    }

    /// Keeps `root` when enough revisions lie behind the last one kept; returns the one that had to go.
    pub(crate) fn published(&mut self, root: &Arc<Root>) -> Option<Arc<Root>> {
        let due = self.spaced.back().is_none_or(|last| root.revision >= last.revision + self.spacing);
        if !due || self.spaced_max == 0 {
            return None;
        }
        self.spaced.push_back(Arc::clone(root));
        if self.spaced.len() > self.spaced_max { self.spaced.pop_front() } else { None }
    }

    /// Pins the root of a list that has more pages; returns the one that had to go.
    pub(crate) fn pin(&mut self, root: &Arc<Root>) -> Option<Arc<Root>> {
        if self.lists_max == 0 {
            return None;
        }
        if let Some(i) = self.lists.iter().position(|pinned| pinned.revision == root.revision) {
            let known = self.lists.remove(i);
            self.lists.extend(known);
            return None;
        }
        self.lists.push_back(Arc::clone(root));
        if self.lists.len() > self.lists_max { self.lists.pop_front() } else { None }
    }

    /// The root of the lowest revision at or above `revision`.
    pub(crate) fn nearest(&mut self, revision: i64) -> Option<Arc<Root>> {
        let near = |root: &&Arc<Root>| root.revision >= revision;
        let found =
            self.lists.iter().chain(&self.spaced).filter(near).min_by_key(|root| root.revision).cloned();
        if let Some(root) = &found
            && let Some(i) = self.lists.iter().position(|pinned| pinned.revision == root.revision)
        {
            let used = self.lists.remove(i);
            self.lists.extend(used);
        }
        found
    }

    /// Moves the kept roots over to a new compaction point; returns those that nobody may read any more.
    pub(crate) fn compacted(&mut self, compacted: i64, epoch: &Arc<Epoch>) -> Vec<Arc<Root>> {
        let mut gone = Vec::new();
        for roots in [&mut self.spaced, &mut self.lists] {
            for root in std::mem::take(roots) {
                if root.revision >= compacted {
                    roots.push_back(Arc::new(Root {
                        compacted,
                        epoch: Arc::clone(epoch),
                        ..(*root).clone()
                    }));
                }
                gone.push(root);
            }
        }
        gone
    }
}
