//! The nodes of the index: what is in them, and copies of them.
//!
//! ```text
//! child   keys ──► tags, bytes of the keys      shared by all copies: only insertions and removals replace it
//!         node ──► inner: children │ leaf: places, numbers        what an overwrite copies
//!         entries, live keys below it
//! ```
//!
//! A node is a piece of the tree's memory, found by an address in its parent. Nobody counts who holds it: a piece that was born in
//! the generation being written is changed in place, an older one is replaced by a copy (`life`).

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use ketch_wal::Position;

use super::entry::{Entry, Head, LIVE, Marks, place_of, place_word};
use super::keys::{Keys, KeysPtr, SLOTS};
use super::memory::Memory;
use super::pool::{Piece, Size, prefetch};
use crate::revision::Revision;

/// How many entries a subtree has, and how many of them are live keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) entries: u64,
    pub(crate) live: u64,
}

impl Count {
    pub(super) fn add(&mut self, child: &Child) {
        self.entries += u64::from(child.entries);
        self.live += u64::from(child.live);
    }
}

/// The way to a node. At level 0 its node is a leaf, above an inner one; the keys of an inner one separate its children:
/// number `i` is above every key of child `i` and at or below every key of child `i + 1`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Child {
    pub(super) keys: KeysPtr,
    node: NonNull<u8>,
    pub(super) entries: u32,
    pub(super) live: u32,
}

// SAFETY: what a child leads to is changed by the writer only while nobody else sees it, and given back when nobody does; the places
// in a leaf are atomics.
unsafe impl Send for Child {}
// SAFETY: as above.
unsafe impl Sync for Child {}

/// The most children of an inner node and entries of a leaf.
pub(super) const MEMBERS_MAX: usize = SLOTS;

#[repr(C)]
pub(super) struct Inner {
    born: u64,
    pub(super) children: [Child; MEMBERS_MAX],
}

/// Entry `i` is spread over the arrays.
#[repr(C)]
pub(super) struct Leaf {
    born: u64,
    /// Null while no key has any.
    marks: *mut MarkList,
    places: [AtomicU64; SLOTS],
    numbers: [Numbers; SLOTS],
}

/// Packed: a leaf is copied as a whole, and shorter by an eighth without gaps.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
struct Numbers {
    main: i64,
    create: i64,
    /// The version, and in the lowest byte the versions since the newest mark.
    version: i64,
    sub: u32,
}

/// The marks of a leaf's entries.
#[derive(Debug)]
pub(super) struct MarkList {
    born: u64,
    marks: [Option<Marks>; SLOTS],
}

impl Leaf {
    pub(super) fn entry(&self, i: usize) -> Entry<'_> {
        let numbers = self.numbers[i];
        let head = Head {
            revision: Revision::new(numbers.main, numbers.sub),
            since_mark: numbers.version as u8,
            create_revision: numbers.create,
            version: numbers.version >> 8,
        };
        // SAFETY: the list lives as long as the leaf that names it.
        let marks = unsafe { self.marks.as_ref() }.and_then(|list| list.marks[i].as_ref());
        Entry { head, marks, place: Some(&self.places[i]) }
    }

    /// Whether entry `i` is a live key, and if so where its record lies, as far as the index knows. Looks at nothing else of it.
    #[inline]
    pub(super) fn live_place(&self, i: usize) -> Option<Option<Position>> {
        let word = self.places[i].load(Ordering::Relaxed);
        (word & LIVE != 0).then(|| place_of(word))
    }

    /// How many entries from `from` to `until` are live.
    pub(super) fn live(&self, from: usize, until: usize) -> u64 {
        self.numbers[from..until].iter().filter(|numbers| { numbers.version } >> 8 > 0).count() as u64
    }

    fn set(&mut self, i: usize, head: Head, place: Position) {
        self.places[i] = AtomicU64::new(place_word(place, head.is_live()));
        self.numbers[i] = Numbers {
            main: head.revision.main,
            create: head.create_revision,
            version: head.version << 8 | i64::from(head.since_mark),
            sub: head.revision.sub,
        };
    }

    /// Copies entries of another leaf.
    ///
    /// # Safety
    /// Nobody else sees this leaf.
    unsafe fn copy(&mut self, to: usize, other: &Leaf, from: usize, count: usize) {
        self.numbers[to..to + count].copy_from_slice(&other.numbers[from..from + count]);
        for (to, from) in self.places[to..to + count].iter_mut().zip(&other.places[from..from + count]) {
            *to.get_mut() = from.load(Ordering::Relaxed);
        }
    }

    fn shift(&mut self, from: usize, to: usize, count: usize) {
        self.numbers.copy_within(from..from + count, to);
        let mut shift = |i: usize| *self.places[to + i].get_mut() = *self.places[from + i].get_mut();
        if to > from { (0..count).rev().for_each(&mut shift) } else { (0..count).for_each(&mut shift) }
    }
}

