//! Changes to the tree: the way to a leaf is made the writer's own, then something happens in it.
//!
//! A node that is full is split before anything is put into it, and then the walk begins anew: that is rare, and leaves only one
//! thing to think of at a time.

use ketch_wal::Position;

use super::entry::{Entry, Head, Marks};
use super::keys::SLOTS;
use super::node::{Child, MEMBERS_MAX};
use super::tree::Tree;

/// A node with more key bytes than this is split even when it has room, so that long keys do not make copies slow.
pub(super) const KEY_BYTES_MAX: usize = 8 << 10;

impl Tree {
    /// Puts what `change` makes of the present entry in its place; marks only when it gives some. `place` is where its record lies, or
    /// is going to lie.
    pub(crate) fn upsert(
        &mut self,
        key: &[u8],
        place: Position,
        change: impl FnOnce(Option<Entry<'_>>) -> (Head, Option<Marks>),
    ) {
        self.memory.renew();
        loop {
            let child = self.descend(key);
            // SAFETY: `descend` has made everything on the way the writer's own, and nobody else has it: `self` is borrowed for writing.
            // Keys and entries borrowed here are not used any more when something is changed.
            unsafe {
                let keys = (*child).keys();
                let found = keys.find(key).map_or_else(|| keys.search(key), Ok);
                let i = match found {
                    Ok(i) => {
                        let old = (*child).leaf().entry(i);
                        let was_live = old.is_live();
                        let (head, marks) = change(Some(old));
                        (*child).set(&mut self.memory, i, head, place, marks);
                        let live = i64::from(head.is_live()) - i64::from(was_live);
                        return self.add(child, 0, live);
                    }
                    Err(i) => i,
                };
                let len = keys.len();
                if len == SLOTS || (len >= 4 && keys.byte_len() + key.len() > KEY_BYTES_MAX) {
                    self.make_room(child, key, i == len);
                    continue;
                }
                let (head, marks) = change(None);
                (*child).open_up(&mut self.memory, i, key);
                (*child).set(&mut self.memory, i, head, place, marks);
                return self.add(child, 1, i64::from(head.is_live()));
            }
        }
    }

    /// Takes the entry of `key` out; false when there was none.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        self.memory.renew();
        let child = self.descend(key);
        // SAFETY: as in `upsert`.
        unsafe {
            let Some(i) = (*child).keys().find(key) else { return false };
            let live = (*child).leaf().entry(i).is_live();
            (*child).take_out(&mut self.memory, i);
            self.add(child, -1, -i64::from(live));
            for level in (0..self.path.len()).rev() {
                let (parent, at) = self.path[level];
                self.tidy(parent, at, level + 1 == self.path.len());
            }
            // An inner root with a single child is one level too many.
            while self.nodes.height > 0 && self.nodes.root.keys().len() == 0 {
                let only = self.nodes.root.children()[0];
                self.nodes.root.bury_inner(&mut self.memory);
                self.nodes.root = only;
                self.nodes.height -= 1;
            }
        }
        true
    }

    /// Walks to the leaf for `key`; every inner node on the way becomes the writer's own, and is noted in `path`.
    fn descend(&mut self, key: &[u8]) -> *mut Child {
        self.path.clear();
        let mut child = &raw mut self.nodes.root;
        for _ in 0..self.nodes.height {
            // SAFETY: the child lies in the tree or in a node that has just become the writer's own, and `self` is borrowed for writing.
            unsafe {
                let at = (*child).keys().child_for(key);
                let inner = (*child).own_inner(&mut self.memory);
                self.path.push((child, at));
                child = &raw mut (*inner).children[at];
                (*child).expect_search();
            }
        }
        child
    }

    /// Adds to the counts of a leaf and of all above it.
    ///
    /// # Safety
    /// `path` leads to `child`, as [`Tree::descend`] has left it.
    unsafe fn add(&mut self, child: *mut Child, entries: i64, live: i64) {
        if entries == 0 && live == 0 {
            return;
        }
        for child in self.path.iter().map(|(child, _)| *child).chain([child]) {
            // SAFETY: as the caller says.
            unsafe {
                (*child).entries = (i64::from((*child).entries) + entries) as u32;
                (*child).live = (i64::from((*child).live) + live) as u32;
            }
        }
    }

