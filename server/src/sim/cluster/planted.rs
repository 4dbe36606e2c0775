//! Mistakes on purpose: each is one that somebody could make between the cores and their surroundings, made by the
//! simulated surroundings so that the cores stay clean. A test shows that each is found.

use super::options::Options;
use super::world::run;

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The log acknowledges before it has synced.
    AckBeforePersist,
    /// A member that believes it leads confirms reads by itself.
    ReadIndexWithoutQuorum,
    /// A read is answered as soon as its index is known, whatever is applied here.
    FollowerServesWhileBehind,
    /// A leader that was stopped and goes on serves reads until it hears of another one.
    StaleLeaderAfterPause,
    /// The raft log is purged up to what is applied, durable or not.
    PurgeAheadOfCheckpoint,
    /// After a restart the last command is applied once more.
    DuplicateApplyAfterRestart,
    /// One member passes over a raised alarm.
    AlarmLost,
    /// Request ids begin anew with each life of a member.
    RequestIdsStartAgain,
    /// One member applies large values differently, as its own flag says.
    ApplyReadsLocalFlag,
    /// The store's batch with the applied index is durable apart from its data.
    AppliedIndexApartFromData,
    /// A write is answered when it is proposed, before it is committed.
    AckBeforeCommit,
    /// A membership change takes effect in raft a second time after a restart.
    ConfChangeAppliedTwice,
    /// A snapshot says that it holds a batch that it does not hold.
    SnapshotMissesLastBatch,
    /// Entries that follow a snapshot are applied to the store from before it.
    EntriesAfterSnapshotToOldStore,
    /// A member goes on with a snapshot that another one began, though it has compacted further.
    RelayAcrossCompaction,
}

impl Bug {
    /// All of them, each with the scenario that is to find it.
    pub const ALL: [(Bug, &str); 15] = [
        (Bug::AckBeforePersist, "crash"),
        (Bug::ReadIndexWithoutQuorum, "network"),
        (Bug::FollowerServesWhileBehind, "network"),
        (Bug::StaleLeaderAfterPause, "pause"),
        (Bug::PurgeAheadOfCheckpoint, "crash"),
        (Bug::DuplicateApplyAfterRestart, "rolling"),
        (Bug::AlarmLost, "calm"),
        (Bug::RequestIdsStartAgain, "rolling"),
        (Bug::ApplyReadsLocalFlag, "calm"),
        (Bug::AppliedIndexApartFromData, "crash"),
        (Bug::AckBeforeCommit, "network"),
        (Bug::ConfChangeAppliedTwice, "members"),
        (Bug::SnapshotMissesLastBatch, "snapshot"),
        (Bug::EntriesAfterSnapshotToOldStore, "snapshot"),
        (Bug::RelayAcrossCompaction, "relay"),
    ];
}

/// The first seed below `seeds` at which `bug` is found in `scenario`.
#[must_use]
pub fn first_seed(bug: Bug, scenario: &str, seeds: u64) -> Option<u64> {
    (0..seeds).find(|&seed| {
        let options = Options::of(scenario, seed).map(|options| Options { planted: Some(bug), ..options });
        options.is_some_and(|options| run(&options).is_err())
    })
}
