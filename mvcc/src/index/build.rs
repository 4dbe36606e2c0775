//! Building a tree from entries in ascending order: full nodes, level by level.

use std::mem;

use super::edit::KEY_BYTES_MAX;
use super::entry::{Head, Marks};
use super::keys::SLOTS;
use super::memory::Memory;
use super::node::{Child, MEMBERS_MAX};
use super::tree::{Nodes, Tree};

/// A little room is left: the first insertions need not split.
const FULL: usize = SLOTS - 4;

/// Packs ascending entries into full nodes.
#[derive(Default)]
pub(crate) struct Builder {
    memory: Memory,
    /// The leaf in the making: its keys one behind the other, where each ends, and the rest.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    heads: Vec<(Head, Option<Marks>)>,
    leaves: Vec<Child>,
    /// The first key of each leaf.
    separators: Vec<Vec<u8>>,
}

impl Builder {
    /// Adds an entry; its key is greater than all before.
    pub(crate) fn push(&mut self, key: &[u8], head: Head, marks: Option<Marks>) {
        if self.heads.len() >= FULL || self.bytes.len() >= KEY_BYTES_MAX / 2 {
            self.finish_leaf();
        }
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        self.heads.push((head, marks));
    }

    fn finish_leaf(&mut self) {
        let (bytes, ends) = (&self.bytes, &self.ends);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let keys = starts.zip(ends).map(|(start, &end)| &bytes[start..end]);
        self.separators.extend(keys.clone().next().map(<[u8]>::to_vec));
        self.leaves.push(Child::leaf_of(&mut self.memory, keys, self.heads.drain(..)));
        self.bytes.clear();
        self.ends.clear();
    }

    /// The tree of all entries.
    pub(crate) fn finish(mut self) -> Tree {
        if !self.heads.is_empty() {
            self.finish_leaf();
        }
        let mut memory = mem::take(&mut self.memory);
        let (mut level, mut separators) = (mem::take(&mut self.leaves), mem::take(&mut self.separators));
        let mut height = 0;
        while level.len() > 1 {
            let per_node = MEMBERS_MAX - 2;
            let nodes = level.chunks(per_node).zip(separators.chunks(per_node));
            // What separates the first child from the ones before it is of no interest in its own node.
            let node = |(children, keys): (&[Child], &[Vec<u8>])| {
                Child::inner_of(&mut memory, keys.iter().skip(1).map(Vec::as_slice), children)
            };
            let above = nodes.map(node).collect();
            separators = separators.into_iter().step_by(per_node).collect();
            (level, height) = (above, height + 1);
        }
        match level.pop() {
            Some(root) => Tree { nodes: Nodes { root, height }, memory, path: Vec::new() },
            None => Tree::default(),
        }
    }
}

/// One that became no tree, because what it was built from turned out to be damaged: marks count holders, the rest goes with the memory.
impl Drop for Builder {
    fn drop(&mut self) {
        for leaf in self.leaves.drain(..) {
            // SAFETY: nobody but this builder has ever had its leaves, each is let go of once, and the memory they lie in goes after this.
            unsafe { leaf.drop_marks(0) };
        }
    }
}
