//! The ordered, counted index from key to its newest version; copied on write only where somebody else holds a node.
//!
//! A tree is one pointer. Cloning it is O(1) and gives a frozen copy: whoever writes next copies the nodes on its
//! way that the clone still holds, and nothing else. Every inner node knows how many live keys each child has, so a
//! count of any range takes two walks from the root.

use std::sync::Arc;

use super::node::{
    CHILDREN_MAX, Child, Count, ENTRIES_MAX, Entry, Head, Inner, KEY_BYTES_MAX, Leaf, Marks, Node,
};
use crate::types::KeyRange;

/// See the file's comment.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: Child,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { root: Child::new(Node::Leaf(Arc::default())) }
    }
}

impl Tree {
    /// How many entries and live keys there are.
    pub(crate) fn count(&self) -> Count {
        self.root.count
    }

    /// The newest version of `key`, which may be a tombstone.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Entry<'_>> {
        let mut node = &self.root.node;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_for(key)].node,
                Node::Leaf(leaf) => return leaf.keys.find(key).map(|i| leaf.entry(i)),
            }
        }
    }

    /// Puts what `change` makes of the present entry in its place; marks only when it gives some. One walk from the root.
    pub(crate) fn upsert(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<Entry<'_>>) -> (Head, Option<Marks>),
    ) {
        if let Some((separator, right)) = upsert(&mut self.root, key, change) {
            let mut inner = Inner::default();
            let left = std::mem::replace(&mut self.root, Child::new(Node::Leaf(Arc::default())));
            inner.push(&[], left);
            inner.push(&separator, right);
            self.root = Child::new(Node::Inner(Arc::new(inner)));
        }
    }

    /// Takes the entry of `key` out; false when there was none.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        remove(&mut self.root, key);
        // An inner root with a single child is one level too many.
        while let Node::Inner(inner) = &self.root.node {
            if inner.children.len() != 1 {
                break;
            }
            self.root = inner.children[0].clone();
        }
        true
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
                let until = end.as_ref().map_or(self.root.count, |end| self.below(end));
                Count { entries: until.entries - below.entries, live: until.live - below.live }
            }
        }
    }

    /// How much lies below `key`.
    fn below(&self, key: &[u8]) -> Count {
        let mut sum = Count::default();
        let mut node = &self.root.node;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.child_for(key);
                    for child in &inner.children[..at] {
                        sum.add(child.count);
                    }
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    let (Ok(at) | Err(at)) = leaf.keys.search(key);
                    sum.entries += at as u64;
                    sum.live += leaf.live(at);
                    return sum;
                }
            }
        }
    }

    /// The entries of `range`, in order.
    pub(crate) fn iter<'a>(&'a self, range: &'a KeyRange) -> Iter<'a> {
        match range {
            KeyRange::Single(key) => {
                let mut iter = self.iter_from(key);
                iter.leaf =
                    iter.leaf.map(|(leaf, at, _)| (leaf, at, at + usize::from(leaf.keys.is_at(at, key))));
                iter.stack.clear();
                iter
            }
            KeyRange::Span { start, end } => self.iter_between(start, end.as_deref()),
        }
    }

    /// The entries at or above `start`, in order.
    pub(crate) fn iter_from(&self, start: &[u8]) -> Iter<'_> {
        self.iter_between(start, None)
    }

    /// The entries at or above `start` and below `end`, in order.
    pub(crate) fn iter_between<'a>(&'a self, start: &[u8], end: Option<&'a [u8]>) -> Iter<'a> {
        let mut iter = Iter { stack: Vec::new(), leaf: None, end };
        let mut node = &self.root.node;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.child_for(start);
                    iter.stack.push((inner, at + 1));
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    let (Ok(at) | Err(at)) = leaf.keys.search(start);
                    iter.leaf = Some((leaf, at, iter.until(leaf)));
                    return iter;
                }
            }
        }
    }

    /// The entries below `end` (all, when there is none), the greatest first.
    pub(crate) fn iter_back_from(&self, end: Option<&[u8]>) -> IterBack<'_> {
        let mut iter = IterBack { stack: Vec::new(), leaf: None };
        let mut node = &self.root.node;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = end.map_or(inner.children.len() - 1, |end| inner.child_for(end));
                    iter.stack.push((inner, at));
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    let at = end.map_or(leaf.len(), |end| match leaf.keys.search(end) {
                        Ok(at) | Err(at) => at,
                    });
                    iter.leaf = Some((leaf, at));
                    return iter;
                }
            }
        }
    }

    /// Builds a tree from entries in ascending order.
    pub(crate) fn builder() -> Builder {
        Builder { leaf: Leaf::default(), leaves: Vec::new(), separators: Vec::new() }
    }

    /// Takes the tree apart, at most `budget` nodes now; what is left is in `loose`.
    pub(crate) fn dismantle(loose: &mut Vec<Tree>, budget: usize) -> usize {
        let mut nodes = 0;
        while nodes < budget {
            let Some(tree) = loose.pop() else { break };
            nodes += 1;
            if let Node::Inner(inner) = tree.root.node
                && let Some(inner) = Arc::into_inner(inner)
            {
                loose.extend(inner.children.into_iter().map(|root| Tree { root }));
            }
        }
        nodes
    }
}

