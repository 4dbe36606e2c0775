//! What the index says of a key: its newest version, and where the record of that lies.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ketch_wal::Position;

use super::marks::Mark;
use crate::revision::Revision;

/// What the index knows of a key: its newest version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The newest version.
    pub(crate) revision: Revision,
    /// Versions since the newest mark, or since the beginning.
    pub(crate) since_mark: u8,
    /// Where the present life began; 0 in a tombstone.
    pub(crate) create_revision: i64,
    /// Puts of the present life; 0 in a tombstone. At most [`Head::VERSION_MAX`].
    pub(crate) version: i64,
}

impl Head {
    /// What a leaf has room for, 2^55 - 1. Counting puts never comes near it; what comes from elsewhere is held against it.
    pub(crate) const VERSION_MAX: i64 = i64::MAX >> 8;

    /// Whether the key exists; otherwise its newest version is a tombstone.
    pub(crate) fn is_live(&self) -> bool {
        self.version > 0
    }
}

/// Milestones of a key's history.
pub(crate) type Marks = Arc<Mark>;

/// A head, where its record lies if that is known, and the marks of its older versions if there are so many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) head: Head,
    pub(crate) marks: Option<&'a Marks>,
    pub(super) place: Option<&'a AtomicU64>,
}

impl Deref for Entry<'_> {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl<'a> Entry<'a> {
    /// An entry of no tree.
    #[cfg(test)]
    pub(crate) fn apart(head: Head, marks: Option<&'a Marks>) -> Entry<'a> {
        Entry { head, marks, place: None }
    }

    /// Where the record of the newest version lies; `None` when the index does not know. The segment may have been rewritten
    /// since: then it is no longer part of the log.
    pub(crate) fn place(&self) -> Option<Position> {
        place_of(self.place?.load(Ordering::Relaxed))
    }

    /// Notes where it lies.
    pub(crate) fn found_at(&self, position: Position) {
        if let Some(place) = self.place {
            place.store(place_word(position, self.is_live()), Ordering::Relaxed);
        }
    }
}

/// In the word of a place: the version there is no tombstone. Records begin at multiples of eight.
pub(super) const LIVE: u64 = 1;

pub(super) fn place_word(place: Position, live: bool) -> u64 {
    place.as_u64() | if live { LIVE } else { 0 }
}

pub(super) fn place_of(word: u64) -> Option<Position> {
    let place = Position::from_u64(word & !LIVE);
    (place != Position::START).then_some(place)
}
