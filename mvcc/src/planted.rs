//! Bugs on purpose, behind the test-only feature `planted`: each is a mistake somebody could make here, and the tests prove
//! that they would notice it. Without the feature every check is the constant `false`.

/// A mistake. The tests activate one at a time, on their own thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "planted", expect(missing_docs, reason = "the names say it"))]
#[cfg_attr(not(feature = "planted"), expect(unreachable_pub, reason = "public with the feature"))]
pub enum Bug {
    CompactionKeepsTombstones,
    CompactionDropsTombstonesAtThePoint,
    CompactionForgetsTheReplaced,
    CompactionPointOffByOne,
    CompactionForgottenAtRestart,
    WatcherSkipsARevisionAtTheHandOver,
    WatcherNeverLost,
    ProgressOvertakesEvents,
    BatchEndsInsideARevision,
    PreviousOfTheSameTransaction,
    EncodingsShared,
    FiltersSwapped,
    AppliedIndexApartFromData,
    RewriteLosesTheNewestVersion,
    RewriteDropsWhatTheCheckpointDoesNotKnow,
    CheckpointAheadOfTheLog,
    CheckpointForgetsMarks,
    TablesOutsideTheBatch,
    TombstoneStaysLive,
    CountForgetsCreations,
    SubRevisionsBackwards,
    LimitBeforeFilters,
    KeysOnlyWithLease,
    PinsUncommittedRoots,
    AdoptionSkipsWatchers,
    PlacesAsForeseen,
}

#[cfg(feature = "planted")]
impl Bug {
    /// All of them.
    pub const ALL: [Bug; 26] = [
        Bug::CompactionKeepsTombstones,
        Bug::CompactionDropsTombstonesAtThePoint,
        Bug::CompactionForgetsTheReplaced,
        Bug::CompactionPointOffByOne,
        Bug::CompactionForgottenAtRestart,
        Bug::WatcherSkipsARevisionAtTheHandOver,
        Bug::WatcherNeverLost,
        Bug::ProgressOvertakesEvents,
        Bug::BatchEndsInsideARevision,
        Bug::PreviousOfTheSameTransaction,
        Bug::EncodingsShared,
        Bug::FiltersSwapped,
        Bug::AppliedIndexApartFromData,
        Bug::RewriteLosesTheNewestVersion,
        Bug::RewriteDropsWhatTheCheckpointDoesNotKnow,
        Bug::CheckpointAheadOfTheLog,
        Bug::CheckpointForgetsMarks,
        Bug::TablesOutsideTheBatch,
        Bug::TombstoneStaysLive,
        Bug::CountForgetsCreations,
        Bug::SubRevisionsBackwards,
        Bug::LimitBeforeFilters,
        Bug::KeysOnlyWithLease,
        Bug::PinsUncommittedRoots,
        Bug::AdoptionSkipsWatchers,
        Bug::PlacesAsForeseen,
    ];
}

#[cfg(feature = "planted")]
mod active {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Makes this thread's stores have `bug`, and no other.
    pub fn plant(bug: Option<Bug>) {
        ACTIVE.set(bug);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        ACTIVE.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use active::plant;
#[cfg(feature = "planted")]
pub(crate) use active::planted;

#[cfg(not(feature = "planted"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
