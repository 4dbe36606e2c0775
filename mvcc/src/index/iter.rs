//! Walks over the entries, upwards and downwards.

use ketch_wal::Position;

use super::entry::Entry;
use super::keys::Keys;
use super::node::{Child, Leaf};
use super::tree::Nodes;

/// A leaf and its keys.
#[derive(Clone, Copy)]
struct Open<'a> {
    keys: Keys<'a>,
    leaf: &'a Leaf,
}

impl<'a> Open<'a> {
    fn of(child: &'a Child) -> Open<'a> {
        // SAFETY: the child is borrowed from `Nodes`, so nothing it leads to is given back or changed meanwhile; it is at level 0.
        unsafe { Open { keys: child.keys(), leaf: child.leaf() } }
    }

    fn entry(self, i: usize) -> (&'a [u8], Entry<'a>) {
        (self.keys.get(i), self.leaf.entry(i))
    }

    fn search(self, key: &[u8]) -> usize {
        let (Ok(at) | Err(at)) = self.keys.search(key);
        at
    }
}

fn children(child: &Child) -> &[Child] {
    // SAFETY: as in `Open::of`; it is an inner node.
    unsafe { child.children() }
}

fn child_for(child: &Child, key: &[u8]) -> usize {
    // SAFETY: as in `Open::of`.
    unsafe { child.keys() }.child_for(key)
}

/// So many leaves are brought near together.
const LEAVES_AHEAD: usize = 8;

/// Asks for the leaves that come next, all of them before any is used: memory brings side by side what would be waited for piece by
/// piece.
fn look_ahead(leaves: &[Child], places_only: bool) {
    for leaf in leaves.iter().take(LEAVES_AHEAD) {
        if places_only {
            leaf.keys.expect_len();
            leaf.expect_places();
        } else {
            leaf.keys.expect_walk();
            leaf.expect_leaf();
        }
    }
}

/// Some entries of one leaf.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    leaf: Open<'a>,
    at: usize,
    until: usize,
}

impl<'a> Run<'a> {
    pub(crate) fn len(&self) -> usize {
        self.until - self.at
    }

    /// Whether entry `i` is a live key, and if so where its record lies, as far as the index knows.
    #[inline]
    pub(crate) fn live_place(&self, i: usize) -> Option<Option<Position>> {
        self.leaf.leaf.live_place(self.at + i)
    }

    pub(crate) fn entry(&self, i: usize) -> Entry<'a> {
        self.leaf.leaf.entry(self.at + i)
    }
}

/// Entries in ascending order.
pub(crate) struct Iter<'a> {
    /// The root's level.
    height: u32,
    /// Children of the nodes above the leaf, and the one to visit next in each.
    stack: Vec<(&'a [Child], usize)>,
    /// The leaf, the entry to go on with and the one to stop at.
    leaf: Option<(Open<'a>, usize, usize)>,
    end: Option<&'a [u8]>,
    /// Only places will be looked at, mostly.
    places_only: bool,
}

impl<'a> Iter<'a> {
    /// The entry of `key`, if there is one.
    pub(super) fn single(nodes: &'a Nodes, key: &'a [u8]) -> Iter<'a> {
        let mut iter = Iter::between(nodes, key, None);
        iter.leaf = iter.leaf.map(|(leaf, at, _)| (leaf, at, at + usize::from(leaf.keys.is_at(at, key))));
        iter.stack.clear();
        iter
    }

    /// The entries at or above `start` and below `end`.
    pub(super) fn between(nodes: &'a Nodes, start: &[u8], end: Option<&'a [u8]>) -> Iter<'a> {
        let stack = Vec::with_capacity(nodes.height as usize);
        let mut iter = Iter { height: nodes.height, stack, leaf: None, end, places_only: false };
        let mut child = &nodes.root;
        for _ in 0..nodes.height {
            let at = child_for(child, start);
            let children = children(child);
            iter.stack.push((children, at + 1));
            child = &children[at];
        }
        let leaf = Open::of(child);
        iter.leaf = Some((leaf, leaf.search(start), iter.until(leaf)));
        iter
    }

    /// The first entry of a leaf that is not wanted any more; only in the last leaf is there a search.
    fn until(&self, leaf: Open<'_>) -> usize {
        let len = leaf.keys.len();
        match self.end {
            Some(end) if len > 0 && leaf.keys.get(len - 1) >= end => leaf.search(end),
            _ => len,
        }
    }

    /// The entries that follow, as many of them as are in one leaf.
    pub(crate) fn next_run(&mut self) -> Option<Run<'a>> {
        self.places_only = true;
        let (leaf, at, until) = self.leaf?;
        self.leaf = if until < leaf.keys.len() { None } else { self.next_leaf() };
        // The end may lie before the beginning.
        Some(Run { leaf, at, until: until.max(at) })
    }

    fn next_leaf(&mut self) -> Option<(Open<'a>, usize, usize)> {
        loop {
            let leaves = self.stack.len() == self.height as usize;
            let (children_, at) = self.stack.last_mut()?;
            let Some(child) = children_.get(*at) else {
                self.stack.pop();
                continue;
            };
            if leaves && *at % LEAVES_AHEAD == 0 {
                look_ahead(&children_[*at..], self.places_only);
            }
            *at += 1;
            if leaves {
                let leaf = Open::of(child);
                return Some((leaf, 0, self.until(leaf)));
            }
            self.stack.push((children(child), 0));
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], Entry<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (leaf, at, until) = self.leaf.as_mut()?;
            if at < until {
                *at += 1;
                return Some(leaf.entry(*at - 1));
            }
            // A leaf that was not gone through to its end was the last.
            self.leaf = if *until < leaf.keys.len() { None } else { self.next_leaf() };
        }
    }
}

/// Entries in descending order.
pub(crate) struct IterBack<'a> {
    /// The root's level.
    height: u32,
    /// Children of the nodes above the leaf, and how many of them are not yet visited.
    stack: Vec<(&'a [Child], usize)>,
    leaf: Option<(Open<'a>, usize)>,
}

impl<'a> IterBack<'a> {
    /// The entries below `end`; all, when there is none.
    pub(super) fn below(nodes: &'a Nodes, end: Option<&[u8]>) -> IterBack<'a> {
        let mut stack = Vec::with_capacity(nodes.height as usize);
        let mut child = &nodes.root;
        for _ in 0..nodes.height {
            let children = children(child);
            let at = end.map_or(children.len() - 1, |end| child_for(child, end));
            stack.push((children, at));
            child = &children[at];
        }
        let leaf = Open::of(child);
        let at = end.map_or(leaf.keys.len(), |end| leaf.search(end));
        IterBack { height: nodes.height, stack, leaf: Some((leaf, at)) }
    }

    fn previous_leaf(&mut self) -> Option<(Open<'a>, usize)> {
        loop {
            let leaves = self.stack.len() == self.height as usize;
            let (children_, left) = self.stack.last_mut()?;
            let Some(at) = left.checked_sub(1) else {
                self.stack.pop();
                continue;
            };
            *left = at;
            let child = &children_[at];
            if leaves {
                let leaf = Open::of(child);
                return Some((leaf, leaf.keys.len()));
            }
            let children = children(child);
            self.stack.push((children, children.len()));
        }
    }
}

impl<'a> Iterator for IterBack<'a> {
    type Item = (&'a [u8], Entry<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (leaf, left) = self.leaf.as_mut()?;
            if *left > 0 {
                *left -= 1;
                return Some(leaf.entry(*left));
            }
            self.leaf = self.previous_leaf();
        }
    }
}
