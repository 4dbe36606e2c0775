//! The hash of one version, and what a hash of the whole store is made of.
//!
//! The store's hash is the sum, modulo 2^64, of the hashes of its versions. A sum does not depend on order or layout, so
//! it is kept up to date by adding what is written and subtracting what compaction kills, and it is equal on every store
//! with the same history, whenever each of them compacted physically.

use std::sync::Arc;

use crate::compaction;
use crate::error::{Fault, ReadError};
use crate::log::record::Change;
use crate::read::View;
use crate::revision::Revision;
use crate::shared::lock;

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xd6e8_feb8_6659_fd93;

/// Folds the 128-bit product of two words: every bit of the one reaches every bit of the other.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

/// A 64-bit hash of `bytes`. Fixed for ever: members of different versions compare it.
pub(crate) fn bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = fold(seed ^ A, bytes.len() as u64 ^ B);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), A).wrapping_add(B);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(state ^ u64::from_le_bytes(last), B)
}

/// The hash of one version: its place in the transaction, whether it is a tombstone, and its content, which holds the
/// main revision.
pub(crate) fn change(change: &Change) -> u64 {
    bytes(u64::from(change.revision.sub) << 1 | u64::from(change.is_delete()), &change.wire)
}

/// A hash of a store's logical content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreHash {
    /// Equal on every store with the same history and the same two revisions.
    pub hash: u64,
    /// The compaction point it was taken at; -1 when the store was never compacted.
    pub compact_revision: i64,
    /// The revision it goes up to.
    pub hash_revision: i64,
}

impl View {
    /// The hash of all that is visible at or after the compaction point, up to `revision` (0 for the view's own): O(1)
    /// there once compaction has been carried out, else proportional to the changes after `revision` and to those
    /// not yet looked at by compaction.
    ///
    /// # Errors
    /// [`ReadError`] when the revision is compacted or in the future, or the log cannot be read.
    pub fn hash(&self, revision: i64) -> Result<StoreHash, ReadError> {
        let (root, shared) = (&self.root, &self.values.shared);
        if revision > root.revision {
            return Err(ReadError::Future { requested: revision, current: root.revision });
        }
        let at = if revision <= 0 { root.revision } else { revision };
        if at < root.compacted {
            return Err(ReadError::Compacted { requested: revision, compacted: root.compacted });
        }
        let mut hash = root.written.hash.wrapping_sub(self.dead_hash()?);
        for later in self.values.rest.among(shared.log.changes(Revision::new(at + 1, 0), root.revision)) {
            hash = hash.wrapping_sub(change(&later?));
        }
        Ok(StoreHash { hash, compact_revision: root.compacted, hash_revision: at })
    }

    /// The hashes of all that is dead at the view's compaction point.
    fn dead_hash(&self) -> Result<u64, Fault> {
        loop {
            // The view itself keeps compaction from going beyond its own point.
            let physical = *lock(&self.values.shared.physical);
            if physical.done >= self.root.compacted {
                return Ok(physical.dead_hash);
            }
            match self.not_yet_dead(physical.done) {
                Ok(hash) => return Ok(physical.dead_hash.wrapping_add(hash)),
                // Dropped meanwhile: then compaction has got there, and knows.
                Err(_) if lock(&self.values.shared.physical).done > physical.done => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    /// The hashes of what is dead at the view's compaction point and was not at `done`.
    fn not_yet_dead(&self, done: i64) -> Result<u64, Fault> {
        let shared = Arc::clone(&self.values.shared);
        let mut hash = 0u64;
        let changes = shared.log.changes(Revision::new(done.max(0) + 1, 0), self.root.compacted);
        for next in self.values.rest.among(changes) {
            let next = next?;
            let effect = compaction::effect(&next, done, self.root.compacted);
            if let Some(replaced) = effect.replaced {
                hash = hash.wrapping_add(change(&shared.log.read(replaced)?));
            }
            if effect.tombstone_hashed {
                hash = hash.wrapping_add(change(&next));
            }
        }
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_matters() {
        let base = [7u8; 37];
        let mut seen = std::collections::HashSet::new();
        assert!(seen.insert(bytes(1, &base)));
        assert!(seen.insert(bytes(2, &base)));
        for bit in 0..base.len() * 8 {
            let mut other = base;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(bytes(1, &other)), "bit {bit}");
        }
        for len in 0..base.len() {
            assert!(seen.insert(bytes(1, &base[..len])), "length {len}");
        }
    }

    #[test]
    fn the_function_never_changes() {
        assert_eq!([bytes(0, b""), bytes(3, b"ketch"), bytes(3, b"eight or more")], GOLDEN);
    }

    const GOLDEN: [u64; 3] = [1240548846944876420, 8692780674775091262, 9577171264960842060];
}
