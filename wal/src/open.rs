//! Opening a log: find it or create it, settle what recovery found, begin a new life.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::Core;
use crate::disk::{Access, Disk};
use crate::error::{Error, OpenError};
use crate::folder::{Folder, SegmentFile};
use crate::format::HEADER_BYTES;
use crate::options::{Opened, Options, Recovery, Tail};
use crate::planted::{Bug, planted};
use crate::pool::Raw;
use crate::position::Position;
use crate::recovery::{self, Recovered};
use crate::segment::{self, Segment};
use crate::spares::Maker;
use crate::stage::Stage;
use crate::table::Table;
use crate::wal::Wal;

/// Held while a log is open for writing.
pub(crate) const LOCK_NAME: &str = "LOCK";
/// The tail is copied in pieces of this size.
const COPY_BYTES: u64 = 1 << 20;

pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Opened, OpenError> {
    options.check()?;
    let writable = !options.read_only;
    let mut guard = None;
    if writable {
        disk.create_dir_all(dir).map_err(|e| OpenError::io("create", dir, e))?;
        guard = Some(disk.lock(&dir.join(LOCK_NAME)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.to_owned() },
            _ => OpenError::io("lock", dir.join(LOCK_NAME), error),
        })?);
    }
    if !writable {
        let found = reaching(&options, recovery::find_shared(&*disk, dir, options.verify)?)?;
        let (folder, Some(found)) = found else { return Err(OpenError::NotALog { dir: dir.to_owned() }) };
        return view(disk, dir, options, folder, found);
    }
    match reaching(&options, recovery::find(&*disk, dir, options.verify)?)? {
        (_, Some(Recovered { tail: Tail::Torn { segment, offset, cut_bytes }, .. }))
            if !options.cut_torn_tail =>
        {
            Err(OpenError::Torn { segment, offset, cut_bytes })
        }
        (folder, Some(found)) => reopen(disk, dir, options, guard, folder, found),
        (folder, None) => create(disk, dir, options, guard, folder),
    }
}

type Found = (Folder, Option<Recovered>);

/// Refuses a log that is shorter than it must be.
fn reaching(options: &Options, found: Found) -> Result<Found, OpenError> {
    let (end, must_reach) = (found.1.as_ref().map_or(Position::START, |found| found.end), options.must_reach);
    if end < must_reach { Err(OpenError::Short { end, must_reach }) } else { Ok(found) }
}

type Guard = Option<Box<dyn std::any::Any + Send + Sync>>;

fn own_error(dir: &Path) -> impl Fn(Error) -> OpenError {
    let path = dir.to_owned();
    move |error| match error {
        Error::Io { operation, source } | Error::Poisoned { operation, source } => {
            OpenError::Io { operation, path: path.clone(), source }
        }
        other => OpenError::io("begin", path.clone(), io::Error::other(other.to_string())),
    }
}

fn create(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: Options,
    guard: Guard,
    folder: Folder,
) -> Result<Opened, OpenError> {
    let foreign = folder.foreign.clone();
    let next = folder.segments.keys().next_back().map_or(1, |last| last + 1);
    let leftovers = folder.segments.into_values().map(|file| file.path).chain(folder.temporary);
    for path in leftovers {
        disk.remove(&path).map_err(|e| OpenError::io("remove", &path, e))?;
    }
    disk.sync_dir(dir).map_err(|e| OpenError::io("sync", dir, e))?;
    let log_id = disk.unique();
    let metadata = options.metadata.clone();
    let maker = Maker::new(disk, dir, log_id, options, 1, next);
    let first = maker.first().map_err(|e| OpenError::io("begin", dir, e))?;
    let stage = Stage::new(Arc::clone(&first), HEADER_BYTES, 1, 1);
    let core = Core::new(maker, Table::new(vec![first], Vec::new()), stage, guard, 0);
    core.open_record(Position::START).map_err(own_error(dir))?;
    core.wait_durable(core.written()).map_err(own_error(dir))?;
    let recovery = Recovery {
        created: true,
        closed: false,
        tail: Tail::Clean,
        first: core.table().first(),
        end: core.written(),
        known_durable: core.written(),
        segments: 1,
        bytes_read: 0,
        metadata,
        foreign,
    };
    Ok(Opened { wal: Wal::new(core), recovery })
}

fn report(found: &Recovered, foreign: Vec<PathBuf>, first: Position, end: Position) -> Recovery {
    Recovery {
        created: false,
        closed: found.closed,
        tail: found.tail,
        first,
        end,
        known_durable: found.durable,
        segments: found.layout.segments.len(),
        bytes_read: found.bytes_read,
        metadata: found.metadata.clone(),
        foreign,
    }
}

fn table_of(folder: &mut Folder, found: &Recovered) -> Table {
    let mut order = Vec::with_capacity(found.layout.segments.len());
    for id in &found.layout.segments {
        if let Some(SegmentFile { header, file, path, end, footer, sealed, .. }) = folder.segments.remove(id)
        {
            let segment = Segment::new(&header, file, path);
            segment.set_end(end);
            if sealed {
                segment.seal(footer);
            }
            order.push(Arc::new(segment));
        }
    }
    Table::new(order, found.layout.dead.clone())
}