/// Returns the new right neighbour, when `child` had to be split.
fn upsert(
    child: &mut Child,
    key: &[u8],
    change: impl FnOnce(Option<Entry<'_>>) -> (Head, Option<Marks>),
) -> Option<(Vec<u8>, Child)> {
    let at_end = match &mut child.node {
        Node::Leaf(leaf) => {
            let leaf = Arc::make_mut(leaf);
            let at_end = match leaf.keys.find(key).map_or_else(|| leaf.keys.search(key), Ok) {
                Ok(i) => {
                    let (head, marks) = change(Some(leaf.entry(i)));
                    leaf.set(i, head, marks);
                    false
                }
                Err(i) => {
                    let (head, marks) = change(None);
                    leaf.insert(i, key, head, marks);
                    i + 1 == leaf.len()
                }
            };
            child.count = leaf.count();
            at_end
        }
        Node::Inner(inner) => {
            let inner = inner_mut(inner);
            let at = inner.child_for(key);
            let below = &mut inner.children[at];
            child.count.subtract(below.count);
            let split = upsert(below, key, change);
            child.count.add(below.count);
            let (separator, right) = split?;
            child.count.add(right.count);
            inner.insert(at + 1, &separator, right);
            at + 2 == inner.children.len()
        }
    };
    let (separator, right) = child.node.split(at_end)?;
    child.count.subtract(right.count);
    Some((separator, right))
}

/// The node to change: itself, or a copy when somebody else holds it. A copy counts up the handles of all children, one locked
/// step after the other; looking at the counts first lets memory bring them side by side.
fn inner_mut(inner: &mut Arc<Inner>) -> &mut Inner {
    if Arc::strong_count(inner) > 1 {
        let handles = |child: &Child| match &child.node {
            Node::Leaf(leaf) => Arc::strong_count(leaf),
            Node::Inner(inner) => Arc::strong_count(inner),
        };
        std::hint::black_box(inner.children.iter().map(handles).sum::<usize>());
    }
    Arc::make_mut(inner)
}

/// Removes `key`, which is there.
fn remove(child: &mut Child, key: &[u8]) {
    match &mut child.node {
        Node::Leaf(leaf) => {
            let leaf = Arc::make_mut(leaf);
            if let Ok(i) = leaf.keys.search(key) {
                leaf.remove(i);
            }
            child.count = leaf.count();
        }
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            let at = inner.child_for(key);
            let below = &mut inner.children[at];
            child.count.subtract(below.count);
            remove(below, key);
            child.count.add(below.count);
            tidy(inner, at);
        }
    }
}

/// Merges child `at`, which has just lost something, with a neighbour when both are small.
fn tidy(inner: &mut Inner, at: usize) {
    if inner.children[at].node.len() == 0 && inner.children.len() > 1 {
        inner.remove(at);
        return;
    }
    for left in [at.wrapping_sub(1), at] {
        if left == usize::MAX || left + 1 >= inner.children.len() {
            continue;
        }
        let right = left + 1;
        if inner.children[left].node.fits_with(&inner.children[right].node) {
            let separator = inner.separators.get(left).to_vec();
            let gone = inner.remove(right);
            inner.children[left].node.merge(&gone.node, &separator);
            inner.children[left].count.add(gone.count);
            return;
        }
    }
}

/// So many leaves are brought near together.
const LEAVES_AHEAD: usize = 8;

/// Looks at the leaves that come next, all of them before any is used: memory brings side by side what would be waited for piece by
/// piece.
fn look_ahead(children: &[Child]) {
    let leaves = || {
        children.iter().take(LEAVES_AHEAD).filter_map(|child| match &child.node {
            Node::Leaf(leaf) => Some(leaf),
            Node::Inner(_) => None,
        })
    };
    std::hint::black_box(leaves().map(|leaf| leaf.glance()).sum::<u64>());
}

