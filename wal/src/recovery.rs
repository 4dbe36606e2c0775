//! Finding the log in a folder: its shape, its end, and whether that end is clean, torn or damaged.
//!
//! The argument is in `docs/format/wal.md`. In short: the newest segment whose first record is a layout gives the shape. From
//! the last place that it proves durable, the frames are followed to the first that is not valid, P. If anything behind P
//! says that the log was durable beyond P, it is damage; otherwise the tail is torn there, and cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Damage, OpenError};
use crate::format::{
    FORMAT_VERSION, HEADER_BYTES, HeaderError, KIND_COMMIT, KIND_LAYOUT, KIND_PART, Layout, NEXT_BUILT,
    NEXT_NONE, PART_BYTES, Part, PartEnd, Seed, SegmentHeader,
};
use crate::options::{Tail, Verify};
use crate::planted::{Bug, planted};
use crate::position::{Position, SegmentId};
use crate::scan::{Found, Scanner};
use crate::segment::{self, Name};
use crate::walk::{Stop, Walk};

/// A file with the name and the header of a segment.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    /// Set once the end is known.
    pub(crate) end: u64,
    pub(crate) footer: u64,
    pub(crate) sealed: bool,
}

impl SegmentFile {
    fn seed(&self) -> Seed {
        Seed::new(self.header.log_id, self.header.segment, 1)
    }

    fn scanner(&self) -> Scanner {
        Scanner::new(Arc::clone(&self.file), self.len, Access::Copy)
    }
}

/// What lies in the folder.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) segments: BTreeMap<u64, SegmentFile>,
    pub(crate) temporary: Vec<PathBuf>,
    pub(crate) foreign: Vec<PathBuf>,
    /// Opened for writing, so nobody else writes.
    pub(crate) writable: bool,
}

/// The log that was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) folder: Folder,
    pub(crate) log_id: u64,
    pub(crate) epoch: u32,
    pub(crate) sequence: u64,
    pub(crate) layout: Layout,
    pub(crate) end: Position,
    pub(crate) durable: Position,
    pub(crate) tail: Tail,
    pub(crate) closed: bool,
    /// The segments that were walked for the end, in order: what they hold may not be durable yet.
    pub(crate) walked: Vec<u64>,
    pub(crate) bytes_read: u64,
    pub(crate) metadata: Bytes,
}

/// Looks at every file in the folder.
pub(crate) fn folder(disk: &dyn Disk, dir: &Path, writable: bool) -> Result<Folder, OpenError> {
    let mut folder = Folder { writable, ..Folder::default() };
    for name in disk.list(dir).map_err(|e| OpenError::io("list", dir, e))? {
        let path = dir.join(&name);
        match segment::parse_name(&name) {
            Name::Segment(id) => {
                let file = open_segment(disk, id, path, writable)?;
                folder.segments.insert(id, file);
            }
            Name::Temporary => folder.temporary.push(path),
            Name::Odd => {
                let reason = "its name is not one that the log gives".to_owned();
                return Err(OpenError::Foreign { path, reason });
            }
            Name::Foreign if name == crate::open::LOCK_NAME => {}
            Name::Foreign => folder.foreign.push(path),
        }
    }
    Ok(folder)
}

fn open_segment(disk: &dyn Disk, id: u64, path: PathBuf, writable: bool) -> Result<SegmentFile, OpenError> {
    let foreign = |path: &Path, reason: String| OpenError::Foreign { path: path.to_owned(), reason };
    let file = disk.open(&path, writable).map_err(|e| OpenError::io("open", &path, e))?;
    let len = file.len().map_err(|e| OpenError::io("measure", &path, e))?;
    let block = usize::try_from(len.min(HEADER_BYTES)).unwrap_or(0);
    let block = file.read(0, block, Access::Copy).map_err(|e| OpenError::io("read", &path, e))?;
    let header = match SegmentHeader::decode(&block) {
        Ok(header) => header,
        Err(HeaderError::Short) => {
            return Err(foreign(&path, format!("it has {len} bytes, a segment has at least {HEADER_BYTES}")));
        }
        Err(HeaderError::Magic) => return Err(foreign(&path, "it does not begin as a segment".to_owned())),
        Err(HeaderError::Version(found)) => {
            return Err(OpenError::Version { path, found, supported: FORMAT_VERSION });
        }
        Err(HeaderError::Check) => {
            return Err(OpenError::Damage(Damage {
                segment: SegmentId(id),
                offset: 0,
                expected: "a segment header".to_owned(),
                found: "a header whose checksum does not match".to_owned(),
                proof: "a header is durable before the file gets its name".to_owned(),
            }));
        }
    };
    if header.segment != id {
        return Err(foreign(&path, format!("it is segment {}, a copy or a renamed file", header.segment)));
    }
    Ok(SegmentFile { header, file, path, len, end: 0, footer: 0, sealed: false })
}

