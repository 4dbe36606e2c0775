//! The revision log is written back and synced piece by piece: one large sync would stand in front of everybody else's small ones.

use ketch_wal::Progress;

use crate::error::Fault;
use crate::shared::{Shared, lock};
use crate::types::Applied;

/// A slice that never stands long in front of the raft log's sync.
const SLICE_BYTES: usize = 256 << 10;

/// How far a log was synced.
#[derive(Debug, Default)]
pub(crate) struct WriteBack {
    /// The log's byte counter at the last sync.
    synced_bytes: u64,
}

impl WriteBack {
    /// Writes back a slice where the log goes through the system's memory; syncs once `sync_bytes` follow the last sync. True when more
    /// is to be written back.
    pub(crate) fn step(&mut self, shared: &Shared, sync_bytes: u64) -> Result<bool, Fault> {
        let wal = &shared.log.wal;
        let progress = wal.step(SLICE_BYTES).map_err(Fault::log("write back the revision log"))?;
        let written = wal.stats().bytes;
        if written - self.synced_bytes >= sync_bytes {
            self.synced_bytes = written;
            sync(shared)?;
        }
        Ok(progress == Progress::More)
    }
}

/// Makes everything written so far durable.
pub(crate) fn sync(shared: &Shared) -> Result<Applied, Fault> {
    let upto = shared.log.wal.sync().map_err(Fault::log("sync the revision log"))?;
    Ok(lock(&shared.durability).advance(upto))
}