fn new_leaf(memory: &mut Memory) -> NonNull<Leaf> {
    let at = memory.take(size_of::<Leaf>(), Size::Exact).at.cast::<Leaf>();
    // SAFETY: the piece is new and large enough; its arrays are numbers, whatever they are.
    unsafe {
        (&raw mut (*at.as_ptr()).born).write(memory.now());
        (&raw mut (*at.as_ptr()).marks).write(ptr::null_mut());
    }
    at
}

/// An inner node without children: whoever makes it writes them before anybody looks.
fn new_inner(memory: &mut Memory) -> NonNull<Inner> {
    let at = memory.take(size_of::<Inner>(), Size::Exact).at.cast::<Inner>();
    // SAFETY: the piece is new and large enough.
    unsafe { (&raw mut (*at.as_ptr()).born).write(memory.now()) };
    at
}

fn piece_of<T>(at: NonNull<T>) -> Piece {
    Piece { at: at.cast(), bytes: size_of::<T>().next_multiple_of(64), size: Size::Exact }
}

/// Reading. All of it is unsafe for the same reason: the child must belong to a frozen tree that is held for `'a`, or to the one that is
/// being written while its writer changes nothing.
impl Child {
    /// # Safety
    /// See the block's comment.
    #[inline]
    pub(super) unsafe fn keys<'a>(&self) -> Keys<'a> {
        // SAFETY: as the caller says.
        unsafe { self.keys.get() }
    }

    /// # Safety
    /// See the block's comment; it is a leaf.
    #[inline]
    pub(super) unsafe fn leaf<'a>(&self) -> &'a Leaf {
        // SAFETY: as the caller says.
        unsafe { self.node.cast::<Leaf>().as_ref() }
    }

    /// # Safety
    /// See the block's comment; it is an inner node.
    #[inline]
    pub(super) unsafe fn children<'a>(&self) -> &'a [Child] {
        // SAFETY: as the caller says; an inner node has one child more than separators.
        unsafe {
            let first = (&raw const (*self.node.cast::<Inner>().as_ptr()).children).cast::<Child>();
            std::slice::from_raw_parts(first, self.keys().len() + 1)
        }
    }

    /// Asks for the cache lines that a search in this node needs, and the first of the node itself.
    #[inline]
    pub(super) fn expect_search(&self) {
        self.keys.expect_search();
    }

    /// Asks for the cache lines of a leaf that answer for a key.
    #[inline]
    pub(super) fn expect_places(&self) {
        prefetch(self.node.as_ptr(), 16 + size_of::<[u64; SLOTS]>());
    }

    /// Asks for all cache lines of a leaf.
    #[inline]
    pub(super) fn expect_leaf(&self) {
        let used = size_of::<Leaf>() - size_of::<Numbers>() * (SLOTS - (self.entries as usize).min(SLOTS));
        prefetch(self.node.as_ptr(), used);
    }

    /// # Safety
    /// See the block's comment; `level` is its level.
    pub(super) unsafe fn count(&self, level: u32) -> Count {
        // SAFETY: as the caller says.
        unsafe {
            if level == 0 {
                let len = self.keys().len();
                return Count { entries: len as u64, live: self.leaf().live(0, len) };
            }
            let mut sum = Count::default();
            self.children().iter().for_each(|child| sum.add(child));
            sum
        }
    }

    /// Lets go of the marks in a tree that nobody will read again.
    ///
    /// # Safety
    /// See the block's comment; this is called once.
    pub(super) unsafe fn drop_marks(&self, level: u32) {
        // SAFETY: as the caller says.
        unsafe {
            if level > 0 {
                self.children().iter().for_each(|child| child.drop_marks(level - 1));
            } else if !self.leaf().marks.is_null() {
                self.leaf().marks.drop_in_place();
            }
        }
    }
}