/// Finds the log; `None` when there is none, or only one whose creation was never finished.
pub(crate) fn recover(mut folder: Folder, verify: Verify) -> Result<Result<Recovered, Folder>, OpenError> {
    let Some((newest, first)) = newest(&folder)? else {
        prove_unborn(&folder)?;
        return Ok(Err(folder));
    };
    let log_id = folder.segments[&newest].header.log_id;
    if let Some(other) = folder.segments.values().find(|file| file.header.log_id != log_id) {
        let reason = format!("it belongs to log {:016x}, the others to {log_id:016x}", other.header.log_id);
        return Err(OpenError::Foreign { path: other.path.clone(), reason });
    }
    let mut find = Find { folder: &mut folder, walked: Vec::new(), bytes_read: 0 };
    let (walk, stop) = find.walk_tail(newest, &first)?;
    let (end, tail) = find.judge(&walk, stop)?;
    let (walked, mut bytes_read) = (std::mem::take(&mut find.walked), find.bytes_read);
    let mut layout = walk.layout.clone().unwrap_or(first.layout);
    // What the links led to beyond the cut is not part of the log.
    if let Some(last) = layout.segments.iter().position(|id| *id == end.segment().0) {
        layout.segments.truncate(last + 1);
    }
    bytes_read += verify_rest(&mut folder, &layout, &walked, &walk, verify)?;
    let metadata = folder.segments.get(&end.segment().0).map(|file| file.header.metadata.clone());
    Ok(Ok(Recovered {
        folder,
        log_id,
        epoch: walk.epoch,
        sequence: walk.sequence.unwrap_or(1),
        layout,
        end,
        durable: Position::from_u64(walk.durable),
        tail,
        closed: walk.closed && tail == Tail::Clean,
        walked,
        bytes_read,
        metadata: metadata.unwrap_or_default(),
    }))
}

fn damage(at: Position, expected: &str, found: &str, proof: &str) -> Damage {
    Damage {
        segment: at.segment(),
        offset: at.offset(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        proof: proof.to_owned(),
    }
}

fn missing(id: u64, proof: &str) -> OpenError {
    OpenError::Damage(damage(Position::new(id, 0), "the segment's file", "no such file", proof))
}

fn read_error(file: &SegmentFile) -> impl Fn(io::Error) -> OpenError {
    let path = file.path.clone();
    move |error| OpenError::io("read", path.clone(), error)
}

/// What a segment begins with: valid as two frames, whether or not their batch is whole.
struct First {
    layout: Layout,
    durable: u64,
}

/// The newest segment that was begun.
fn newest(folder: &Folder) -> Result<Option<(u64, First)>, OpenError> {
    for (&id, file) in folder.segments.iter().rev().filter(|(_, file)| !file.header.built) {
        if let Some(first) = first(file).map_err(read_error(file))?
            && first.layout.segments.last() == Some(&id)
        {
            return Ok(Some((id, first)));
        }
    }
    Ok(None)
}

fn first(file: &SegmentFile) -> io::Result<Option<First>> {
    let (mut scanner, seed) = (file.scanner(), file.seed());
    let Found::Frame(part) = scanner.frame(seed, HEADER_BYTES)? else { return Ok(None) };
    if part.header.kind != KIND_PART {
        return Ok(None);
    }
    let Found::Frame(record) = scanner.frame(seed, part.next())? else { return Ok(None) };
    let ours = record.header.kind == KIND_LAYOUT && record.header.epoch == part.header.epoch;
    let durable = Part::decode(&part.payload()).durable;
    let layout = if ours { Layout::decode(&record.payload()) } else { None };
    Ok(layout.map(|layout| First { layout, durable }))
}

/// No segment was begun: the creation was never finished, unless something says otherwise.
fn prove_unborn(folder: &Folder) -> Result<(), OpenError> {
    for (&id, file) in &folder.segments {
        let start = Position::new(id, HEADER_BYTES);
        if file.header.built {
            let found =
                damage(start, "the log it was built for", "no segment of it", "it was built for a log");
            return Err(OpenError::Damage(found));
        }
        let remains = file.scanner().remains(file.seed(), HEADER_BYTES, 1).map_err(read_error(file))?;
        if let Some((durable, offset)) = remains.durable
            && durable > start.as_u64()
        {
            let proof = proof(id, offset, durable);
            return Err(OpenError::Damage(damage(start, "the first batch", "no valid batch", &proof)));
        }
    }
    Ok(())
}

fn proof(id: u64, offset: u64, durable: u64) -> String {
    let durable = Position::from_u64(durable);
    format!("the batch at {} says that the log was durable up to {durable}", Position::new(id, offset))
}

struct Find<'a> {
    folder: &'a mut Folder,
    walked: Vec<u64>,
    bytes_read: u64,
}

