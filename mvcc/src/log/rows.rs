//! A segment's table of contents: from a revision to the place of its record.
//!
//! The rows of the active segment are in memory, appended by the writer while readers search them; those of a sealed
//! segment are its footer, read through the map.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use ketch_wal::Batch;

use super::record::{FOOTER, ROW_BYTES, ROWS, ROWS_MAX, Row};
use crate::revision::Revision;

/// Rows in the first chunk; each further chunk has twice as many as the one before.
pub(super) const FIRST_CHUNK: usize = 1024;
/// Enough for any segment: 2^32 rows.
pub(super) const CHUNKS: usize = 23;

/// Rows that are still being appended to: one writer, any number of readers, no lock.
///
/// A row is two words written before `len` says it is there (release), and never after.
#[derive(Debug, Default)]
pub(crate) struct ActiveRows {
    chunks: [OnceLock<Box<[[AtomicU64; 2]]>>; CHUNKS],
    len: AtomicUsize,
    /// What the rows' records take up in the log.
    bytes: AtomicU64,
}

/// The chunk and the place in it of row `i`.
pub(super) fn place(i: usize) -> (usize, usize) {
    let n = i / FIRST_CHUNK + 1;
    let chunk = n.ilog2() as usize;
    (chunk, i - FIRST_CHUNK * ((1 << chunk) - 1))
}

impl ActiveRows {
    /// Appends a row; only ever called by the one writer. False when there is no room at all.
    #[must_use]
    pub(crate) fn push(&self, row: Row, bytes: u64) -> bool {
        let len = self.len.load(Ordering::Relaxed);
        let (chunk, at) = place(len);
        let Some(chunk_cell) = self.chunks.get(chunk) else { return false };
        let rows = chunk_cell.get_or_init(|| {
            (0..FIRST_CHUNK << chunk).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect()
        });
        let [main, place] = row.words();
        rows[at][0].store(main, Ordering::Relaxed);
        rows[at][1].store(place, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.len.store(len + 1, Ordering::Release);
        true
    }

    fn get(&self, i: usize) -> Option<Row> {
        let (chunk, at) = place(i);
        let [main, place] = self.chunks.get(chunk)?.get()?.get(at)?;
        Some(Row::from_words([main.load(Ordering::Relaxed), place.load(Ordering::Relaxed)]))
    }
}

/// See the file's comment.
#[derive(Debug)]
pub(crate) enum Rows {
    /// In memory, growing.
    Active(Box<ActiveRows>),
    /// A footer: its ROWS records, all but the last of them full.
    Sealed {
        /// The rows.
        chunks: Vec<Bytes>,
        /// Their number.
        len: usize,
        /// What their records take up; footers of the first version do not say.
        bytes: Option<u64>,
    },
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        match self {
            Rows::Active(rows) => rows.len.load(Ordering::Acquire),
            Rows::Sealed { len, .. } => *len,
        }
    }