/// Entries in ascending order.
pub(crate) struct Iter<'a> {
    /// Inner nodes above the leaf and the child to visit next in each.
    stack: Vec<(&'a Inner, usize)>,
    /// The leaf, the entry to go on with and the one to stop at.
    leaf: Option<(&'a Leaf, usize, usize)>,
    end: Option<&'a [u8]>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], Entry<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (leaf, at, until) = self.leaf.as_mut()?;
            if at < until {
                *at += 1;
                return Some((leaf.keys.get(*at - 1), leaf.entry(*at - 1)));
            }
            // A leaf that was not gone through to its end was the last.
            self.leaf = if *until < leaf.len() { None } else { self.next_leaf() };
        }
    }
}

impl<'a> Iter<'a> {
    /// The first entry of a leaf that is not wanted any more; only in the last leaf is there a search.
    fn until(&self, leaf: &Leaf) -> usize {
        let last = || leaf.len().checked_sub(1).map(|last| leaf.keys.get(last));
        match self.end {
            Some(end) if last().is_some_and(|last| last >= end) => {
                let (Ok(at) | Err(at)) = leaf.keys.search(end);
                at
            }
            _ => leaf.len(),
        }
    }

    fn next_leaf(&mut self) -> Option<(&'a Leaf, usize, usize)> {
        loop {
            let (inner, at) = self.stack.last_mut()?;
            match inner.children.get(*at) {
                None => {
                    self.stack.pop();
                }
                Some(child) => {
                    if *at % LEAVES_AHEAD == 0 {
                        look_ahead(&inner.children[*at..]);
                    }
                    *at += 1;
                    match &child.node {
                        Node::Leaf(leaf) => return Some((leaf, 0, self.until(leaf))),
                        Node::Inner(inner) => self.stack.push((inner, 0)),
                    }
                }
            }
        }
    }
}

/// Entries in descending order.
pub(crate) struct IterBack<'a> {
    /// Inner nodes above the leaf and the number of children not yet visited in each.
    stack: Vec<(&'a Inner, usize)>,
    leaf: Option<(&'a Leaf, usize)>,
}

impl<'a> Iterator for IterBack<'a> {
    type Item = (&'a [u8], Entry<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (leaf, left) = self.leaf.as_mut()?;
            if *left > 0 {
                *left -= 1;
                return Some((leaf.keys.get(*left), leaf.entry(*left)));
            }
            self.leaf = self.previous_leaf();
        }
    }
}

impl<'a> IterBack<'a> {
    fn previous_leaf(&mut self) -> Option<(&'a Leaf, usize)> {
        loop {
            let (inner, left) = self.stack.last_mut()?;
            if *left == 0 {
                self.stack.pop();
                continue;
            }
            *left -= 1;
            match &inner.children[*left].node {
                Node::Leaf(leaf) => return Some((leaf, leaf.len())),
                Node::Inner(inner) => self.stack.push((inner, inner.children.len())),
            }
        }
    }
}

/// Packs ascending entries into full nodes.
pub(crate) struct Builder {
    leaf: Leaf,
    leaves: Vec<Child>,
    separators: Vec<Vec<u8>>,
}

impl Builder {
    /// Adds an entry; its key is greater than all before.
    pub(crate) fn push(&mut self, key: &[u8], head: Head, marks: Option<Marks>) {
        // A little room is left: the first insertions need not split.
        const FULL: usize = ENTRIES_MAX - 4;
        if self.leaf.len() >= FULL || self.leaf.keys.byte_len() >= KEY_BYTES_MAX / 2 {
            self.finish_leaf();
        }
        self.leaf.push(key, head, marks);
    }

    fn finish_leaf(&mut self) {
        let mut leaf = std::mem::take(&mut self.leaf);
        Arc::make_mut(&mut leaf.keys).finish();
        self.separators.push(leaf.keys.get(0).to_vec());
        self.leaves.push(Child::new(Node::Leaf(Arc::new(leaf))));
    }

    /// The tree of all entries.
    pub(crate) fn finish(mut self) -> Tree {
        if self.leaf.len() > 0 {
            self.finish_leaf();
        }
        let (mut level, mut separators) = (self.leaves, self.separators);
        while level.len() > 1 {
            let mut nodes = level.into_iter().zip(separators).peekable();
            (level, separators) = (Vec::new(), Vec::new());
            while nodes.peek().is_some() {
                let mut inner = Inner::default();
                let mut first = None;
                for (child, separator) in nodes.by_ref().take(CHILDREN_MAX - 2) {
                    inner.push(&separator, child);
                    first.get_or_insert(separator);
                }
                Arc::make_mut(&mut inner.separators).finish();
                separators.push(first.unwrap_or_default());
                level.push(Child::new(Node::Inner(Arc::new(inner))));
            }
        }
        level.pop().map_or_else(Tree::default, |root| Tree { root })
    }
}