impl Find<'_> {
    /// Walks from the last place that is proven durable to the first thing that does not belong.
    fn walk_tail(&mut self, newest: u64, first: &First) -> Result<(Walk, (u64, Stop)), OpenError> {
        let (walk, stop) = self.walk_from(newest)?;
        let durable = walk.durable.max(first.durable);
        if durable >= first.layout.previous_end {
            return accept(walk, stop);
        }
        // What came before the newest segment is not proven durable as a whole: begin where it is. A file that the
        // latest layout no longer names goes only once that layout is durable, and with it all that came before.
        let base = Position::from_u64(durable).segment().0;
        let latest = walk.layout.as_ref().unwrap_or(&first.layout).segments.clone();
        let (longer, longer_stop) = self.walk_from(base)?;
        match longer_stop {
            (id, Stop::Missing) if id < newest && !latest.contains(&id) => {
                self.walk_from(newest)?;
                accept(walk, stop)
            }
            _ => accept(longer, longer_stop),
        }
    }

    fn walk_from(&mut self, from: u64) -> Result<(Walk, (u64, Stop)), OpenError> {
        let mut walk = Walk::default();
        let mut id = from;
        self.walked.clear();
        loop {
            let Some(file) = self.folder.segments.get_mut(&id) else {
                return Ok((walk, (id, Stop::Missing)));
            };
            let (mut scanner, seed) = (file.scanner(), file.seed());
            let stop = walk.segment(&mut scanner, id, seed, HEADER_BYTES).map_err(read_error(file))?;
            self.bytes_read += scanner.bytes_read;
            self.walked.push(id);
            match stop {
                Stop::Next { next, end, footer } if next != NEXT_BUILT && next > id => {
                    (file.end, file.footer, file.sealed) = (end, footer, true);
                    id = next;
                }
                Stop::Next { end, .. } => {
                    let found = damage(
                        Position::new(id, end),
                        "a later segment",
                        "an earlier one",
                        "the log's order",
                    );
                    return Err(OpenError::Damage(found));
                }
                Stop::Bad { .. } | Stop::Missing => return Ok((walk, (id, stop))),
            }
        }
    }

    /// Torn or damaged: does anything behind the cut say that the log was durable beyond it?
    fn judge(&mut self, walk: &Walk, (id, stop): (u64, Stop)) -> Result<(Position, Tail), OpenError> {
        let (offset, found) = match stop {
            Stop::Bad { offset, found } => (offset, found),
            Stop::Missing | Stop::Next { .. } => (HEADER_BYTES, "no such file"),
        };
        let bad = Position::new(id, offset);
        let cut = walk.cut(bad);
        let mut cut_bytes = 0;
        let behind: Vec<u64> = self.folder.segments.range(cut.segment().0..).map(|(id, _)| *id).collect();
        for id in behind {
            let Some(file) = self.folder.segments.get(&id).filter(|file| !file.header.built) else {
                continue;
            };
            let from = if id == cut.segment().0 { cut.offset() } else { HEADER_BYTES };
            let remains = file.scanner().remains(file.seed(), from, walk.epoch).map_err(read_error(file))?;
            self.bytes_read += file.len - from.min(file.len);
            if let Some((durable, offset)) = remains.durable
                && durable > cut.as_u64()
                && !planted(Bug::DamageCut)
            {
                if self.goes_on(bad)? {
                    return Ok(self.cut_at(cut, 0));
                }
                let proof = proof(id, offset, durable);
                return Err(OpenError::Damage(damage(bad, "the next frame of the log", found, &proof)));
            }
            let written = match (file.header.filled, file.header.recycled) {
                (false, _) => file.len,
                // Nothing was written after a close: what is there was cut by an earlier life.
                (true, false) if walk.closed => 0,
                (true, false) => remains.last_written,
                // What a file in its second life holds beyond its end is its first.
                (true, true) => 0,
            };
            cut_bytes += remains.last_frame.max(written).saturating_sub(from);
        }
        if walk.durable > cut.as_u64() {
            let proof = proof(id, offset, walk.durable);
            return Err(OpenError::Damage(damage(bad, "the next frame of the log", found, &proof)));
        }
        Ok(self.cut_at(cut, cut_bytes))
    }

    /// The log ends at `cut`.
    fn cut_at(&mut self, cut: Position, cut_bytes: u64) -> (Position, Tail) {
        self.walked.retain(|walked| *walked <= cut.segment().0);
        if let Some(file) = self.folder.segments.get_mut(&cut.segment().0) {
            (file.end, file.footer, file.sealed) = (cut.offset(), 0, false);
        }
        let torn = Tail::Torn { segment: cut.segment(), offset: cut.offset(), cut_bytes };
        (cut, if cut_bytes == 0 { Tail::Clean } else { torn })
    }

    /// A log that is looked at without its lock may be written to meanwhile: true when frames are valid now that were not when they
    /// were walked. Then the end that was found is simply one that the log has had.
    fn goes_on(&mut self, bad: Position) -> Result<bool, OpenError> {
        let (false, Some(&from)) = (self.folder.writable, self.walked.first()) else { return Ok(false) };
        let (_, (id, stop)) = self.walk_from(from)?;
        let offset = if let Stop::Bad { offset, .. } = stop { offset } else { HEADER_BYTES };
        Ok(Position::new(id, offset) > bad)
    }
}

