//! Saving a frozen root, a slice at a time. Writers never wait: the root is copied on write like any reader's.
//!
//! Order on disk: the log is synced through the root; the file is written beside the old one and synced; then it is
//! renamed into place and the folder synced. A crash before the rename leaves the old checkpoint, whose log is complete,
//! because nothing is dropped from the log that the checkpoint in place does not know to be dead.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ketch_wal::{DiskFile, Leaving, Position, SegmentId, WriteBehind};

use super::format::{self, Header};
use crate::compaction::Scan;
use crate::error::{Fault, FaultKind};
use crate::log::rewrite::Rewriter;
use crate::log::segment::Dead;
use crate::planted::{Bug, planted};
use crate::shared::{Root, Shared};
use crate::store::Progress;

/// What is known of the checkpoint in place, and the one in the making.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// The log's end at the checkpoint in place; the start of the log when there is none.
    pub(crate) end: Position,
    /// Versions ever written, and the compaction point physically reached, as of the checkpoint in place.
    pub(crate) versions: u64,
    pub(crate) done: i64,
    /// The dead that the checkpoint in place knows: only these may be dropped.
    pub(crate) dead: HashMap<SegmentId, Dead>,
    making: Option<Making>,
    /// Those that were in place before.
    leaving: Leaving,
    /// The log's byte counter when the last one was begun, and how long it got.
    begun_at: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Making {
    root: Arc<Root>,
    header: Header,
    dead: HashMap<SegmentId, Dead>,
    file: Arc<dyn DiskFile>,
    temporary: PathBuf,
    offset: u64,
    chunks: u64,
    /// The key to go on from.
    next: Option<Vec<u8>>,
    write_behind: WriteBehind,
    synced: bool,
}

impl Checkpoints {
    /// No checkpoint in place.
    pub(crate) fn none() -> Checkpoints {
        Checkpoints { done: -1, ..Checkpoints::default() }
    }

    /// The checkpoint in place has this header and knows these dead.
    pub(crate) fn at(header: &Header, dead: HashMap<SegmentId, Dead>) -> Checkpoints {
        Checkpoints {
            end: header.end,
            versions: header.written.versions,
            done: header.physical.done,
            dead,
            ..Checkpoints::default()
        }
    }

    pub(crate) fn is_making(&self) -> bool {
        self.making.is_some()
    }

    /// Gives up the one in the making, if that is what `fault` is about: the one in place stays what it is, and the store
    /// has lost nothing. Any other fault is handed back.
    pub(crate) fn give_up(&mut self, shared: &Shared, fault: Fault) -> Result<(), Fault> {
        let temporary = shared.dir.join(super::TEMPORARY);
        if !fault.is_of_file(&temporary) {
            return Err(fault);
        }
        self.making = None;
        // Its space is given back if the disk lets us; else the next one, or the next start, does so.
        let _ = shared.disk.remove(&temporary);
        Ok(())
    }

    /// Begins a checkpoint when enough has happened since the last one, between two searches for the dead.
    pub(crate) fn begin_if_due(
        &mut self,
        shared: &Shared,
        scan: &Scan,
        rewriter: &Rewriter,
    ) -> Result<(), Fault> {
        if self.making.is_some() || scan.at_rest().is_none() || rewriter.is_busy() {
            return Ok(());
        }
        let root = shared.root.get();
        let tail = root.written.versions.saturating_sub(self.versions);
        let grown = tail >= shared.options.checkpoint_versions.max(root.tree.count().entries / 4);
        // Tables, and values that are large, make a long tail of few versions.
        let tail_bytes = shared.log.wal.stats().bytes.saturating_sub(self.begun_at);
        let grown = grown || tail_bytes >= shared.options.segment_bytes.max(4 * self.bytes);
        // A finished search whose dead would be worth dropping needs a checkpoint that knows them.
        let found = scan.at_rest().is_some_and(|physical| physical.done > self.done)
            && Rewriter::is_worthwhile(shared, |segment| segment.dead().count);
        if grown || found {
            self.begin(shared, scan)?;
        }
        Ok(())
    }