    /// Splits one node on the way to a full leaf: the highest that is full and must be split, so that its parent has room. `at_end`: the
    /// new key comes last in the leaf, so keys probably come in order and the left part stays full.
    ///
    /// # Safety
    /// As [`Tree::add`].
    unsafe fn make_room(&mut self, leaf: *mut Child, key: &[u8], at_end: bool) {
        // SAFETY: as the caller says; and what `descend` has left is the writer's own.
        unsafe {
            if let Some(&(parent, at)) = self.path.last()
                && !at_end
                && self.shift(parent, at)
            {
                return;
            }
            let (mut child, mut level, mut at_end) = (leaf, self.path.len(), at_end);
            while let Some(&(parent, at)) = level.checked_sub(1).and_then(|above| self.path.get(above)) {
                let keys = (*parent).keys();
                if keys.len() + 1 < MEMBERS_MAX && (keys.len() < 4 || keys.byte_len() <= KEY_BYTES_MAX) {
                    break;
                }
                at_end &= at == keys.len();
                (child, level) = (parent, level - 1);
            }
            if level == 0 {
                // The root gets a parent.
                let root = self.nodes.root;
                self.nodes.root = Child::inner_of(&mut self.memory, std::iter::empty(), &[root]);
                self.nodes.height += 1;
                return;
            }
            let (parent, at) = self.path[level - 1];
            let (separator, right) = if level == self.path.len() {
                let keys = (*child).keys();
                let middle = keys.len() / 2;
                let separator = if at_end { key.to_vec() } else { keys.get(middle).to_vec() };
                let split = if at_end { keys.len() } else { middle };
                (separator, (*child).split_leaf(&mut self.memory, split))
            } else {
                let len = (*child).keys().len() + 1;
                (*child).split_inner(&mut self.memory, if at_end { len - 1 } else { len / 2 })
            };
            (*parent).insert_child(&mut self.memory, at + 1, &separator, right);
        }
    }

    /// Moves entries of a full leaf to a neighbour that has room, so that nodes are fuller than splits leave them: four fifths instead of
    /// two thirds. False when none has.
    ///
    /// # Safety
    /// `parent` is an inner node of the writer's own, and child `at` a leaf.
    unsafe fn shift(&mut self, parent: *mut Child, at: usize) -> bool {
        const ROOM_MIN: usize = SLOTS / 4;
        let memory = &mut self.memory;
        // SAFETY: as the caller says; children of the writer's own nodes are changed by nobody else, and a node that was taken out is used
        // by nobody but here.
        unsafe {
            let children = (*parent).children();
            let full = children[at].keys();
            let room = |other: Option<&Child>| {
                let other = other.map(|other| other.keys())?;
                let bytes = full.byte_len() + other.byte_len();
                let fits = other.len() + ROOM_MIN <= SLOTS && bytes <= KEY_BYTES_MAX / 2;
                // One that is split for the length of its keys gains nothing.
                (fits && full.len() == SLOTS).then(|| (full.len() - other.len()).div_ceil(2))
            };
            if let Some(moved) = at.checked_sub(1).and_then(|left| room(children.get(left))) {
                let mut first = (*parent).remove_child(memory, at);
                let rest = first.split_leaf(memory, moved);
                let inner = (*parent).own_inner(memory);
                let left = &raw mut (*inner).children[at - 1];
                (*left).merge_leaf(memory, first);
                let separator = rest.keys().get(0).to_vec();
                (*parent).insert_child(memory, at, &separator, rest);
                return true;
            }
            let Some(moved) = room(children.get(at + 1)) else { return false };
            let split = full.len() - moved;
            let right = (*parent).remove_child(memory, at + 1);
            let inner = (*parent).own_inner(memory);
            let left = &raw mut (*inner).children[at];
            let mut last = (*left).split_leaf(memory, split);
            last.merge_leaf(memory, right);
            let separator = last.keys().get(0).to_vec();
            (*parent).insert_child(memory, at + 1, &separator, last);
            true
        }
    }

    /// Merges child `at`, which has just lost something, with a neighbour when both are small.
    ///
    /// # Safety
    /// `parent` is an inner node of the writer's own.
    unsafe fn tidy(&mut self, parent: *mut Child, at: usize, leaves: bool) {
        let memory = &mut self.memory;
        // SAFETY: as the caller says; children of the writer's own nodes are changed by nobody else.
        unsafe {
            let len = (*parent).keys().len() + 1;
            let children = (*parent).children();
            if leaves && children[at].keys().len() == 0 && len > 1 {
                let empty = (*parent).remove_child(memory, at);
                empty.bury_leaf(memory);
                return;
            }
            for left in [at.wrapping_sub(1), at] {
                let right = left.wrapping_add(1);
                if left == usize::MAX || right >= len || !fit(&children[left], &children[right], leaves) {
                    continue;
                }
                let separator = (*parent).keys().get(left).to_vec();
                let gone = (*parent).remove_child(memory, right);
                let inner = (*parent).own_inner(memory);
                let kept = &raw mut (*inner).children[left];
                if leaves {
                    (*kept).merge_leaf(memory, gone);
                } else {
                    (*kept).merge_inner(memory, gone, &separator);
                }
                return;
            }
        }
    }
}

/// Whether two neighbours are small enough to become one.
///
/// # Safety
/// They are part of a tree that nobody changes meanwhile.
unsafe fn fit(left: &Child, right: &Child, leaves: bool) -> bool {
    // SAFETY: as the caller says.
    let (left, right) = unsafe { (left.keys(), right.keys()) };
    let len = left.len() + right.len() + usize::from(!leaves);
    let bytes = left.byte_len() + right.byte_len();
    len <= SLOTS * 3 / 4 && bytes <= KEY_BYTES_MAX / 2
}