/// A segment's file is durable before another names it, so it is there; unless its batch is not whole, and an earlier recovery
/// had begun to cut it from its end.
fn accept(walk: Walk, stop: (u64, Stop)) -> Result<(Walk, (u64, Stop)), OpenError> {
    match stop {
        (id, Stop::Missing) if !walk.in_batch() => {
            Err(missing(id, "a segment's file is durable before another names it"))
        }
        _ => Ok((walk, stop)),
    }
}

/// Checks the segments of the layout that the walk did not go through: all of them are durable.
fn verify_rest(
    folder: &mut Folder,
    layout: &Layout,
    walked: &[u64],
    tail: &Walk,
    verify: Verify,
) -> Result<u64, OpenError> {
    let walked: BTreeSet<u64> = walked.iter().copied().collect();
    let mut bytes_read = 0;
    let mut linked: Option<(u64, Walk)> = None;
    for &id in &layout.segments {
        let Some(file) = folder.segments.get_mut(&id) else {
            return Err(missing(id, "the log's layout names it"));
        };
        let link = linked.take().filter(|(next, _)| *next == id).map(|(_, walk)| walk);
        if walked.contains(&id) {
            if let Some(before) = link
                && before.sequence != tail.first_sequence
            {
                let at = Position::new(id, HEADER_BYTES);
                return Err(OpenError::Damage(damage(
                    at,
                    "the next batch",
                    "a later one",
                    "the order of batches",
                )));
            }
            continue;
        }
        if verify == Verify::Tail && sealed_end(file).map_err(read_error(file))? {
            bytes_read += HEADER_BYTES;
            continue;
        }
        let mut walk = link.unwrap_or_default();
        let mut scanner = file.scanner();
        let stop = walk.segment(&mut scanner, id, file.seed(), HEADER_BYTES).map_err(read_error(file))?;
        bytes_read += scanner.bytes_read;
        match stop {
            Stop::Next { next, end, footer } => {
                (file.end, file.footer, file.sealed) = (end, footer, true);
                linked = Some((next, walk));
            }
            Stop::Missing => {}
            Stop::Bad { offset, found } => {
                let proof = "the log goes on in a later segment, which was begun after this one was complete";
                let at = Position::new(id, offset);
                return Err(OpenError::Damage(damage(at, "the next frame of the log", found, proof)));
            }
        }
    }
    Ok(bytes_read)
}

/// Reads the end of a sealed segment from the last bytes of its file, if it is there.
fn sealed_end(file: &mut SegmentFile) -> io::Result<bool> {
    if file.header.filled {
        return Ok(false);
    }
    let Some(offset) = file.len.checked_sub(PART_BYTES as u64).filter(|offset| *offset >= HEADER_BYTES)
    else {
        return Ok(false);
    };
    let Found::Frame(frame) = file.scanner().frame(file.seed(), offset)? else { return Ok(false) };
    if frame.header.kind != KIND_COMMIT {
        return Ok(false);
    }
    let end = PartEnd::decode(&frame.payload());
    if end.next == NEXT_NONE {
        return Ok(false);
    }
    (file.end, file.footer, file.sealed) = (file.len, u64::from(end.footer), true);
    Ok(true)
}
