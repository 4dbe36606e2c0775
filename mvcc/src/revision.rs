//! Revisions: the store's logical clock, and the two words every version of a key is named by.

use std::fmt;

/// The name of one version of one key: the transaction's main revision and the place of the change
/// inside that transaction.
///
/// Ordered by main revision, then by sub revision, which is the order of all changes in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision {
    /// The transaction's revision; the first write of a store has 2.
    pub main: i64,
    /// The change's place inside its transaction, counted from 0.
    pub sub: u32,
}

impl Revision {
    /// No revision at all: before everything.
    pub const NONE: Revision = Revision { main: 0, sub: 0 };

    /// The revision of the change numbered `sub` in transaction `main`.
    pub const fn new(main: i64, sub: u32) -> Revision {
        Revision { main, sub }
    }

    /// Whether this names no version.
    pub const fn is_none(self) -> bool {
        self.main == 0
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}
