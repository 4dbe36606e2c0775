//! Which records of a segment have had their checksum verified since the store was opened: one bit for each place where a change can begin.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::rows::{CHUNKS, FIRST_CHUNK, place};

/// No two changes begin in the same piece of so many bytes: frame, header and the least of a key-value have forty.
const GRAIN: usize = 32;

/// Grows with the highest place asked for; bits are set by whoever reads, without a lock.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS + 5],
}

impl Verified {
    /// Whether the change at this offset was verified.
    #[inline]
    pub(crate) fn contains(&self, offset: u32) -> bool {
        let (chunk, at) = place(offset as usize / GRAIN);
        let words = self.chunks.get(chunk).and_then(OnceLock::get);
        words.is_some_and(|words| words[at / 64].load(Ordering::Relaxed) >> (at % 64) & 1 == 1)
    }

    pub(crate) fn insert(&self, offset: u32) {
        let (chunk, at) = place(offset as usize / GRAIN);
        let Some(cell) = self.chunks.get(chunk) else { return };
        let words =
            cell.get_or_init(|| (0..(FIRST_CHUNK << chunk) / 64).map(|_| AtomicU64::new(0)).collect());
        words[at / 64].fetch_or(1 << (at % 64), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_a_bit_of_its_own() {
        let verified = Verified::default();
        let places = [0, 40, 80, 40 * 63, 40 * 64, 1 << 15, 1 << 20, u32::MAX - 40];
        for (i, &place) in places.iter().enumerate() {
            assert!(!verified.contains(place));
            verified.insert(place);
            places.iter().enumerate().for_each(|(j, &other)| assert_eq!(verified.contains(other), j <= i));
        }
        assert!(!verified.contains(u32::MAX) && !verified.contains(120));
    }
}