fn end_segment(table: &Table, end: Position, dir: &Path) -> Result<Arc<Segment>, OpenError> {
    let found = table.get(end.segment().0).cloned();
    // The layout was cut to end with this segment, and all of its files were found.
    found.ok_or_else(|| OpenError::io("find the last segment in", dir, io::ErrorKind::NotFound.into()))
}

fn reopen(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: Options,
    guard: Guard,
    mut folder: Folder,
    found: Recovered,
) -> Result<Opened, OpenError> {
    let next = folder.segments.keys().next_back().map_or(1, |last| last + 1);
    // In this order: the layout that lists a file no more may itself not be durable before.
    if !planted(Bug::FolderSettledFirst) {
        settle_tail(&folder, &found)?;
    }
    let raws = settle_folder(&*disk, dir, &options, &mut folder, &found)?;
    if planted(Bug::FolderSettledFirst) {
        settle_tail(&folder, &found)?;
    }
    let epoch = if planted(Bug::EpochKept) { Some(found.epoch) } else { found.epoch.checked_add(1) };
    let epoch = epoch.ok_or_else(|| {
        OpenError::io("open again", dir, io::Error::other("the log has been opened too many times"))
    })?;
    let maker = Maker::new(disk, dir, found.log_id, options, epoch, next);
    for raw in raws {
        if !maker.pool.give(raw.clone()) {
            maker.discard(&raw.path);
        }
    }
    let table = table_of(&mut folder, &found);
    let active = end_segment(&table, found.end, dir)?;
    let stage = Stage::new(active, found.end.offset(), epoch, found.sequence);
    let core = Core::new(maker, table, stage, guard, found.durable.as_u64());
    core.open_record(found.end).map_err(own_error(dir))?;
    core.wait_durable(core.written()).map_err(own_error(dir))?;
    let recovery = report(&found, folder.foreign, core.table().first(), core.written());
    Ok(Opened { wal: Wal::new(core), recovery })
}

fn view(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: Options,
    mut folder: Folder,
    found: Recovered,
) -> Result<Opened, OpenError> {
    let (end, epoch, sequence) = (found.end, found.epoch, found.sequence);
    let maker = Maker::new(disk, dir, found.log_id, options, epoch, u64::from(u32::MAX));
    let table = table_of(&mut folder, &found);
    let recovery = report(&found, folder.foreign.clone(), table.first(), end);
    let active = end_segment(&table, end, dir)?;
    let stage = Stage::new(active, end.offset(), epoch, sequence);
    let core = Core::new(maker, table, stage, None, found.durable.as_u64());
    Ok(Opened { wal: Wal::new(core), recovery })
}

/// Files that are not part of the log lose their names as segments, once the tail is durable and before the new life begins: what a cut
/// tail left must not be found again. Gives those that can become spares; on a full disk one of them goes, for the record of the new life may
/// need room.
fn settle_folder(
    disk: &dyn Disk,
    dir: &Path,
    options: &Options,
    folder: &mut Folder,
    found: &Recovered,
) -> Result<Vec<Raw>, OpenError> {
    let bytes = options.segment_bytes;
    let mut raws = Vec::new();
    let mut full = disk.space(dir).is_ok_and(|space| space.free_bytes < bytes);
    let gone: Vec<u64> =
        folder.segments.keys().copied().filter(|id| !found.layout.segments.contains(id)).collect();
    for id in gone {
        let Some(file) = folder.segments.remove(&id) else { continue };
        // A reader of an earlier opening may hold it still.
        let free = !file.file.in_use() || planted(Bug::RecycledUnderReader);
        let keep = options.zero_fill && file.header.filled && file.len == bytes && free;
        let path = segment::temporary_path(dir, "old", id);
        if keep && !std::mem::take(&mut full) {
            disk.rename(&file.path, &path).map_err(|e| OpenError::io("rename", &file.path, e))?;
            raws.push(Raw { path, bytes });
        } else {
            disk.remove(&file.path).map_err(|e| OpenError::io("remove", &file.path, e))?;
        }
    }
    for path in folder.temporary.drain(..) {
        if raws.iter().any(|raw| raw.path == path) {
            continue;
        }
        disk.remove(&path).map_err(|e| OpenError::io("remove", &path, e))?;
    }
    disk.sync_dir(dir).map_err(|e| OpenError::io("sync", dir, e))?;
    Ok(raws)
}

/// Makes durable what was found behind the last place known to be. An earlier process may have failed to sync it, and
/// then the system may hold it for clean and not on the disk: it is written anew, with the same bytes, before it is synced.
fn settle_tail(folder: &Folder, found: &Recovered) -> Result<(), OpenError> {
    for id in found.walked.iter().filter(|_| !planted(Bug::TailNotSettled)) {
        let Some(file) = folder.segments.get(id) else { continue };
        let io_error = |error| OpenError::io("settle", &file.path, error);
        if *id == found.end.segment().0 && !file.header.filled && file.len > file.end {
            file.file.set_len(file.end).map_err(io_error)?;
        }
        let from = if *id == found.durable.segment().0 { found.durable.offset() } else { HEADER_BYTES };
        let mut at = from.max(HEADER_BYTES);
        while *id >= found.durable.segment().0 && at < file.end {
            let piece = COPY_BYTES.min(file.end - at);
            let bytes = file.file.read(at, piece as usize, Access::Copy).map_err(io_error)?;
            file.file.write_at(at, &bytes).map_err(io_error)?;
            at += piece;
        }
        file.file.sync().map_err(io_error)?;
    }
    Ok(())
}