    /// Begins a checkpoint of the newest root.
    pub(crate) fn begin(&mut self, shared: &Shared, scan: &Scan) -> Result<(), Fault> {
        let Some(physical) = scan.at_rest() else { return Ok(()) };
        let root = shared.root.get();
        self.begun_at = shared.log.wal.stats().bytes;
        let header = Header {
            end: root.end,
            revision: root.revision,
            compacted: root.compacted,
            applied: root.applied,
            written: root.written,
            physical,
            keys: root.tree.count().entries,
        };
        let set = shared.log.set();
        let dead = set.segments().iter().map(|segment| (segment.id(), segment.dead().clone()));
        let dead: HashMap<SegmentId, Dead> =
            dead.filter(|(_, dead)| dead.count > 0 && !planted(Bug::CheckpointForgetsMarks)).collect();
        let temporary = shared.dir.join(super::TEMPORARY);
        match shared.disk.remove(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Fault::io("remove", &temporary)(error));
            }
            _ => {}
        }
        let file = shared.disk.create(&temporary).map_err(Fault::io("create", &temporary))?;
        let mut making = Making {
            root,
            header,
            dead,
            file,
            temporary,
            offset: 0,
            chunks: 0,
            next: Some(Vec::new()),
            write_behind: WriteBehind::default(),
            synced: false,
        };
        making.write_head()?;
        self.making = Some(making);
        Ok(())
    }

    /// Writes up to `budget` entries of the checkpoint in the making, or finishes it.
    pub(crate) fn step(&mut self, shared: &Shared, budget: usize) -> Result<Progress, Fault> {
        let Some(making) = &mut self.making else {
            let more = self.leaving.step(&*shared.disk, &shared.dir);
            return Ok(if more { Progress::More } else { Progress::Idle });
        };
        if making.next.is_some() {
            making.write_keys(budget)?;
        } else if !making.synced {
            making.sync(shared)?;
        } else {
            if let Some(earlier) = making.put_in_place(shared)? {
                self.leaving.add(earlier);
            }
            if let Some(done) = self.making.take() {
                self.end = done.header.end;
                self.versions = done.header.written.versions;
                self.done = done.header.physical.done;
                self.dead = done.dead;
                self.bytes = done.offset;
            }
        }
        Ok(Progress::More)
    }
}

impl Making {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.file.write_at(self.offset, bytes).map_err(Fault::io("write", &self.temporary))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn write_chunk(&mut self, content: &[u8]) -> Result<(), Fault> {
        if content.len() > format::CHUNK_MAX {
            // Better no new checkpoint than one that cannot be loaded.
            return Err(Fault::new(FaultKind::Misuse { rule: "an entry of a checkpoint fits into a chunk" }));
        }
        let mut out = Vec::with_capacity(format::CHUNK_HEADER + content.len());
        format::chunk(self.chunks, content, &mut out);
        self.chunks += 1;
        self.write(&out)
    }

    /// Everything but the keys.
    fn write_head(&mut self) -> Result<(), Fault> {
        let mut out = format::MAGIC.to_vec();
        out.extend_from_slice(&format::VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        self.write(&out)?;
        let mut content = Vec::new();
        self.header.encode(&mut content);
        self.write_chunk(&content)?;
        let mut marked: Vec<SegmentId> = self.dead.keys().copied().collect();
        marked.sort_unstable();
        for id in marked {
            content.clear();
            format::encode_dead(id, &self.dead[&id], &mut content);
            self.write_chunk(&content)?;
        }
        let root = Arc::clone(&self.root);
        for (id, table) in root.tables.iter() {
            content.clear();
            content.extend_from_slice(&[format::TABLE, id.0]);
            for (key, value) in table.iter() {
                format::encode_table_entry(key, value, &mut content);
                if content.len() >= format::CHUNK_FULL {
                    self.write_chunk(&content)?;
                    content.truncate(2);
                }
            }
            self.write_chunk(&content)?;
        }
        Ok(())
    }

    fn write_keys(&mut self, budget: usize) -> Result<(), Fault> {
        let from = self.next.take().unwrap_or_default();
        let root = Arc::clone(&self.root);
        let mut content = vec![format::KEYS];
        for (written, (key, head)) in root.tree.iter_from(&from).enumerate() {
            if written >= budget || content.len() >= format::CHUNK_FULL {
                self.next = Some(key.to_vec());
                break;
            }
            format::encode_key(key, head, &mut content);
        }
        self.write_chunk(&content)?;
        // Written back as it grows, so that the sync at the end is short; and no faster than the disk takes it, so that no other file's
        // sync stands behind much of it.
        let outcome = self.write_behind.wrote(&*self.file, self.offset, 0);
        outcome.map_err(Fault::io("write back", &self.temporary))?;
        if self.next.is_none() {
            self.write_chunk(&[format::END])?;
        }
        Ok(())
    }

    fn sync(&mut self, shared: &Shared) -> Result<(), Fault> {
        let ahead = planted(Bug::CheckpointAheadOfTheLog);
        if shared.log.wal.durable_upto() < self.header.end && !ahead {
            shared.log.wal.sync().map_err(Fault::log("sync the revision log"))?;
        }
        if !shared.options.unsafe_no_sync {
            self.file.sync().map_err(Fault::io("sync", &self.temporary))?;
        }
        self.synced = true;
        Ok(())
    }

    /// Gives the file that was in place before, which has no name now.
    fn put_in_place(&self, shared: &Shared) -> Result<Option<Arc<dyn DiskFile>>, Fault> {
        let path = shared.dir.join(super::FILE);
        // It may not be there, and it may go all at once.
        let earlier = shared.disk.open(&path, true).ok();
        shared.disk.rename(&self.temporary, &path).map_err(Fault::io("put in place", &path))?;
        shared.disk.sync_dir(&shared.dir).map_err(Fault::io("sync", &shared.dir))?;
        Ok(earlier)
    }
}
