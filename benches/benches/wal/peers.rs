//! Other logs written in Rust: TiKV's raft-engine and okaywal.

use std::path::Path;
use std::time::Duration;

use crate::{Contender, Failure, Figure, drive};

struct RaftEngine {
    engine: raft_engine::Engine,
    data: Vec<u8>,
    figure: Figure,
}

/// Compression off, as for data that does not compress; old values purged between slices; files of the size that ketch's segments have, filled ahead
/// and recycled: six of them, since as many as its threshold holds are filled when it opens.
pub(crate) fn raft_engine(dir: &Path, figure: Figure) -> Result<Box<dyn Contender>, Failure> {
    let config = raft_engine::Config {
        dir: dir.to_string_lossy().into_owned(),
        enable_log_recycle: true,
        prefill_for_recycle: true,
        target_file_size: raft_engine::ReadableSize::mb(64),
        purge_threshold: raft_engine::ReadableSize::mb(256),
        batch_compression_threshold: raft_engine::ReadableSize(0),
        ..raft_engine::Config::default()
    };
    let engine = raft_engine::Engine::open(config)?;
    Ok(Box::new(RaftEngine { engine, data: vec![0x5a; figure.record], figure }))
}

impl Contender for RaftEngine {
    fn slice(&mut self, time: Duration) -> Result<f64, Failure> {
        let rate = drive(self.figure.writers, time, |writer| {
            let mut batch = raft_engine::LogBatch::default();
            let put = batch.put(writer as u64 + 1, b"k".to_vec(), self.data.clone());
            put.is_ok() && self.engine.write(&mut batch, true).is_ok()
        });
        self.engine.purge_expired_files()?;
        Ok(rate)
    }
}

struct OkayWal {
    log: okaywal::WriteAheadLog,
    data: Vec<u8>,
    figure: Figure,
}

pub(crate) fn okaywal(dir: &Path, figure: Figure) -> Result<Box<dyn Contender>, Failure> {
    let log = okaywal::WriteAheadLog::recover(dir, okaywal::LogVoid)?;
    Ok(Box::new(OkayWal { log, data: vec![0x5a; figure.record], figure }))
}

impl Contender for OkayWal {
    fn slice(&mut self, time: Duration) -> Result<f64, Failure> {
        Ok(drive(self.figure.writers, time, |_| {
            let Ok(mut entry) = self.log.begin_entry() else { return false };
            entry.write_chunk(&self.data).is_ok() && entry.commit().is_ok()
        }))
    }
}
