//! Options of a store, with units and dangers.

use bytes::Bytes;

/// How a store lays itself out and how much it keeps at hand. `Default` suits a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// A segment of the revision log is closed once it has this many bytes.
    pub segment_bytes: u64,
    /// What the first block of each segment carries; opening a directory with other metadata is the caller's to refuse.
    pub metadata: Bytes,
    /// Never sync: a crash of the machine may lose everything, also one after a later opening without this option, until the system has
    /// written what was left to it (`sync`). For tests and bulk loads only.
    pub unsafe_no_sync: bool,
    /// Only read; nothing on disk is changed. Nobody may be writing: a checkpoint that appears meanwhile can make the folder look damaged.
    pub read_only: bool,
    /// A checkpoint is due when this many versions follow the last one, and a quarter of its keys.
    pub checkpoint_versions: u64,
    /// The background syncs the log once this many bytes follow the durable end.
    pub sync_bytes: u64,
    /// Roots of the recent past that are kept for reads at older revisions, beside those of open lists. Under random writes
    /// each may hold a copy of as many index nodes, of about 2 KB with their parents, as revisions lie between two of them.
    pub ring_roots: usize,
    /// At least so many revisions lie between two of them.
    pub ring_revisions: i64,
    /// Roots pinned for lists that are read page by page; the one used longest ago goes first.
    pub open_lists: usize,
    /// A segment is rewritten when at least this share of its versions is dead, in percent.
    pub rewrite_dead_percent: u32,
    /// The most events the hub keeps for watchers that are a little behind.
    pub watch_window_events: usize,
    /// The most bytes of them. What falls out is read from the log again.
    pub watch_window_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            metadata: Bytes::new(),
            unsafe_no_sync: false,
            read_only: false,
            checkpoint_versions: 100_000,
            sync_bytes: 4 << 20,
            ring_roots: 4,
            ring_revisions: 1000,
            open_lists: 64,
            rewrite_dead_percent: 50,
            watch_window_events: 8192,
            watch_window_bytes: 16 << 20,
        }
    }
}
