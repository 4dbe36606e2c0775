//! The ordered, counted index from key to its newest version; copied on write only where somebody may still read.
//!
//! There is one [`Tree`], for the writer. Freezing it is O(1) and gives a [`Frozen`] that never changes: whoever writes next copies
//! the nodes on its way that are frozen, and nothing else. Every inner node knows how many live keys each child has, so a
//! count of any range takes two walks from the root. What the two share is reading: [`Nodes`].

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::entry::Entry;
use super::iter::{Iter, IterBack};
use super::memory::{Arena, Memory};
use super::node::{Child, Count, Leaf};
use crate::types::KeyRange;

/// Nodes that can be read: of a tree that nobody changes as long as they are borrowed.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(super) root: Child,
    /// The root's level; leaves are at 0.
    pub(super) height: u32,
}

/// The tree that is being written.
pub(crate) struct Tree {
    pub(super) nodes: Nodes,
    pub(super) memory: Memory,
    /// The inner nodes a change has passed, and which of their children was next.
    pub(super) path: Vec<(*mut Child, usize)>,
}

// SAFETY: `path` is of no use between two changes; everything else is sent and shared as its parts allow.
unsafe impl Send for Tree {}
// SAFETY: as above; whoever shares a tree can only read it, and freeze it under a lock.
unsafe impl Sync for Tree {}

/// A tree as it was when it was frozen.
#[derive(Clone)]
pub(crate) struct Frozen(Arc<Held>);

struct Held {
    nodes: Nodes,
    generation: u64,
    arena: Arc<Arena>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.arena.released.push(self.generation);
    }
}

impl Deref for Tree {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.nodes
    }
}

impl Deref for Frozen {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.0.nodes
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Default for Tree {
    fn default() -> Tree {
        let mut memory = Memory::default();
        let root = Child::empty(&mut memory);
        Tree { nodes: Nodes { root, height: 0 }, memory, path: Vec::new() }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.memory.leave(self.nodes.root, self.nodes.height);
    }
}

impl Tree {
    /// The tree as it is now; it never changes.
    pub(crate) fn freeze(&self) -> Frozen {
        let nodes = Nodes { root: self.nodes.root, height: self.nodes.height };
        let arena = Arc::clone(&self.memory.arena);
        Frozen(Arc::new(Held { nodes, generation: self.memory.freeze(), arena }))
    }

    /// Gives back the memory of up to `budget` nodes that only frozen trees had which nobody reads any more; whether there are more.
    pub(crate) fn settle(&mut self, budget: usize) -> bool {
        self.memory.settle(budget)
    }
}

// Blocks below read what a child leads to.
// SAFETY for all of them: nodes are reached through a `Tree` or a `Frozen` alone, and `&self` borrows that. A frozen one holds its
// generation, so nothing it reaches is given back, and what it reaches was born before it was frozen, so nothing of it is changed. A
// tree's own writer needs `&mut` to change anything.
impl Nodes {
    /// How many entries and live keys there are.
    pub(crate) fn count(&self) -> Count {
        let mut sum = Count::default();
        sum.add(&self.root);
        sum
    }

    /// The newest version of `key`, which may be a tombstone.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<Entry<'_>> {
        let leaf = self.leaf_for(key);
        // While the tags are waited for, so is what they are about to point at.
        leaf.expect_places();
        // SAFETY: see above.
        let (keys, leaf) = unsafe { (leaf.keys(), leaf.leaf()) };
        keys.find(key).map(|i| leaf.entry(i))
    }

    /// The leaf that has `key` if any has.
    #[inline]
    fn leaf_for(&self, key: &[u8]) -> &Child {
        let mut child = &self.root;
        for _ in 0..self.height {
            // SAFETY: see above.
            child = unsafe { &child.children()[child.keys().child_for(key)] };
            child.expect_search();
        }
        child
    }

    /// How many entries and live keys lie in `range`. O(log n).
    pub(crate) fn count_in(&self, range: &KeyRange) -> Count {
        match range {
            KeyRange::Single(key) => self
                .get(key)
                .map_or(Count::default(), |entry| Count { entries: 1, live: u64::from(entry.is_live()) }),
            _ if range.is_empty() => Count::default(),
            KeyRange::Span { start, end } => {
                let below = self.below(start);
                let until = end.as_ref().map_or(self.count(), |end| self.below(end));
                Count { entries: until.entries - below.entries, live: until.live - below.live }
            }
        }
    }

    /// How much lies below `key`.
    fn below(&self, key: &[u8]) -> Count {
        let mut sum = Count::default();
        let mut child = &self.root;
        for _ in 0..self.height {
            // SAFETY: see above.
            let (keys, children) = unsafe { (child.keys(), child.children()) };
            let at = keys.child_for(key);
            children[..at].iter().for_each(|child| sum.add(child));
            child = &children[at];
        }
        // SAFETY: see above.
        let (keys, leaf): (_, &Leaf) = unsafe { (child.keys(), child.leaf()) };
        let (Ok(at) | Err(at)) = keys.search(key);
        sum.entries += at as u64;
        sum.live += leaf.live(0, at);
        sum
    }

    /// The entries of `range`, in order.
    pub(crate) fn iter<'a>(&'a self, range: &'a KeyRange) -> Iter<'a> {
        match range {
            KeyRange::Single(key) => Iter::single(self, key),
            KeyRange::Span { start, end } => Iter::between(self, start, end.as_deref()),
        }
    }

    /// The entries at or above `start`, in order.
    pub(crate) fn iter_from(&self, start: &[u8]) -> Iter<'_> {
        Iter::between(self, start, None)
    }

    /// The entries below `end` (all, when there is none), the greatest first.
    pub(crate) fn iter_back_from(&self, end: Option<&[u8]>) -> IterBack<'_> {
        IterBack::below(self, end)
    }
}
