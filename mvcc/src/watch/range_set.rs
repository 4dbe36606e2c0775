//! Which watchers want a key: single keys by lookup (`singles`), spans by an interval tree.
//!
//! The tree is a treap ordered by (start, end) in which every node knows the greatest end below it, so the spans that hold a
//! key are found in O(log n + found). Priorities are a hash of the span: the shape depends on the content alone.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use super::singles::Singles;
use crate::hash;
use crate::types::KeyRange;

/// A range as watchers hold it: copied out of whatever buffer it came in, in a quarter of the space.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    /// A key, shared by the watcher and the set.
    Single(Arc<[u8]>),
    /// Start and end.
    Span(Box<(Bytes, End)>),
}

impl Want {
    pub(crate) fn new(range: &KeyRange) -> Want {
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        match range {
            KeyRange::Single(key) => Want::Single(Arc::from(&key[..])),
            KeyRange::Span { start, end } => Want::Span(Box::new((copy(start), end.as_ref().map(copy)))),
        }
    }
}

/// Ranges, each with the numbers of those who want it.
#[derive(Debug, Default)]
pub(crate) struct RangeSet {
    singles: Singles,
    spans: Option<Box<Node>>,
    len: usize,
}

/// `None` is the end of the key space: above every key.
pub(crate) type End = Option<Bytes>;

#[derive(Debug)]
struct Node {
    start: Bytes,
    end: End,
    members: Vec<u32>,
    /// The greatest end of this subtree.
    reach: End,
    priority: u64,
    left: Option<Box<Node>>,
    right: Option<Box<Node>>,
}

fn compare_ends(a: &End, b: &End) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Greater,
        (_, None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

impl RangeSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many members there are, each range's counted.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, want: &Want, member: u32) {
        self.len += 1;
        match want {
            Want::Single(key) => self.singles.insert(key, member),
            Want::Span(span) => {
                let (start, end) = &**span;
                let mut seed = hash::bytes(1, start);
                seed = end.as_ref().map_or(seed, |end| hash::bytes(seed, end));
                insert(&mut self.spans, start, end, seed, member);
            }
        }
    }

    /// Takes a member out that was put in with this range.
    pub(crate) fn remove(&mut self, want: &Want, member: u32) {
        let removed = match want {
            Want::Single(key) => self.singles.remove(key, member),
            Want::Span(span) => remove(&mut self.spans, &span.0, &span.1, member),
        };
        self.len -= usize::from(removed);
    }

    /// Calls `found` for every member that wants `key`.
    pub(crate) fn find(&self, key: &[u8], mut found: impl FnMut(u32)) {
        self.singles.find(key, &mut found);
        stab(&self.spans, key, &mut found);
    }
}

fn stab(node: &Option<Box<Node>>, key: &[u8], found: &mut impl FnMut(u32)) {
    let Some(node) = node else { return };
    if node.reach.as_ref().is_some_and(|reach| &reach[..] <= key) {
        return;
    }
    stab(&node.left, key, found);
    if &node.start[..] <= key {
        if node.end.as_ref().is_none_or(|end| key < &end[..]) {
            node.members.iter().for_each(|&member| found(member));
        }
        stab(&node.right, key, found);
    }
}

impl Node {
    fn order(&self, start: &Bytes, end: &End) -> Ordering {
        start.cmp(&self.start).then_with(|| compare_ends(end, &self.end))
    }

    /// Brings `reach` up to date with the children's.
    fn update(&mut self) {
        let mut reach = &self.end;
        for child in [&self.left, &self.right].into_iter().flatten() {
            if compare_ends(&child.reach, reach) == Ordering::Greater {
                reach = &child.reach;
            }
        }
        self.reach = reach.clone();
    }
}

