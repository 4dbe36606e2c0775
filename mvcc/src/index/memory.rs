//! The memory of one tree and of everything frozen from it: pieces are taken, and given back when nobody can see them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::life::{Dead, Life};
use super::node::{Child, MarkList};
use super::pool::{Blocks, Piece, Pool, Size};
use super::released::Released;

/// Outlives all who read.
#[derive(Debug, Default)]
pub(super) struct Arena {
    blocks: Arc<Blocks>,
    pub(super) released: Released,
    /// What the tree left that has marks, when it was dropped: these count holders.
    remains: Mutex<Option<Remains>>,
}

#[derive(Debug)]
struct Remains {
    root: Child,
    height: u32,
    dead: Vec<Piece>,
}

/// A piece that is no longer part of the tree being written.
#[derive(Clone, Copy, Debug)]
struct Waste {
    piece: Piece,
    /// It is a list of marks.
    marks: bool,
}

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Memory {
    pool: Pool,
    life: Mutex<Life<Waste>>,
    pub(super) arena: Arc<Arena>,
    now: u64,
    /// How many lists of marks there are.
    marks: usize,
    room: Vec<u64>,
}

impl Default for Memory {
    fn default() -> Memory {
        let arena = Arc::<Arena>::default();
        let life = Life::default();
        Memory {
            pool: Pool::new(Arc::clone(&arena.blocks)),
            now: life.now(),
            life: Mutex::new(life),
            arena,
            marks: 0,
            room: Vec::new(),
        }
    }
}

fn life(life: &Mutex<Life<Waste>>) -> MutexGuard<'_, Life<Waste>> {
    life.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// The generation that is being written: what was born in it is seen by nobody but the writer.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn take(&mut self, bytes: usize, size: Size) -> Piece {
        self.pool.take(bytes, size)
    }

    /// A list of marks was made.
    pub(super) fn marks_made(&mut self) {
        self.marks += 1;
    }

    /// Gives a piece up, which is given back to the pool once nobody can see it.
    ///
    /// # Safety
    /// It came from [`Memory::take`], was part of the tree being written and is no longer, so that only frozen trees made since
    /// `born` reach it.
    pub(super) unsafe fn bury(&mut self, piece: Piece, born: u64) {
        // SAFETY: as the caller says.
        unsafe { self.discard(Waste { piece, marks: false }, born) };
    }

    /// The same for a list of marks.
    ///
    /// # Safety
    /// As [`Memory::bury`]; there is a [`MarkList`] in the piece.
    pub(super) unsafe fn bury_marks(&mut self, piece: Piece, born: u64) {
        // SAFETY: as the caller says.
        unsafe { self.discard(Waste { piece, marks: true }, born) };
    }

    unsafe fn discard(&mut self, what: Waste, born: u64) {
        let life = self.life.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(waste) = life.bury(Dead { what, born }) {
            // SAFETY: no frozen tree has it, says the life of pieces.
            unsafe { give_back(&mut self.pool, &mut self.marks, waste) };
        }
    }

    /// Ends the generation that is being written; only for a tree with a writer, who is told the new one by [`Memory::renew`].
    pub(super) fn freeze(&self) -> u64 {
        life(&self.life).freeze()
    }

    /// Before the writer changes something: trees may have been frozen since it last did.
    #[inline]
    pub(super) fn renew(&mut self) {
        self.now = self.life.get_mut().unwrap_or_else(PoisonError::into_inner).now();
    }

    /// Gives back up to `budget` pieces of frozen trees that nobody reads any more; whether there are more.
    pub(super) fn settle(&mut self, budget: usize) -> bool {
        let life = self.life.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut released = self.arena.released.take(std::mem::take(&mut self.room));
        released.drain(..).for_each(|generation| life.release(generation));
        self.room = released;
        let (pool, marks) = (&mut self.pool, &mut self.marks);
        // SAFETY: no frozen tree has them, says the life of pieces, and whoever read the last one has said so under a lock.
        life.settle(budget, |waste| unsafe { give_back(pool, marks, waste) })
    }

    /// The tree is gone; frozen ones may still be read.
    pub(super) fn leave(&mut self, root: Child, height: u32) {
        if self.marks == 0 {
            return;
        }
        let life = std::mem::take(self.life.get_mut().unwrap_or_else(PoisonError::into_inner));
        let dead = life.into_dead().filter(|waste| waste.marks).map(|waste| waste.piece).collect();
        let mut remains = self.arena.remains.lock().unwrap_or_else(PoisonError::into_inner);
        *remains = Some(Remains { root, height, dead });
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> (usize, usize) {
        self.pool.bytes()
    }
}

/// # Safety
/// Nobody reads the piece any more.
unsafe fn give_back(pool: &mut Pool, marks: &mut usize, waste: Waste) {
    if waste.marks {
        *marks -= 1;
        // SAFETY: there is a list in it, as whoever buried it said, and it is not used again.
        unsafe { waste.piece.at.cast::<MarkList>().drop_in_place() };
    }
    // SAFETY: it came from the pool, and comes here once.
    unsafe { pool.give_back(waste.piece) };
}

impl Drop for Arena {
    fn drop(&mut self) {
        let remains = self.remains.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(remains) = remains else { return };
        for piece in remains.dead {
            // SAFETY: the tree and all that was frozen from it are gone; each list is either among the dead or in the tree.
            unsafe { piece.at.cast::<MarkList>().drop_in_place() };
        }
        // SAFETY: as above.
        unsafe { remains.root.drop_marks(remains.height) };
    }
}