/// Writing. All of it is unsafe for the same reason: the child belongs to the tree being written, lies in a node that only its writer
/// sees (or is the root), and nobody holds anything of it.
impl Child {
    /// An empty leaf.
    pub(super) fn empty(memory: &mut Memory) -> Child {
        let keys = KeysPtr::build(memory, std::iter::empty(), 0);
        Child { keys, node: new_leaf(memory).cast(), entries: 0, live: 0 }
    }

    /// A leaf of these entries.
    pub(super) fn leaf_of<'k>(
        memory: &mut Memory,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
        heads: impl Iterator<Item = (Head, Option<Marks>)>,
    ) -> Child {
        let keys = KeysPtr::build(memory, keys, 0);
        let mut child = Child { keys, node: new_leaf(memory).cast(), entries: 0, live: 0 };
        for (i, (head, marks)) in heads.enumerate() {
            // SAFETY: the leaf is new.
            unsafe { child.set(memory, i, head, Position::START, marks) };
        }
        // SAFETY: as above.
        let count = unsafe { child.count(0) };
        (child.entries, child.live) = (count.entries as u32, count.live as u32);
        child
    }

    /// An inner node of these children, with one separator less.
    pub(super) fn inner_of<'k>(
        memory: &mut Memory,
        separators: impl Iterator<Item = &'k [u8]> + Clone,
        children: &[Child],
    ) -> Child {
        let keys = KeysPtr::build(memory, separators, 0);
        let at = new_inner(memory);
        assert!(children.len() <= MEMBERS_MAX, "children fit into their node");
        // SAFETY: the node is new, and there are not more children than it has room for.
        unsafe {
            let to = (&raw mut (*at.as_ptr()).children).cast::<Child>();
            ptr::copy_nonoverlapping(children.as_ptr(), to, children.len());
        }
        let mut sum = Count::default();
        children.iter().for_each(|child| sum.add(child));
        Child { keys, node: at.cast(), entries: sum.entries as u32, live: sum.live as u32 }
    }

    /// The inner node to change: itself, or a copy when somebody else may see it.
    ///
    /// # Safety
    /// See the block's comment; it is an inner node.
    #[inline]
    pub(super) unsafe fn own_inner(&mut self, memory: &mut Memory) -> *mut Inner {
        let old = self.node.cast::<Inner>();
        // SAFETY: as the caller says; the copy is new and as large as the old one.
        unsafe {
            if (*old.as_ptr()).born == memory.now() {
                return old.as_ptr();
            }
            let new = new_inner(memory);
            let children = self.children();
            let to = (&raw mut (*new.as_ptr()).children).cast::<Child>();
            ptr::copy_nonoverlapping(children.as_ptr(), to, children.len());
            memory.bury(piece_of(old), (*old.as_ptr()).born);
            self.node = new.cast();
            new.as_ptr()
        }
    }

    /// The leaf to change.
    ///
    /// # Safety
    /// See the block's comment; it is a leaf.
    unsafe fn own_leaf(&mut self, memory: &mut Memory) -> &mut Leaf {
        let old = self.node.cast::<Leaf>();
        // SAFETY: as the caller says; the copy is new.
        unsafe {
            if (*old.as_ptr()).born != memory.now() {
                let len = self.keys().len();
                let mut new = new_leaf(memory);
                new.as_mut().copy(0, old.as_ref(), 0, len);
                new.as_mut().marks = old.as_ref().marks;
                memory.bury(piece_of(old), (*old.as_ptr()).born);
                self.node = new.cast();
            }
            self.node.cast::<Leaf>().as_mut()
        }
    }

    /// The list of marks to change.
    ///
    /// # Safety
    /// See the block's comment; it is a leaf, and its own.
    unsafe fn own_marks(&mut self, memory: &mut Memory) -> &mut MarkList {
        // SAFETY: as the caller says.
        unsafe {
            let leaf = self.node.cast::<Leaf>().as_mut();
            let old = leaf.marks;
            if old.is_null() || (*old).born != memory.now() {
                let marks = old.as_ref().map_or([const { None }; SLOTS], |old| old.marks.clone());
                leaf.marks = new_marks(memory, marks);
                bury_marks(memory, old);
            }
            &mut *leaf.marks
        }
    }

    /// Puts another head in place of entry `i`, or a first one; and other marks, when there are some.
    ///
    /// # Safety
    /// See the block's comment; it is a leaf.
    pub(super) unsafe fn set(
        &mut self,
        memory: &mut Memory,
        i: usize,
        head: Head,
        place: Position,
        marks: Option<Marks>,
    ) {
        // SAFETY: as the caller says.
        unsafe {
            self.own_leaf(memory).set(i, head, place);
            if let Some(marks) = marks {
                self.own_marks(memory).marks[i] = Some(marks);
            }
        }
    }

    /// Makes room for an entry as number `i`, which is set next.
    ///
    /// # Safety
    /// See the block's comment; it is a leaf with room.
    pub(super) unsafe fn open_up(&mut self, memory: &mut Memory, i: usize, key: &[u8]) {
        // SAFETY: as the caller says.
        unsafe {
            let len = self.keys().len();
            let leaf = self.own_leaf(memory);
            leaf.shift(i, i + 1, len - i);
            if !leaf.marks.is_null() {
                let marks = &mut self.own_marks(memory).marks;
                // The last one is empty: there was room.
                marks[i..=len].rotate_right(1);
            }
            self.keys.insert(memory, i, key);
        }
    }

    /// Takes entry `i` out.
    ///
    /// # Safety
    /// See the block's comment; it is a leaf that has it.
    pub(super) unsafe fn take_out(&mut self, memory: &mut Memory, i: usize) {
        // SAFETY: as the caller says.
        unsafe {
            let len = self.keys().len();
            let leaf = self.own_leaf(memory);
            leaf.shift(i + 1, i, len - i - 1);
            if !leaf.marks.is_null() {
                let marks = &mut self.own_marks(memory).marks;
                marks[i] = None;
                marks[i..len].rotate_left(1);
            }
            self.keys.remove(memory, i);
        }
    }

    /// Moves the entries from number `at` on into a leaf of their own.
    ///
    /// # Safety
    /// See the block's comment; it is a leaf.
    pub(super) unsafe fn split_leaf(&mut self, memory: &mut Memory, at: usize) -> Child {
        // SAFETY: as the caller says.
        unsafe {
            let keys = self.keys();
            let len = keys.len();
            let mut new = new_leaf(memory);
            let right_keys = KeysPtr::build(memory, keys.iter().skip(at), 0);
            new.as_mut().copy(0, self.own_leaf(memory), at, len - at);
            if !self.leaf().marks.is_null() {
                let mut right = [const { None }; SLOTS];
                let left = &mut self.own_marks(memory).marks;
                right[..len - at].swap_with_slice(&mut left[at..len]);
                new.as_mut().marks = new_marks(memory, right);
            }
            let mut right = Child { keys: right_keys, node: new.cast(), ..*self };
            if at < len {
                self.keys.cut(memory, 0, at);
            }
            self.recount(0);
            right.recount(0);
            right
        }
    }

    /// Moves the children from number `at` on, which is not 0, into a node of their own; returns what separates the two.
    ///
    /// # Safety
    /// See the block's comment; it is an inner node.
    pub(super) unsafe fn split_inner(&mut self, memory: &mut Memory, at: usize) -> (Vec<u8>, Child) {
        // SAFETY: as the caller says.
        unsafe {
            self.own_inner(memory);
            let keys = self.keys();
            let separator = keys.get(at - 1).to_vec();
            let right = Child::inner_of(memory, keys.iter().skip(at), &self.children()[at..]);
            self.keys.cut(memory, 0, at - 1);
            self.recount(1);
            (separator, right)
        }
    }

    /// Inserts child number `i`, which is not the first.
    ///
    /// # Safety
    /// See the block's comment; it is an inner node with room.
    pub(super) unsafe fn insert_child(
        &mut self,
        memory: &mut Memory,
        i: usize,
        separator: &[u8],
        child: Child,
    ) {
        // SAFETY: as the caller says.
        unsafe {
            let len = self.keys().len() + 1;
            assert!(0 < i && i <= len && len < MEMBERS_MAX, "a place among the children");
            let inner = self.own_inner(memory);
            let children = (&raw mut (*inner).children).cast::<Child>();
            ptr::copy(children.add(i), children.add(i + 1), len - i);
            children.add(i).write(child);
            self.keys.insert(memory, i - 1, separator);
        }
    }

    /// Takes child number `i` out of an inner node that has others.
    ///
    /// # Safety
    /// See the block's comment; it is an inner node.
    pub(super) unsafe fn remove_child(&mut self, memory: &mut Memory, i: usize) -> Child {
        // SAFETY: as the caller says.
        unsafe {
            let len = self.keys().len() + 1;
            assert!(i < len && len > 1, "a child that is not the only one");
            let inner = self.own_inner(memory);
            let children = (&raw mut (*inner).children).cast::<Child>();
            let child = children.add(i).read();
            ptr::copy(children.add(i + 1), children.add(i), len - i - 1);
            self.keys.remove(memory, i.saturating_sub(1));
            child
        }
    }

    /// Appends the entries of its right neighbour, whose node is given up.
    ///
    /// # Safety
    /// See the block's comment, for both; they are leaves, and fit into one.
    pub(super) unsafe fn merge_leaf(&mut self, memory: &mut Memory, right: Child) {
        // SAFETY: as the caller says.
        unsafe {
            let (keys, more) = (self.keys(), right.keys());
            let (len, count) = (keys.len(), more.len());
            let merged = KeysPtr::build(memory, keys.iter().chain(more.iter()), 0);
            self.own_leaf(memory).copy(len, right.leaf(), 0, count);
            if let Some(from) = right.leaf().marks.as_ref() {
                let to = self.own_marks(memory);
                to.marks[len..len + count].clone_from_slice(&from.marks[..count]);
            }
            self.keys.bury(memory);
            self.keys = merged;
            right.bury_leaf(memory);
            self.recount(0);
        }
    }

    /// Appends the children of its right neighbour, whose node is given up.
    ///
    /// # Safety
    /// See the block's comment, for both; they are inner nodes, and fit into one.
    pub(super) unsafe fn merge_inner(&mut self, memory: &mut Memory, right: Child, separator: &[u8]) {
        // SAFETY: as the caller says.
        unsafe {
            let all = [self.children(), right.children()].concat();
            let keys = self.keys().iter().chain([separator]).chain(right.keys().iter());
            let merged = Child::inner_of(memory, keys, &all);
            self.bury_inner(memory);
            right.bury_inner(memory);
            *self = merged;
        }
    }

    /// Gives a leaf up.
    ///
    /// # Safety
    /// See the block's comment; nothing leads to it any more.
    pub(super) unsafe fn bury_leaf(&self, memory: &mut Memory) {
        let leaf = self.node.cast::<Leaf>();
        // SAFETY: as the caller says.
        unsafe {
            let (born, marks) = ((*leaf.as_ptr()).born, (*leaf.as_ptr()).marks);
            memory.bury(piece_of(leaf), born);
            bury_marks(memory, marks);
            self.keys.bury(memory);
        }
    }

    /// Gives an inner node up, but not its children.
    ///
    /// # Safety
    /// See the block's comment; nothing leads to it any more.
    pub(super) unsafe fn bury_inner(&self, memory: &mut Memory) {
        let inner = self.node.cast::<Inner>();
        // SAFETY: as the caller says.
        unsafe {
            memory.bury(piece_of(inner), (*inner.as_ptr()).born);
            self.keys.bury(memory);
        }
    }

    /// Counts again what is below it.
    ///
    /// # Safety
    /// See the block's comment; `level` is its level, or any above 0.
    pub(super) unsafe fn recount(&mut self, level: u32) {
        // SAFETY: as the caller says.
        let count = unsafe { self.count(level) };
        (self.entries, self.live) = (count.entries as u32, count.live as u32);
    }
}

fn new_marks(memory: &mut Memory, marks: [Option<Marks>; SLOTS]) -> *mut MarkList {
    let list = MarkList { born: memory.now(), marks };
    let at = memory.take(size_of::<MarkList>(), Size::Exact).at.cast::<MarkList>();
    memory.marks_made();
    // SAFETY: the piece is new and large enough.
    unsafe { at.write(list) };
    at.as_ptr()
}

/// # Safety
/// The list, if there is one, is no longer part of the tree being written.
unsafe fn bury_marks(memory: &mut Memory, marks: *mut MarkList) {
    let Some(at) = NonNull::new(marks) else { return };
    // SAFETY: as the caller says.
    unsafe { memory.bury_marks(piece_of(at), (*at.as_ptr()).born) };
}

// What an overwrite copies at most.
const _: () = assert!(size_of::<Leaf>() <= 1216 && size_of::<Child>() == 24);
