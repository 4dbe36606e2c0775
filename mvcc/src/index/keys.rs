//! Sorted keys of one node, found by eight bytes each: what follows the beginning that all of them share.
//!
//! ```text
//! bytes   /pods/default/web-1 /pods/default/web-2 /pods/kube/dns     prefix 6: "/pods/"
//! tags    "default/"          "default/"          "kube/dns"         compared as numbers
//! piece   born, room, len, prefix, used | tags | ends | bytes of the keys
//! ```
//!
//! A search compares tags, which lie side by side at the beginning of the piece, and looks at whole keys only where tags are equal.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::memory::Memory;
use super::pool::{Piece, Size, prefetch};

/// The most keys of a node.
pub(super) const SLOTS: usize = 32;

/// What stands before the bytes of the keys.
#[repr(C)]
struct Head {
    born: u64,
    /// Bytes of the piece.
    room: u32,
    len: u32,
    /// So many bytes, at least, all keys have in common at their beginning.
    prefix: u32,
    /// Bytes of all keys together.
    used: u32,
    /// Of each key the eight bytes behind the prefix, as a big-endian number; short ones are filled with zeroes.
    tags: [u64; SLOTS],
    /// `ends[i]` is where key `i` ends.
    ends: [u32; SLOTS],
}

const HEAD: usize = size_of::<Head>();

/// Where keys are. Somebody who has the tree that reaches them makes them readable by [`KeysPtr::get`].
#[derive(Clone, Copy, Debug)]
pub(super) struct KeysPtr(NonNull<Head>);

/// Keys that are there for `'a`, and do not change.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    at: NonNull<Head>,
    lifetime: PhantomData<&'a Head>,
}

fn tag(key: &[u8], prefix: usize) -> u64 {
    let rest = &key[prefix..];
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        }
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl<'a> Keys<'a> {
    #[inline]
    fn head(self) -> &'a Head {
        // SAFETY: the piece has a head and is not changed during 'a, as whoever made this has promised.
        unsafe { self.at.as_ref() }
    }

    #[inline]
    pub(super) fn len(self) -> usize {
        self.head().len as usize
    }

    /// Bytes of all keys together.
    pub(super) fn byte_len(self) -> usize {
        self.head().used as usize
    }

    #[inline]
    fn bytes(self, from: usize, until: usize) -> &'a [u8] {
        debug_assert!(from <= until && until <= self.head().used as usize);
        // SAFETY: the first `used` bytes behind the head were written, and are not changed during 'a. Bounds come from `ends` and
        // `prefix`, which never go beyond `used`.
        unsafe {
            let bytes = self.at.as_ptr().cast::<u8>().add(HEAD + from);
            std::slice::from_raw_parts(bytes, until - from)
        }
    }

    fn start(self, i: usize) -> usize {
        if i == 0 { 0 } else { self.head().ends[i - 1] as usize }
    }

    /// Key number `i`, which is there.
    #[inline]
    pub(super) fn get(self, i: usize) -> &'a [u8] {
        assert!(i < self.len(), "a key that is there");
        self.bytes(self.start(i), self.head().ends[i] as usize)
    }

    pub(super) fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        (0..self.len()).map(move |i| self.get(i))
    }

    /// Whether number `i` is `key`.
    pub(super) fn is_at(self, i: usize, key: &[u8]) -> bool {
        i < self.len() && self.get(i) == key
    }

    /// How many tags are below this one. All are looked at, without a decision at any: memory brings them side by side, where halving
    /// would wait for one after the other and guess wrong at every second.
    #[inline]
    fn below(self, tag: u64) -> usize {
        let head = self.head();
        head.tags[..(head.len as usize).min(SLOTS)].iter().map(|&other| usize::from(other < tag)).sum()
    }

    /// Where `key` is, or would be.
    #[inline]
    pub(super) fn search(self, key: &[u8]) -> Result<usize, usize> {
        let len = self.len();
        if len == 0 {
            return Err(0);
        }
        let prefix = self.head().prefix as usize;
        let shared = self.bytes(0, prefix);
        if !key.starts_with(shared) {
            return Err(if key < shared { 0 } else { len });
        }
        let tag = tag(key, prefix);
        let tags = &self.head().tags[..len];
        let mut low = self.below(tag);
        let mut high = low;
        while high < len && tags[high] == tag {
            high += 1;
        }
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Where `key` is. What all keys begin with is compared only with the key that is found.
    #[inline]
    pub(super) fn find(self, key: &[u8]) -> Option<usize> {
        let head = self.head();
        if key.len() < head.prefix as usize {
            return None;
        }
        let tag = tag(key, head.prefix as usize);
        (self.below(tag)..self.len()).take_while(|&i| head.tags[i] == tag).find(|&i| self.get(i) == key)
    }

    /// The child of a node with these separators that has `key` if any has.
    #[inline]
    pub(super) fn child_for(self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(i) => i + 1,
            Err(i) => i,
        }
    }
}