    /// What the rows' records take up in the log, without frames of batches and other records; `None` when not known.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match self {
            Rows::Active(rows) => Some(rows.bytes.load(Ordering::Relaxed)),
            Rows::Sealed { bytes, .. } => *bytes,
        }
    }

    /// Row number `i`.
    pub(crate) fn get(&self, i: usize) -> Option<Row> {
        match self {
            Rows::Active(rows) if i < rows.len.load(Ordering::Acquire) => rows.get(i),
            Rows::Active(_) => None,
            Rows::Sealed { chunks, .. } => Row::decode(chunks.get(i / ROWS_MAX)?, i % ROWS_MAX),
        }
    }

    /// The number of rows below `revision`.
    pub(crate) fn below(&self, revision: Revision) -> usize {
        let (mut low, mut high) = (0, self.len());
        let revision_at = |i| self.get(i).map_or(Revision::NONE, |row| row.revision);
        // Main revisions are mostly consecutive: guess the place from the ends, then widen around the guess.
        if high > 0 {
            let (first, last) = (revision_at(0).main, revision_at(high - 1).main);
            let offset = revision.main.saturating_sub(first).max(0) as u128;
            let guess = offset * (high as u128 - 1) / (last.saturating_sub(first).max(1) as u128);
            let guess = usize::try_from(guess).unwrap_or(high).min(high - 1);
            (low, high) = widen(guess, high, |i| revision_at(i) < revision);
        }
        while low < high {
            let middle = (low + high) / 2;
            if revision_at(middle) < revision {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The number of the row of exactly `revision`.
    pub(crate) fn find(&self, revision: Revision) -> Option<(usize, Row)> {
        let at = self.below(revision);
        let row = self.get(at)?;
        (row.revision == revision).then_some((at, row))
    }
}

/// Bounds of the partition point of `is_below` in `0..len`, found in steps that double away from `guess`.
fn widen(guess: usize, len: usize, is_below: impl Fn(usize) -> bool) -> (usize, usize) {
    let mut step = 1;
    if is_below(guess) {
        let mut low = guess + 1;
        while low + step <= len && is_below(low + step - 1) {
            low += step;
            step *= 2;
        }
        (low, (low + step).min(len))
    } else {
        let mut high = guess;
        while high >= step && !is_below(high - step) {
            high -= step;
            step *= 2;
        }
        (high.saturating_sub(step), high)
    }
}

/// The footer of a segment with these rows, and its ROWS records.
pub(crate) fn footer(rows: &Rows) -> (Batch, Vec<Vec<u8>>) {
    let chunks = footer_chunks(rows);
    let mut footer = Batch::new();
    let (len, bytes) = (rows.len() as u64, rows.bytes().unwrap_or(0));
    footer.push(FOOTER, &[&len.to_le_bytes(), &bytes.to_le_bytes()]);
    for chunk in &chunks {
        footer.push(ROWS, &[chunk]);
    }
    (footer, chunks)
}

/// The ROWS records of a footer, cut to their greatest length.
fn footer_chunks(rows: &Rows) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    for start in (0..rows.len()).step_by(ROWS_MAX) {
        let end = rows.len().min(start + ROWS_MAX);
        let mut chunk = Vec::with_capacity((end - start) * ROW_BYTES);
        (start..end).filter_map(|i| rows.get(i)).for_each(|row| row.encode(&mut chunk));
        chunks.push(chunk);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(revisions: &[Revision]) -> [Rows; 2] {
        let active = ActiveRows::default();
        for (i, &revision) in revisions.iter().enumerate() {
            assert!(active.push(Row { revision, offset: i as u32 * 8 }, 8));
        }
        let active = Rows::Active(Box::new(active));
        let chunks = footer_chunks(&active).into_iter().map(Bytes::from).collect();
        let sealed = Rows::Sealed { chunks, len: revisions.len(), bytes: None };
        [active, sealed]
    }

    #[test]
    fn finds_every_row_and_no_other() {
        let dense: Vec<_> = (2..5000).map(|i| Revision::new(i, 0)).collect();
        let sparse: Vec<_> = (0..3000u32).map(|i| Revision::new(i64::from(i / 7 * i), i % 7)).collect();
        let lumpy: Vec<_> =
            (0..2000).map(|i| Revision::new(1, i)).chain([Revision::new(1 << 40, 0)]).collect();
        for mut revisions in [dense, sparse, lumpy, Vec::new()] {
            revisions.sort_unstable();
            revisions.dedup();
            for rows in filled(&revisions) {
                assert_eq!(rows.len(), revisions.len());
                for (i, &revision) in revisions.iter().enumerate() {
                    assert_eq!(
                        rows.find(revision).map(|(at, row)| (at, row.offset)),
                        Some((i, i as u32 * 8))
                    );
                    let other = Revision::new(revision.main, revision.sub + 1);
                    assert_eq!(rows.find(other).is_some(), revisions.binary_search(&other).is_ok());
                    assert_eq!(rows.below(other), revisions.partition_point(|&r| r < other));
                }
                assert_eq!(rows.below(Revision::new(i64::MAX, 0)), revisions.len());
                assert_eq!(rows.below(Revision::NONE), 0);
            }
        }
    }
}
