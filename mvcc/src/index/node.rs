//! The nodes of the index and what happens inside one of them.

use std::sync::Arc;

use super::keys::Keys;
use super::marks::Mark;
use crate::revision::Revision;

/// The most entries of a leaf.
pub(super) const LEAF_MAX: usize = 32;
/// The most children of an inner node.
pub(super) const INNER_MAX: usize = 16;
/// A node with more key bytes than this is split even when it has room, so that long keys do not make copies slow.
pub(super) const KEY_BYTES_MAX: usize = 8 << 10;

/// What the index knows of a key: its newest version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The newest version.
    pub(crate) revision: Revision,
    /// Versions since the newest mark, or since the beginning.
    pub(crate) since_mark: u32,
    /// Where the present life began; 0 in a tombstone.
    pub(crate) create_revision: i64,
    /// Puts of the present life; 0 in a tombstone.
    pub(crate) version: i64,
    /// Marks of older versions.
    pub(crate) marks: Option<Marks>,
}

/// A key's marks, compared by content.
#[derive(Clone, Debug)]
pub(crate) struct Marks(pub(crate) Arc<Mark>);

impl PartialEq for Marks {
    fn eq(&self, other: &Marks) -> bool {
        self.0.above(0) == other.0.above(0)
    }
}

impl Eq for Marks {}

impl Head {
    /// Whether the key exists; otherwise its newest version is a tombstone.
    pub(crate) fn is_live(&self) -> bool {
        self.version > 0
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
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    pub(super) keys: Keys,
    pub(super) heads: Vec<Head>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inner {
    /// `separators[i]` is at or below every key of child `i` and above every key of child `i - 1`; the first is
    /// never compared.
    pub(super) separators: Keys,
    pub(super) children: Vec<Child>,
}

#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) count: Count,
    pub(super) node: Arc<Node>,
}

impl Child {
    pub(super) fn new(node: Node) -> Child {
        Child { count: node.count(), node: Arc::new(node) }
    }
}

impl Node {
    pub(super) fn count(&self) -> Count {
        match self {
            Node::Leaf(leaf) => leaf.count(),
            Node::Inner(inner) => inner.count(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.heads.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    fn max(&self) -> usize {
        match self {
            Node::Leaf(_) => LEAF_MAX,
            Node::Inner(_) => INNER_MAX,
        }
    }

    fn key_bytes(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.keys.byte_len(),
            Node::Inner(inner) => inner.separators.byte_len(),
        }
    }

    /// Splits when over-full. `at_end`: the last insertion was at the end, so keys probably come in order and the
    /// left part stays full. Returns the right part and its separator.
    pub(super) fn split(&mut self, at_end: bool) -> Option<(Vec<u8>, Node)> {
        let long = self.key_bytes() > KEY_BYTES_MAX && self.len() >= 4;
        if self.len() <= self.max() && !long {
            return None;
        }
        let at = if at_end { self.len() - 1 } else { self.len() / 2 };
        Some(match self {
            Node::Leaf(leaf) => {
                let mut keys = leaf.keys.split_off(at);
                let heads = leaf.heads.split_off(at);
                leaf.keys.shrink();
                leaf.heads.shrink_to_fit();
                keys.shrink();
                (keys.get(0).to_vec(), Node::Leaf(Leaf { keys, heads }))
            }
            Node::Inner(inner) => {
                let separators = inner.separators.split_off(at);
                let children = inner.children.split_off(at);
                (separators.get(0).to_vec(), Node::Inner(Inner { separators, children }))
            }
        })
    }

    /// Whether `self` and its right neighbour are small enough to become one.
    pub(super) fn fits_with(&self, right: &Node) -> bool {
        let len = self.len() + right.len();
        len <= self.max() * 3 / 4 && self.key_bytes() + right.key_bytes() <= KEY_BYTES_MAX / 2
    }

    /// Appends the right neighbour, which is of the same level.
    pub(super) fn merge(&mut self, right: &Node, separator: &[u8]) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.keys.append(&right.keys);
                left.heads.extend_from_slice(&right.heads);
            }
            (Node::Inner(left), Node::Inner(right)) => {
                left.separators.push(separator);
                for i in 1..right.separators.len() {
                    left.separators.push(right.separators.get(i));
                }
                left.children.extend_from_slice(&right.children);
            }
            _ => debug_assert!(false, "siblings are of one level"),
        }
    }
}

impl Leaf {
    pub(super) fn count(&self) -> Count {
        let live = self.heads.iter().filter(|head| head.is_live()).count();
        Count { entries: self.heads.len() as u64, live: live as u64 }
    }
}

impl Inner {
    pub(super) fn count(&self) -> Count {
        let mut sum = Count::default();
        for child in &self.children {
            sum.add(child.count);
        }
        sum
    }

    /// The child that holds `key` if anyone does.
    pub(super) fn child_for(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(i) => i,
            Err(i) => i.saturating_sub(1),
        }
    }
}