fn insert(slot: &mut Option<Box<Node>>, start: &Bytes, end: &End, priority: u64, member: u32) {
    let Some(node) = slot else {
        let (start, end) = (start.clone(), end.clone());
        let reach = end.clone();
        *slot = Some(Box::new(Node {
            start,
            end,
            members: vec![member],
            reach,
            priority,
            left: None,
            right: None,
        }));
        return;
    };
    match node.order(start, end) {
        Ordering::Equal => node.members.push(member),
        Ordering::Less => {
            insert(&mut node.left, start, end, priority, member);
            if node.left.as_ref().is_some_and(|left| left.priority > node.priority) {
                rotate_right(slot);
            }
        }
        Ordering::Greater => {
            insert(&mut node.right, start, end, priority, member);
            if node.right.as_ref().is_some_and(|right| right.priority > node.priority) {
                rotate_left(slot);
            }
        }
    }
    if let Some(node) = slot {
        node.update();
    }
}

fn rotate_right(slot: &mut Option<Box<Node>>) {
    let Some(mut node) = slot.take() else { return };
    let mut left = node.left.take();
    if let Some(left) = &mut left {
        node.left = left.right.take();
        node.update();
        left.right = Some(node);
        left.update();
    }
    *slot = left;
}

fn rotate_left(slot: &mut Option<Box<Node>>) {
    let Some(mut node) = slot.take() else { return };
    let mut right = node.right.take();
    if let Some(right) = &mut right {
        node.right = right.left.take();
        node.update();
        right.left = Some(node);
        right.update();
    }
    *slot = right;
}

fn remove(slot: &mut Option<Box<Node>>, start: &Bytes, end: &End, member: u32) -> bool {
    let Some(node) = slot else { return false };
    let removed = match node.order(start, end) {
        Ordering::Less => remove(&mut node.left, start, end, member),
        Ordering::Greater => remove(&mut node.right, start, end, member),
        Ordering::Equal => {
            let removed = take_out(&mut node.members, member);
            if node.members.is_empty() {
                *slot = slot.take().and_then(|node| join(node.left, node.right));
            }
            removed
        }
    };
    if let Some(node) = slot {
        node.update();
    }
    removed
}

/// Takes a member out of a list, whose order means nothing. Looked for from the end: a stream that ends takes its watchers out
/// newest first, so that many of one range are not searched through for each of them.
pub(super) fn take_out(members: &mut Vec<u32>, member: u32) -> bool {
    let at = members.iter().rposition(|&other| other == member);
    at.map(|at| members.swap_remove(at)).is_some()
}

/// Joins two trees, all of whose nodes are in order.
fn join(left: Option<Box<Node>>, right: Option<Box<Node>>) -> Option<Box<Node>> {
    let (mut left, mut right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (one, other) => return one.or(other),
    };
    if left.priority > right.priority {
        left.right = join(left.right.take(), Some(right));
        left.update();
        Some(left)
    } else {
        right.left = join(Some(left), right.left.take());
        right.update();
        Some(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_looking_at_every_range() {
        let mut seed = 99u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        let key = |random: &mut dyn FnMut(u64) -> u64| Bytes::from(random(40).to_string().into_bytes());
        let (mut set, mut plain): (RangeSet, Vec<(KeyRange, u32)>) = (RangeSet::default(), Vec::new());
        for member in 0..4000 {
            if random(5) < 2 && !plain.is_empty() {
                let (range, member) = plain.swap_remove(random(plain.len() as u64) as usize);
                set.remove(&Want::new(&range), member);
                set.remove(&Want::new(&range), member);
            } else {
                let range = match random(3) {
                    0 => KeyRange::Single(key(&mut random)),
                    1 => KeyRange::Span { start: key(&mut random), end: None },
                    _ => KeyRange::Span { start: key(&mut random), end: Some(key(&mut random)) },
                };
                set.insert(&Want::new(&range), member);
                plain.push((range, member));
            }
            let key = key(&mut random);
            let mut found = Vec::new();
            set.find(&key, |member| found.push(member));
            found.sort_unstable();
            let mut expected: Vec<u32> =
                plain.iter().filter(|(range, _)| range.contains(&key)).map(|(_, member)| *member).collect();
            expected.sort_unstable();
            assert_eq!(found, expected);
            assert_eq!(set.is_empty(), plain.is_empty());
        }
    }
}