impl KeysPtr {
    /// The keys.
    ///
    /// # Safety
    /// During `'a` the piece is neither given back nor changed: it is part of a frozen tree that somebody holds, or of the tree
    /// being written and its writer changes nothing of it.
    #[inline]
    pub(super) unsafe fn get<'a>(self) -> Keys<'a> {
        Keys { at: self.0, lifetime: PhantomData }
    }

    /// Asks for the cache lines that a search needs.
    #[inline]
    pub(super) fn expect_search(self) {
        prefetch(self.0.as_ptr(), HEAD - SLOTS * size_of::<u32>());
    }

    /// Asks for the cache lines that going from key to key needs.
    pub(super) fn expect_walk(self) {
        prefetch(self.0.as_ptr(), 1);
        prefetch(
            self.0.as_ptr().wrapping_byte_add(HEAD - SLOTS * size_of::<u32>()),
            SLOTS * size_of::<u32>(),
        );
    }

    /// Asks for the cache line that says how many there are.
    pub(super) fn expect_len(self) {
        prefetch(self.0.as_ptr(), 1);
    }

    /// Whether only the writer sees them.
    ///
    /// # Safety
    /// As [`KeysPtr::get`].
    unsafe fn is_own(self, memory: &Memory) -> bool {
        // SAFETY: as the caller says.
        unsafe { self.0.as_ref().born == memory.now() }
    }

    /// Gives the keys up: they are no longer part of the tree being written.
    ///
    /// # Safety
    /// They were until now, and whoever sees them does so by a frozen tree.
    pub(super) unsafe fn bury(self, memory: &mut Memory) {
        // SAFETY: as the caller says, the piece is still there.
        let (born, bytes) = unsafe { (self.0.as_ref().born, self.0.as_ref().room as usize) };
        // SAFETY: as the caller says.
        unsafe { memory.bury(Piece { at: self.0.cast(), bytes, size: Size::AtLeast }, born) };
    }

