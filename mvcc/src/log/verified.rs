//! Which records of a segment have had their checksum verified since the store was opened: one bit a row.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::rows::{CHUNKS, FIRST_CHUNK, place};

/// Grows like the rows themselves; bits are set by whoever reads, without a lock.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
}

impl Verified {
    pub(crate) fn contains(&self, row: usize) -> bool {
        let (chunk, at) = place(row);
        let words = self.chunks.get(chunk).and_then(OnceLock::get);
        words.is_some_and(|words| words[at / 64].load(Ordering::Relaxed) >> (at % 64) & 1 == 1)
    }

    pub(crate) fn insert(&self, row: usize) {
        let (chunk, at) = place(row);
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
    fn every_row_has_a_bit_of_its_own() {
        let verified = Verified::default();
        let rows = [0, 1, 63, 64, 1023, 1024, 3071, 3072, 1 << 20];
        for (i, &row) in rows.iter().enumerate() {
            assert!(!verified.contains(row));
            verified.insert(row);
            rows.iter().enumerate().for_each(|(j, &other)| assert_eq!(verified.contains(other), j <= i));
        }
        assert!(!verified.contains(usize::MAX / 2) && !verified.contains(2));
    }
}
