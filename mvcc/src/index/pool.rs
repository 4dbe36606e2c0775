//! Memory of the index: pieces of a few sizes, cut one after the other from large blocks, and used again.
//!
//! A million keys are a hundred megabytes that are walked at random. In blocks that the system may back with huge pages, a step to
//! a place that no cache has costs one wait for memory instead of up to three (the page tables are waited for, too); and
//! pieces given back last are handed out first, while the caches still have them.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Sizes are multiples of this.
const LINE: usize = 64;
/// Above this they are multiples of [`COARSE`], so that there are not too many of them.
const FINE_MAX: usize = 2 << 10;
const COARSE: usize = 256;
/// Larger pieces are the allocator's.
const PIECE_MAX: usize = 16 << 10;
const BLOCK_MIN: usize = 32 << 10;
/// A huge page.
const BLOCK_MAX: usize = 2 << 20;

/// All blocks of a pool; they live as long as anybody who reads what is in them.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    list: Mutex<Vec<Block>>,
    /// Pieces that are too large for a block, by address: their sizes.
    large: Mutex<HashMap<usize, Layout>>,
}

#[derive(Debug)]
struct Block {
    at: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a block is plain memory; who may touch which piece of it is the business of the tree.
unsafe impl Send for Block {}

impl Drop for Blocks {
    fn drop(&mut self) {
        let list = self.list.get_mut().unwrap_or_else(PoisonError::into_inner);
        for block in list.drain(..) {
            // SAFETY: made by `allocate` with this layout, and freed nowhere else.
            unsafe { dealloc(block.at.as_ptr(), block.layout) };
        }
        let large = self.large.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (at, layout) in large.drain() {
            // SAFETY: as above; what was freed earlier was taken out of the map.
            unsafe { dealloc(std::ptr::with_exposed_provenance_mut(at), layout) };
        }
    }
}

fn allocate(bytes: usize, align: usize) -> (NonNull<u8>, Layout) {
    let Ok(layout) = Layout::from_size_align(bytes, align) else { handle_alloc_error(Layout::new::<u8>()) };
    // SAFETY: no caller asks for nothing.
    let at = unsafe { alloc(layout) };
    (NonNull::new(at).unwrap_or_else(|| handle_alloc_error(layout)), layout)
}

/// A piece of memory and its size, which is that of its kind and not the one asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) at: NonNull<u8>,
    pub(super) bytes: usize,
    pub(super) size: Size,
}

/// Whether a piece may be larger than what was asked for. Nodes are all of one size, and the one given back last is the one to use.
/// Keys are of all sizes, which come and go together: nodes that are full are split, and many of the same size are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Exact,
    AtLeast,
}

// SAFETY: see `Block`.
unsafe impl Send for Piece {}

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Pool {
    blocks: Arc<Blocks>,
    /// Pieces given back, by size in lines: first those of an exact size, then the others.
    free: [Vec<Vec<NonNull<u8>>>; 2],
    /// What is left of the newest block.
    next: NonNull<u8>,
    left: usize,
    /// Bytes of all blocks.
    total: usize,
}

// SAFETY: see `Block`.
unsafe impl Send for Pool {}
// SAFETY: as above; nothing is handed out but by `&mut`.
unsafe impl Sync for Pool {}

/// What a piece of at least so many bytes has.
fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(if bytes <= FINE_MAX { LINE } else { COARSE })
}

impl Pool {
    pub(super) fn new(blocks: Arc<Blocks>) -> Pool {
        let free = [(); 2].map(|()| vec![Vec::new(); PIECE_MAX / LINE + 1]);
        Pool { blocks, free, next: NonNull::dangling(), left: 0, total: 0 }
    }

    /// A piece of at least `bytes` bytes, at an address that is a multiple of a cache line. What is in it is anything.
    pub(super) fn take(&mut self, bytes: usize, size: Size) -> Piece {
        let bytes = rounded(bytes.max(1));
        if bytes > PIECE_MAX {
            let (at, layout) = allocate(bytes, LINE);
            // SAFETY: just allocated, with so many bytes.
            unsafe { at.write_bytes(0, bytes) };
            let mut large = self.blocks.large.lock().unwrap_or_else(PoisonError::into_inner);
            large.insert(at.as_ptr().expose_provenance(), layout);
            return Piece { at, bytes, size };
        }
        let largest = if size == Size::Exact { bytes } else { (2 * bytes).min(PIECE_MAX) };
        let free = &mut self.free[usize::from(size == Size::AtLeast)];
        for (more, free) in free[bytes / LINE..=largest / LINE].iter_mut().enumerate() {
            if let Some(at) = free.pop() {
                return Piece { at, bytes: bytes + more * LINE, size };
            }
        }
        if self.left < bytes {
            self.begin_block();
        }
        let at = self.next;
        // SAFETY: the block has `left` bytes behind `next`.
        self.next = unsafe { at.add(bytes) };
        self.left -= bytes;
        Piece { at, bytes, size }
    }

