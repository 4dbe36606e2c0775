//! The record of the log's shape: encode and decode. Pure.

use crate::format::{u32_at, u64_at};

/// The log's own record: everything about the log's shape, complete each time it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    /// The end of the log before the batch with this record; for the first batch of a segment, the end of the one before.
    pub(crate) previous_end: u64,
    /// The live segments in the log's order, the one that holds this record last.
    pub(crate) segments: Vec<u64>,
    /// Truncated ranges of positions, sorted, apart from each other.
    pub(crate) dead: Vec<(u64, u64)>,
}

/// ```text
/// 0 previous end u64 | 8 runs u32 | 12 dead ranges u32 | runs: first segment u64, count u64 | ranges: from u64, to u64
/// ```
impl Layout {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let runs = self.runs();
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        out.extend_from_slice(&(runs.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.dead.len() as u32).to_le_bytes());
        for (a, b) in runs.iter().chain(&self.dead) {
            out.extend_from_slice(&a.to_le_bytes());
            out.extend_from_slice(&b.to_le_bytes());
        }
    }

    fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for &segment in &self.segments {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == segment => *count += 1,
                _ => runs.push((segment, 1)),
            }
        }
        runs
    }

    /// `None` when the payload is not a layout, or names more segments than can be.
    pub(crate) fn decode(payload: &[u8]) -> Option<Layout> {
        if payload.len() < 16 {
            return None;
        }
        let (runs, dead) = (u32_at(payload, 8) as usize, u32_at(payload, 12) as usize);
        if payload.len() != 16 + 16 * (runs.checked_add(dead)?) {
            return None;
        }
        let pair = |i: usize| (u64_at(payload, 16 + 16 * i), u64_at(payload, 24 + 16 * i));
        let mut segments = Vec::new();
        for (first, count) in (0..runs).map(pair) {
            let end = first.checked_add(count)?;
            if end > u64::from(u32::MAX) || segments.len() as u64 + count > LAYOUT_SEGMENTS_MAX {
                return None;
            }
            segments.extend(first..end);
        }
        Some(Layout {
            previous_end: u64_at(payload, 0),
            segments,
            dead: (runs..runs + dead).map(pair).collect(),
        })
    }
}

/// More segments than this are refused, so that a made-up count cannot ask for all the memory.
pub(crate) const LAYOUT_SEGMENTS_MAX: u64 = 1 << 22;
