//! Deliberate faults, one at a time, to show that the tests find each of them. Without the feature `planted` this is nothing.

/// A fault that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted"), expect(unreachable_pub, reason = "public with the feature"))]
pub enum Bug {
    /// The folder is not synced when a segment gets its name.
    FolderNotSynced,
    /// A segment gets its name before its header is synced.
    HeaderNotSynced,
    /// Records are acknowledged without a sync.
    AcknowledgedBeforeSync,
    /// A rotation forgets that the segment it leaves is not synced.
    RotatedSegmentNotSynced,
    /// A new life goes on with the epoch of the one before.
    EpochKept,
    /// Checksums are not bound to a place, and the order of batches is not looked at.
    StaleRecordAccepted,
    /// A failed sync is reported once and forgotten.
    SyncErrorForgotten,
    /// A reopened log trusts what it read and does not write it anew.
    TailNotSettled,
    /// Whatever is not valid is a torn tail.
    DamageCut,
    /// A purge takes one segment too many.
    PurgedTooMuch,
    /// A purged segment's file goes before the record of the purge is durable.
    PurgedTooEarly,
    /// A batch that ends at the very end of a segment is thought to fit.
    FullSegmentOffByOne,
    /// Batches say that the log is durable up to what was written.
    DurableOverclaimed,
    /// The checksum does not cover the length.
    LengthNotCovered,
    /// Every checksum is taken for right: lets a fuzzer past them, to what the decoder does with bytes that make no sense.
    ChecksumIgnored,
    /// A file becomes a spare while a reader holds bytes of it.
    RecycledUnderReader,
    /// A batch counts without its commit frame.
    HalfBatchAccepted,
    /// A truncation is not recorded.
    TruncationForgotten,
    /// Opening removes the files that a purge let go before the record of the purge is durable.
    FolderSettledFirst,
    /// A file that comes from another log's folder gets its new name without a sync of that folder.
    OtherFolderNotSynced,
    /// A file that is gone and not named by the latest layout is thought to prove that this layout is durable.
    LatestLayoutTrusted,
}

#[cfg(feature = "planted")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a fault in this thread, or takes it out again.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use switch::plant;
#[cfg(feature = "planted")]
pub(crate) use switch::planted;

/// Nothing is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