    fn begin_block(&mut self) {
        // What is left becomes a piece of its own size.
        if self.left > 0 && rounded(self.left) == self.left {
            self.free[1][self.left / LINE].push(self.next);
        }
        let bytes = self.total.next_power_of_two().clamp(BLOCK_MIN, BLOCK_MAX);
        let huge = bytes == BLOCK_MAX;
        let (at, layout) = allocate(bytes, if huge { BLOCK_MAX } else { LINE });
        if huge {
            advise_huge(at, bytes);
        }
        // Everything in a piece is a number to whoever looks, whatever was written.
        // SAFETY: just allocated, with so many bytes. The advice comes first: it is heeded when a page is touched.
        unsafe { at.write_bytes(0, bytes) };
        self.blocks.list.lock().unwrap_or_else(PoisonError::into_inner).push(Block { at, layout });
        (self.next, self.left) = (at, bytes);
        self.total += bytes;
    }

    /// Takes a piece back.
    ///
    /// # Safety
    /// It came from this pool's [`Pool::take`], is given back once, and nobody reads or writes it any more.
    pub(super) unsafe fn give_back(&mut self, piece: Piece) {
        if piece.bytes <= PIECE_MAX {
            if cfg!(debug_assertions) {
                // Who reads it all the same is noticed by the tests.
                // SAFETY: nobody else uses it, as the caller says.
                unsafe { piece.at.write_bytes(0xdb, piece.bytes) };
            }
            let free = &mut self.free[usize::from(piece.size == Size::AtLeast)];
            return free[piece.bytes / LINE].push(piece.at);
        }
        let mut large = self.blocks.large.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = large.remove(&piece.at.as_ptr().expose_provenance()) {
            // SAFETY: made by `allocate` with this layout; out of the map, so nobody frees it again.
            unsafe { dealloc(piece.at.as_ptr(), layout) };
        }
    }

    /// Bytes of blocks, and of the pieces in them that nobody uses.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> (usize, usize) {
        let free = self.free.iter().flat_map(|free| free.iter().enumerate());
        let free = free.map(|(lines, free)| lines * LINE * free.len());
        (self.total, free.sum::<usize>() + self.left)
    }
}

/// Asks for huge pages; a system without them goes on without.
#[cfg(target_os = "linux")]
fn advise_huge(at: NonNull<u8>, bytes: usize) {
    // SAFETY: the range is the allocation just made; the advice changes nothing of what is in it.
    unsafe { libc::madvise(at.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_: NonNull<u8>, _: usize) {}

/// Asks for the cache lines of `bytes` bytes at `at` without waiting for any of them. The address need not be valid.
#[inline]
pub(super) fn prefetch<T>(at: *const T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch changes nothing and cannot fail, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_and_are_used_again() {
        let mut pool = Pool::new(Arc::default());
        let mut taken: Vec<Piece> = Vec::new();
        let mut seed = 3u64;
        for round in 0..20_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if seed >> 62 == 0 && !taken.is_empty() {
                let piece = taken.swap_remove((seed >> 20) as usize % taken.len());
                // SAFETY: taken above, and no longer in the list.
                unsafe { pool.give_back(piece) };
                continue;
            }
            let wanted = (seed >> 33) as usize % if round % 100 == 0 { 40_000 } else { 3000 };
            let size = if seed >> 50 & 1 == 0 { Size::Exact } else { Size::AtLeast };
            let piece = pool.take(wanted, size);
            assert!(piece.bytes >= wanted && piece.at.as_ptr().addr().is_multiple_of(LINE));
            taken.push(piece);
        }
        taken.sort_by_key(|piece| piece.at);
        for pair in taken.windows(2) {
            assert!(pair[0].at.as_ptr().addr() + pair[0].bytes <= pair[1].at.as_ptr().addr());
        }
        let (total, _) = pool.bytes();
        for piece in taken {
            // SAFETY: each is given back once.
            unsafe { pool.give_back(piece) };
        }
        let again = (0..100).filter(|_| pool.take(1000, Size::AtLeast).bytes >= 1000).count();
        assert_eq!(again, 100);
        assert_eq!(pool.bytes().0, total, "no new block while pieces of that size are free");
    }
}
