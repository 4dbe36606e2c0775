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
    /// That of the compaction point in force: all roots kept here are of it, so that none holds compaction up.
    epoch: Arc<Epoch>,
}

impl Ring {
    pub(crate) fn new(spaced_max: usize, spacing: i64, lists_max: usize, epoch: Arc<Epoch>) -> Ring {
        Ring { spaced: VecDeque::new(), spaced_max, spacing, lists: VecDeque::new(), lists_max, epoch }
    }

    /// The root as one of the compaction point in force; `None` when that forbids to read it.
    fn renewed(&self, root: &Arc<Root>) -> Option<Arc<Root>> {
        if Arc::ptr_eq(&root.epoch, &self.epoch) {
            return Some(Arc::clone(root));
        }
        let compacted = self.epoch.compacted;
        let renewed = || Root { compacted, epoch: Arc::clone(&self.epoch), ..Root::clone(root) };
        (root.revision >= compacted).then(|| Arc::new(renewed()))
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
        // The list may have begun before a compaction that is in force by now.
        self.lists.extend(self.renewed(root));
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
    pub(crate) fn compacted(&mut self, epoch: &Arc<Epoch>) -> Vec<Arc<Root>> {
        self.epoch = Arc::clone(epoch);
        let (spaced, lists) = (std::mem::take(&mut self.spaced), std::mem::take(&mut self.lists));
        self.spaced = spaced.iter().filter_map(|root| self.renewed(root)).collect();
        self.lists = lists.iter().filter_map(|root| self.renewed(root)).collect();
        spaced.into_iter().chain(lists).collect()
    }
}