    /// Keys in ascending order, at most [`SLOTS`], in a piece of their own with room for `more` bytes.
    pub(super) fn build<'k>(
        memory: &mut Memory,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
        more: usize,
    ) -> KeysPtr {
        let used: usize = keys.clone().map(<[u8]>::len).sum();
        let piece = memory.take(HEAD + used + more, Size::AtLeast);
        let at = piece.at.cast::<Head>();
        let prefix = match (keys.clone().next(), keys.clone().last()) {
            (Some(first), Some(last)) => common(first, last),
            _ => 0,
        };
        let (mut len, mut end) = (0, 0);
        // SAFETY: the piece is new, large enough for the head and `used` bytes, and nobody else's; `tags` and `ends` are bounds-checked
        // and only ever read below `len`, where they are written here.
        unsafe {
            let head = at.as_ptr();
            let bytes = head.cast::<u8>().add(HEAD);
            for key in keys {
                ptr::copy_nonoverlapping(key.as_ptr(), bytes.add(end), key.len());
                end += key.len();
                assert!(len < SLOTS && end <= used, "keys fit into their node");
                (&raw mut (*head).ends[len]).write(end as u32);
                (&raw mut (*head).tags[len]).write(tag(key, prefix));
                len += 1;
            }
            (&raw mut (*head).born).write(memory.now());
            (&raw mut (*head).room).write(piece.bytes as u32);
            (&raw mut (*head).len).write(len as u32);
            (&raw mut (*head).prefix).write(prefix as u32);
            (&raw mut (*head).used).write(end as u32);
        }
        KeysPtr(at)
    }

    /// Inserts `key` as number `i`, in place when nobody else sees the keys.
    ///
    /// # Safety
    /// As [`KeysPtr::bury`]; there are fewer than [`SLOTS`] keys, and `key` belongs at `i`.
    pub(super) unsafe fn insert(&mut self, memory: &mut Memory, i: usize, key: &[u8]) {
        // SAFETY: nothing is changed while `keys` is used.
        let keys = unsafe { self.get() };
        let (len, used) = (keys.len(), keys.byte_len());
        assert!(i <= len && len < SLOTS, "a place among the keys");
        // SAFETY: as the caller says.
        let own = unsafe { self.is_own(memory) };
        if !own || HEAD + used + key.len() > keys.head().room as usize {
            // One that grows twice in a generation will grow again.
            let more = if own { used / 2 } else { 0 };
            let (before, behind) = (keys.iter().take(i), keys.iter().skip(i));
            let built = KeysPtr::build(memory, before.chain([key]).chain(behind), more);
            // SAFETY: as the caller says; they are replaced.
            unsafe { self.bury(memory) };
            *self = built;
            return;
        }
        let at = keys.start(i);
        // SAFETY: nobody else sees the piece, which has room for the key behind its `used` bytes.
        unsafe {
            let bytes = self.0.as_ptr().cast::<u8>().add(HEAD);
            ptr::copy(bytes.add(at), bytes.add(at + key.len()), used - at);
            ptr::copy_nonoverlapping(key.as_ptr(), bytes.add(at), key.len());
            let head = self.0.as_mut();
            head.ends.copy_within(i..len, i + 1);
            head.tags.copy_within(i..len, i + 1);
            head.len += 1;
            head.used += key.len() as u32;
            head.ends[i] = at as u32;
            head.ends[i..=len].iter_mut().for_each(|end| *end += key.len() as u32);
            // Below the new length, so written; it is read before the prefix is known to be shorter.
            head.tags[i] = 0;
        }
        // SAFETY: as above.
        let keys = unsafe { self.get() };
        let shared = common(keys.get(0), keys.get(len)).min(keys.head().prefix as usize);
        let all = len == 0 || shared < keys.head().prefix as usize;
        let shared = if len == 0 { key.len() } else { shared };
        for at in if all { 0..len + 1 } else { i..i + 1 } {
            let tag = tag(keys.get(at), shared);
            // SAFETY: as above; `keys` does not look at this tag.
            unsafe { (&raw mut (*self.0.as_ptr()).tags[at]).write(tag) };
        }
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0.as_ptr()).prefix).write(shared as u32) };
    }

    /// Takes key number `i` out.
    ///
    /// # Safety
    /// As [`KeysPtr::bury`].
    pub(super) unsafe fn remove(&mut self, memory: &mut Memory, i: usize) {
        // SAFETY: nothing is changed while `keys` is used.
        let keys = unsafe { self.get() };
        let built = KeysPtr::build(memory, keys.iter().take(i).chain(keys.iter().skip(i + 1)), 0);
        // SAFETY: as the caller says; they are replaced.
        unsafe { self.bury(memory) };
        *self = built;
    }

    /// Replaces the keys by those from `from` to `until` of them.
    ///
    /// # Safety
    /// As [`KeysPtr::bury`].
    pub(super) unsafe fn cut(&mut self, memory: &mut Memory, from: usize, until: usize) {
        // SAFETY: nothing is changed while `keys` is used.
        let keys = unsafe { self.get() };
        let built = KeysPtr::build(memory, keys.iter().take(until).skip(from), 0);
        // SAFETY: as the caller says; they are replaced.
        unsafe { self.bury(memory) };
        *self = built;
    }
}
