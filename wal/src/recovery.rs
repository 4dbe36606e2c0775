//! Finding the log in a folder: its shape, its end, and whether that end is clean, torn or damaged.
//!
//! The argument is in `docs/format/wal.md`. In short: the newest segment whose first record is a layout gives the shape. From
//! the last place that it proves durable, the frames are followed to the first that is not valid, P. If anything behind P
//! says that the log was durable beyond P, it is damage; otherwise the tail is torn there, and cut.

use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::{Damage, OpenError};
use crate::folder::{Folder, SegmentFile};
use crate::format::{HEADER_BYTES, KIND_LAYOUT, KIND_PART, NEXT_BUILT, Part};
use crate::layout::Layout;
use crate::options::{Tail, Verify};
use crate::planted::{Bug, planted};
use crate::position::Position;
use crate::scan::Found;
use crate::verify::verify_rest;
use crate::walk::{Stop, Walk};

/// How often a folder that changes all the time is looked at again.
const LOOKS_MAX: u32 = 1000;

/// The log that was found.
#[derive(Debug)]
pub(crate) struct Recovered {
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

/// Finds the log in a folder that nobody else writes to.
pub(crate) fn find(
    disk: &dyn Disk,
    dir: &Path,
    verify: Verify,
) -> Result<(Folder, Option<Recovered>), OpenError> {
    let mut folder = Folder { writable: true, ..Folder::default() };
    folder.look(disk, dir)?;
    let found = recover(&mut folder, verify)?;
    Ok((folder, found))
}

/// Finds a log that somebody may be writing to. Files may go, come, or become others between the listing and their turn: as long as the folder
/// changes, what seems to be wrong with it is looked at again. What was found whole need not be read again, so this comes to an end.
pub(crate) fn find_shared(
    disk: &dyn Disk,
    dir: &Path,
    verify: Verify,
) -> Result<(Folder, Option<Recovered>), OpenError> {
    let mut folder = Folder::default();
    let mut looks = 0;
    loop {
        let outcome = folder.look(disk, dir).and_then(|()| recover(&mut folder, verify));
        looks += 1;
        let sound = matches!(outcome, Ok(Some(_))) || !outcome.as_ref().err().is_none_or(may_pass);
        // Once more in any case: a writer that begins a new life cuts a file without changing a name.
        if sound || (looks > 1 && !folder.changed(disk, dir)) || looks >= LOOKS_MAX {
            return outcome.map(|found| (folder, found));
        }
    }
}

/// What another process's work on the folder can look like.
fn may_pass(error: &OpenError) -> bool {
    match error {
        OpenError::Damage(_) | OpenError::Foreign { .. } => true,
        OpenError::Io { source, .. } => {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

/// `None` when there is no log, or only one whose creation was never finished.
fn recover(folder: &mut Folder, verify: Verify) -> Result<Option<Recovered>, OpenError> {
    let Some((newest, first)) = newest(folder)? else {
        prove_unborn(folder)?;
        return Ok(None);
    };
    let log_id = folder.segments[&newest].header.log_id;
    if let Some(other) = folder.segments.values().find(|file| file.header.log_id != log_id) {
        let reason = format!("it belongs to log {:016x}, the others to {log_id:016x}", other.header.log_id);
        return Err(OpenError::Foreign { path: other.path.clone(), reason });
    }
    let mut find = Find { folder: &mut *folder, walked: Vec::new(), bytes_read: 0 };
    let (walk, stop) = find.walk_tail(newest, &first)?;
    let (end, tail) = find.judge(&walk, stop)?;
    let (walked, mut bytes_read) = (std::mem::take(&mut find.walked), find.bytes_read);
    let mut layout = walk.layout.clone().unwrap_or(first.layout);
    // What the links led to beyond the cut is not part of the log.
    if let Some(last) = layout.segments.iter().position(|id| *id == end.segment().0) {
        layout.segments.truncate(last + 1);
    }
    bytes_read += verify_rest(folder, &layout, &walked, &walk, verify)?;
    let metadata = folder.segments.get(&end.segment().0).map(|file| file.header.metadata.clone());
    Ok(Some(Recovered {
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

pub(crate) fn damage(at: Position, expected: &str, found: &str, proof: &str) -> Damage {
    Damage {
        segment: at.segment(),
        offset: at.offset(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        proof: proof.to_owned(),
    }
}

pub(crate) fn missing(id: u64, proof: &str) -> OpenError {
    OpenError::Damage(damage(Position::new(id, 0), "the segment's file", "no such file", proof))
}

pub(crate) fn read_error(file: &SegmentFile) -> impl Fn(io::Error) -> OpenError {
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
        // What came before the newest segment is not proven durable as a whole: begin where it is.
        let base = Position::from_u64(durable).segment().0;
        let latest = walk.layout.as_ref().unwrap_or(&first.layout).segments.clone();
        let (longer, longer_stop) = self.walk_from(base)?;
        match longer_stop {
            // A file goes only once a layout that no longer names it is durable, and with that all that came before; but that need not be the
            // latest one. So the walk begins with what the latest one names.
            (id, Stop::Missing) if id < newest && !latest.contains(&id) => {
                if planted(Bug::LatestLayoutTrusted) {
                    self.walk_from(newest)?;
                    return accept(walk, stop);
                }
                let (walk, stop) = self.walk_from(self.first_appended(&latest))?;
                accept(walk, stop)
            }
            _ => accept(longer, longer_stop),
        }
    }

    /// The first segment from which on appended ones follow each other. What was replaced was durable then, and all before it.
    fn first_appended(&self, segments: &[u64]) -> u64 {
        let built = |id: &u64| self.folder.segments.get(id).is_some_and(|file| file.header.built);
        let behind = segments.iter().rposition(built).map_or(0, |at| at + 1);
        segments.get(behind).or(segments.last()).copied().unwrap_or(0)
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
