//! The nodes of the index and what happens inside one of them.
//!
//! Copying a node is what a write costs, so a node is laid out for being copied: a leaf's numbers stand in arrays of one
//! fixed-size allocation, while its keys and the milestones of its histories, which an overwrite does not change, are
//! shared by all copies.

use std::ops::Deref;
use std::sync::Arc;

use super::keys::{Keys, SLOTS};
use super::marks::Mark;
use crate::revision::Revision;

/// The most entries of a leaf.
pub(super) const ENTRIES_MAX: usize = 32;
/// The most children of an inner node.
pub(super) const CHILDREN_MAX: usize = 16;
/// A node with more key bytes than this is split even when it has room, so that long keys do not make copies slow.
pub(super) const KEY_BYTES_MAX: usize = 8 << 10;

/// What the index knows of a key: its newest version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The newest version.
    pub(crate) revision: Revision,
    /// Versions since the newest mark, or since the beginning.
    pub(crate) since_mark: u8,
    /// Where the present life began; 0 in a tombstone.
    pub(crate) create_revision: i64,
    /// Puts of the present life; 0 in a tombstone. Below 2^55.
    pub(crate) version: i64,
}

impl Head {
    /// Whether the key exists; otherwise its newest version is a tombstone.
    pub(crate) fn is_live(&self) -> bool {
        self.version > 0
    }
}

/// Milestones of a key's history.
pub(crate) type Marks = Arc<Mark>;

/// A head and the marks of its older versions, if there are so many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) head: Head,
    pub(crate) marks: Option<&'a Marks>,
}

impl Deref for Entry<'_> {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

/// How many entries a subtree has, and how many of them are live keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) entries: u64,
    pub(crate) live: u64,
}

impl Count {
    pub(super) fn add(&mut self, other: Count) {
        self.entries += other.entries;
        self.live += other.live;
    }

    pub(super) fn subtract(&mut self, other: Count) {
        self.entries -= other.entries;
        self.live -= other.live;
    }
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Arc<Leaf>),
    Inner(Arc<Inner>),
}

/// Small, with everything behind pointers: a copy of an inner node counts up the handles of its children, and finds those that are
/// next to each other in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    pub(super) keys: Arc<Keys>,
    heads: Box<Heads>,
    /// As many as there are entries; none while no key has any.
    marks: Option<Arc<Vec<Option<Marks>>>>,
}

/// Entry `i` is spread over the arrays.
#[derive(Clone, Debug)]
struct Heads {
    mains: [i64; SLOTS],
    creates: [i64; SLOTS],
    /// The version, and in the lowest byte the versions since the newest mark.
    versions: [i64; SLOTS],
    subs: [u32; SLOTS],
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inner {
    /// `separators[i]` is above every key of child `i` and at or below every key of child `i + 1`.
    pub(super) separators: Arc<Keys>,
    pub(super) children: Vec<Child>,
}

#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) count: Count,
    pub(super) node: Node,
}

impl Default for Heads {
    fn default() -> Heads {
        Heads { mains: [0; SLOTS], creates: [0; SLOTS], versions: [0; SLOTS], subs: [0; SLOTS] }
    }
}

impl Leaf {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Reads a little of each cache line that a walk over the entries needs.
    pub(super) fn glance(&self) -> u64 {
        let heads = &*self.heads;
        let lines = |array: &[i64; SLOTS]| array.iter().step_by(8).fold(0, |sum, &word| sum ^ word);
        let words = lines(&heads.mains) ^ lines(&heads.creates) ^ lines(&heads.versions);
        words as u64
            ^ heads.subs.iter().step_by(16).fold(0, |sum, &word| sum ^ u64::from(word))
            ^ self.keys.glance()
    }

    pub(super) fn entry(&self, i: usize) -> Entry<'_> {
        let head = Head {
            revision: Revision::new(self.heads.mains[i], self.heads.subs[i]),
            since_mark: self.heads.versions[i] as u8,
            create_revision: self.heads.creates[i],
            version: self.heads.versions[i] >> 8,
        };
        Entry { head, marks: self.marks.as_ref().and_then(|marks| marks.get(i)?.as_ref()) }
    }

    fn set_head(&mut self, i: usize, head: Head) {
        self.heads.mains[i] = head.revision.main;
        self.heads.creates[i] = head.create_revision;
        self.heads.versions[i] = head.version << 8 | i64::from(head.since_mark);
        self.heads.subs[i] = head.revision.sub;
    }

    /// Puts another head in place; and other marks, when there are some.
    pub(super) fn set(&mut self, i: usize, head: Head, marks: Option<Marks>) {
        self.set_head(i, head);
        if let Some(marks) = marks {
            let all = self.marks.get_or_insert_with(|| Arc::new(vec![None; self.keys.len()]));
            Arc::make_mut(all)[i] = Some(marks);
        }
    }

    pub(super) fn insert(&mut self, i: usize, key: &[u8], head: Head, marks: Option<Marks>) {
        let len = self.len();
        Arc::make_mut(&mut self.keys).insert(i, key);
        self.heads.mains.copy_within(i..len, i + 1);
        self.heads.creates.copy_within(i..len, i + 1);
        self.heads.versions.copy_within(i..len, i + 1);
        self.heads.subs.copy_within(i..len, i + 1);
        if let Some(all) = &mut self.marks {
            Arc::make_mut(all).insert(i, None);
        }
        self.set(i, head, marks);
    }

    /// Appends an entry whose key follows all others.
    pub(super) fn push(&mut self, key: &[u8], head: Head, marks: Option<Marks>) {
        let i = self.len();
        Arc::make_mut(&mut self.keys).push(key);
        if let Some(all) = &mut self.marks {
            Arc::make_mut(all).push(None);
        }
        self.set(i, head, marks);
    }

    pub(super) fn remove(&mut self, i: usize) {
        let len = self.len();
        Arc::make_mut(&mut self.keys).remove(i);
        self.heads.mains.copy_within(i + 1..len, i);
        self.heads.creates.copy_within(i + 1..len, i);
        self.heads.versions.copy_within(i + 1..len, i);
        self.heads.subs.copy_within(i + 1..len, i);
        if let Some(all) = &mut self.marks {
            Arc::make_mut(all).remove(i);
        }
    }

    /// Moves the entries from number `at` on into a leaf of their own.
    fn split_off(&mut self, at: usize) -> Leaf {
        let mut right = Leaf::default();
        for i in at..self.len() {
            right.set_head(i - at, self.entry(i).head);
        }
        if let Some(all) = &mut self.marks {
            right.marks = Some(Arc::new(Arc::make_mut(all).split_off(at)));
        }
        right.keys = Arc::new(Arc::make_mut(&mut self.keys).split_off(at));
        right
    }

    /// How many of the first `until` entries are live.
    pub(super) fn live(&self, until: usize) -> u64 {
        self.heads.versions[..until].iter().filter(|&&version| version >> 8 > 0).count() as u64
    }

    pub(super) fn count(&self) -> Count {
        Count { entries: self.len() as u64, live: self.live(self.len()) }
    }
}

