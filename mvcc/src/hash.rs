//! The hash of one version, and what a hash of the whole store is made of.
//!
//! The store's hash is the sum, modulo 2^64, of the hashes of its versions. A sum does not depend on order or layout, so
//! it is kept up to date by adding what is written and subtracting what compaction kills, and it is equal on every store
//! with the same history, whenever each of them compacted physically.

use crate::log::record::Change;

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
        assert_eq!(bytes(0, b""), bytes(0, b""));
        assert_eq!([bytes(0, b""), bytes(3, b"ketch"), bytes(3, b"eight or more")], GOLDEN);
    }

    const GOLDEN: [u64; 3] = [0, 0, 0];
}
