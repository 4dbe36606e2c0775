//! What a receiver has of a snapshot, and who can go on from there.
//!
//! Members with one history and one compaction point have the same changes below any revision that all of them have reached: what was
//! received of one member's state is the beginning of every later one.
//!
//! ```text
//!  first sender:   tables | changes 2 … 700 | cut off
//!  receiver:       compacted to 40; has everything below 701
//!  second sender:  the same point, if it is at 700 at least: its own tables | changes 701 … | its own end
//! ```

use super::format::{CHANGES, Cursor, END, Point};
use crate::log::record::u64_at;
use crate::revision::Revision;
use crate::types::Applied;

/// How much a receiver has, and of which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub(super) at: Cursor,
    pub(super) point: Point,
}

/// Where a stream for a receiver begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Where it was cut off: the state is the same.
    Here(Cursor),
    /// With the tables, and then with this change: those before are the same. [`Revision::NONE`]: with all of them.
    Tables(Revision),
}

const BYTES: usize = 13 + 32;

impl Held {
    /// A receiver that has nothing yet.
    pub const NOTHING: Held = Held {
        at: Cursor::START,
        point: Point { revision: 0, compacted: 0, applied: Applied { index: 0, term: 0 } },
    };

    /// Up to where the receiver is in the stream that it was sent.
    pub fn cursor(&self) -> Cursor {
        self.at
    }

    /// As bytes, for the one who sends: the cursor, then revision, compaction point, raft index and term.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Point { revision, compacted, applied } = self.point;
        let mut out = self.at.to_bytes();
        for word in [revision as u64, compacted as u64, applied.index, applied.term] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Reads it back; `None` when the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Held> {
        if bytes.len() != BYTES {
            return None;
        }
        let at = Cursor::from_bytes(&bytes[..13])?;
        let word = |number: usize| u64_at(bytes, 13 + 8 * number);
        let applied = Applied { index: word(2)?, term: word(3)? };
        let point = Point { revision: word(0)? as i64, compacted: word(1)? as i64, applied };
        Some(Held { at, point })
    }

    /// Where a sender in the state `own` begins.
    pub(super) fn begin(&self, own: &Point) -> Begin {
        if self.at == Cursor::START {
            return Begin::Tables(Revision::NONE);
        }
        if self.point == *own {
            return Begin::Here(self.at);
        }
        let missing = match self.at.stage {
            CHANGES => self.at.revision,
            END => Revision::new(self.point.revision.saturating_add(1), 0),
            _ => Revision::NONE,
        };
        // What the sender has not got cannot be part of its state.
        let reached = missing <= Revision::new(own.revision.saturating_add(1), 0);
        let alike = self.point.compacted == own.compacted && reached;
        Begin::Tables(if alike { missing } else { Revision::NONE })
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{DONE, TABLES};
    use super::*;

    fn point(revision: i64, compacted: i64) -> Point {
        Point { revision, compacted, applied: Applied { index: revision as u64 * 2, term: 3 } }
    }

    fn held(stage: u8, main: i64, sub: u32) -> Held {
        Held { at: Cursor { stage, revision: Revision::new(main, sub) }, point: point(90, 7) }
    }

    #[test]
    fn bytes_come_back() {
        let some = held(CHANGES, 40, 2);
        let bytes = some.to_bytes();
        assert_eq!(Held::from_bytes(&bytes), Some(some));
        assert_eq!(Held::from_bytes(&Held::NOTHING.to_bytes()), Some(Held::NOTHING));
        assert_eq!(Held::from_bytes(&bytes[1..]), None);
        let mut wrong = bytes;
        wrong[0] = DONE + 1;
        assert_eq!(Held::from_bytes(&wrong), None);
    }

    #[test]
    fn a_sender_goes_on_where_the_state_is_the_same_or_begins_alike() {
        let from = |main, sub| Begin::Tables(Revision::new(main, sub));
        let anew = Begin::Tables(Revision::NONE);
        for (held, own, expected) in [
            (Held::NOTHING, point(90, 7), anew),
            (
                held(CHANGES, 40, 2),
                point(90, 7),
                Begin::Here(Cursor { stage: CHANGES, revision: Revision::new(40, 2) }),
            ),
            (
                held(END, 0, 0),
                point(90, 7),
                Begin::Here(Cursor { stage: END, revision: Revision::new(0, 0) }),
            ),
            // Later states with the same compaction point; earlier ones as far as they reach.
            (held(CHANGES, 40, 2), point(95, 7), from(40, 2)),
            (held(CHANGES, 40, 2), point(40, 7), from(40, 2)),
            (held(CHANGES, 40, 0), point(39, 7), from(40, 0)),
            (held(CHANGES, 40, 2), point(39, 7), anew),
            (held(CHANGES, 40, 0), point(38, 7), anew),
            (held(END, 0, 0), point(95, 7), from(91, 0)),
            (held(END, 0, 0), point(89, 7), anew),
            // Compacted differently: what is alive below differs.
            (held(CHANGES, 40, 2), point(95, 8), anew),
            (held(CHANGES, 40, 2), point(95, -1), anew),
            (held(TABLES, 5, 0), point(95, 7), anew),
            (held(DONE, 0, 0), point(95, 7), anew),
        ] {
            assert_eq!(held.begin(&own), expected, "{held:?} {own:?}");
        }
    }
}