impl Inner {
    fn count(&self) -> Count {
        let mut sum = Count::default();
        for child in &self.children {
            sum.add(child.count);
        }
        sum
    }

    /// The child that holds `key` if anyone does.
    pub(super) fn child_for(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(i) => i + 1,
            Err(i) => i,
        }
    }

    /// Inserts child number `i`, which is not the first.
    pub(super) fn insert(&mut self, i: usize, separator: &[u8], child: Child) {
        Arc::make_mut(&mut self.separators).insert(i - 1, separator);
        self.children.insert(i, child);
    }

    /// Appends a child; what separates the first from the ones before it is of no interest.
    pub(super) fn push(&mut self, separator: &[u8], child: Child) {
        if !self.children.is_empty() {
            Arc::make_mut(&mut self.separators).push(separator);
        }
        self.children.push(child);
    }

    pub(super) fn remove(&mut self, i: usize) -> Child {
        if self.separators.len() > 0 {
            Arc::make_mut(&mut self.separators).remove(i.saturating_sub(1));
        }
        self.children.remove(i)
    }

    /// Moves the children from number `at` on, which is not 0, into a node of their own; returns what separates the two.
    fn split_off(&mut self, at: usize) -> (Vec<u8>, Inner) {
        let left = Arc::make_mut(&mut self.separators);
        let mut separators = left.split_off(at - 1);
        let separator = separators.get(0).to_vec();
        separators.remove(0);
        (separator, Inner { separators: Arc::new(separators), children: self.children.split_off(at) })
    }
}

impl Child {
    pub(super) fn new(node: Node) -> Child {
        let count = match &node {
            Node::Leaf(leaf) => leaf.count(),
            Node::Inner(inner) => inner.count(),
        };
        Child { count, node }
    }
}

impl Node {
    fn keys(&self) -> &Keys {
        match self {
            Node::Leaf(leaf) => &leaf.keys,
            Node::Inner(inner) => &inner.separators,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    fn max(&self) -> usize {
        match self {
            Node::Leaf(_) => ENTRIES_MAX,
            Node::Inner(_) => CHILDREN_MAX,
        }
    }

    /// Splits when over-full. `at_end`: the last insertion was at the end, so keys probably come in order and the
    /// left part stays full. Returns the right part and its separator.
    pub(super) fn split(&mut self, at_end: bool) -> Option<(Vec<u8>, Child)> {
        let long = self.keys().byte_len() > KEY_BYTES_MAX && self.len() >= 4;
        if self.len() <= self.max() && !long {
            return None;
        }
        let at = if at_end { self.len() - 1 } else { self.len() / 2 };
        Some(match self {
            Node::Leaf(leaf) => {
                let right = Arc::make_mut(leaf).split_off(at);
                (right.keys.get(0).to_vec(), Child::new(Node::Leaf(Arc::new(right))))
            }
            Node::Inner(inner) => {
                let (separator, right) = Arc::make_mut(inner).split_off(at);
                (separator, Child::new(Node::Inner(Arc::new(right))))
            }
        })
    }

    /// Whether `self` and its right neighbour are small enough to become one.
    pub(super) fn fits_with(&self, right: &Node) -> bool {
        let len = self.len() + right.len();
        let bytes = self.keys().byte_len() + right.keys().byte_len();
        len <= self.max() * 3 / 4 && bytes <= KEY_BYTES_MAX / 2
    }

    /// Appends the right neighbour, which is of the same level.
    pub(super) fn merge(&mut self, right: &Node, separator: &[u8]) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let left = Arc::make_mut(left);
                for i in 0..right.len() {
                    let entry = right.entry(i);
                    left.push(right.keys.get(i), entry.head, entry.marks.cloned());
                }
            }
            (Node::Inner(left), Node::Inner(right)) => {
                let left = Arc::make_mut(left);
                for (i, child) in right.children.iter().enumerate() {
                    left.push(if i == 0 { separator } else { right.separators.get(i - 1) }, child.clone());
                }
            }
            _ => debug_assert!(false, "siblings are of one level"),
        }
    }
}

// What is copied with a leaf is one small chunk for the allocator.
const _: () = assert!(size_of::<Heads>() <= 1008);
