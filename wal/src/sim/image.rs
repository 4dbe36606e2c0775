//! What a simulated disk holds: live content as the process sees it, durable content as a crash leaves it, and
//! the changes between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// One change of a file that is not durable yet.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

/// One file, whatever its name.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) live: Vec<u8>,
    durable: Arc<Vec<u8>>,
    pending: Vec<Change>,
    /// Ranges that readers hold, as maps would.
    held: Vec<(u64, u64, Weak<()>)>,
    /// Open handles, by process.
    pub(super) handles: BTreeMap<u64, u32>,
}

/// One change of a folder that is not durable yet.
#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, u64),
    Unset(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Set(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Unset(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }

    /// The names it changes.
    fn names(&self) -> impl Iterator<Item = &Path> {
        let (one, other) = match self {
            NameChange::Set(path, _) | NameChange::Unset(path) => (path, None),
            NameChange::Rename(from, to, _) => (from, Some(to)),
        };
        [Some(one), other].into_iter().flatten().map(PathBuf::as_path)
    }
}

/// A change of names, and the folders that must be synced yet before it is durable.
#[derive(Debug, Clone)]
struct PendingName {
    change: NameChange,
    folders: BTreeSet<PathBuf>,
}

/// All files and names.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<PendingName>,
    next_inode: u64,
}

/// Something that a crash decides on its own: how many of its versions there are, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Name(usize),
    Length(u64),
    Sector(u64, u64),
}

impl Inode {
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset as usize + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
            self.pending.push(Change::Length(end as u64));
        }
        self.live[offset as usize..end].copy_from_slice(bytes);
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.live.resize(len as usize, 0);
        self.pending.push(Change::Length(len));
    }

    pub(super) fn sync(&mut self) {
        let durable = Arc::make_mut(&mut self.durable);
        for change in self.pending.drain(..) {
            match change {
                Change::Length(len) => durable.resize(len as usize, 0),
                Change::Write { offset, bytes } => {
                    let at = offset as usize;
                    durable[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
    }

    /// A reader takes a range; the guard says how long.
    pub(super) fn hold(&mut self, offset: u64, len: u64, guard: &Arc<()>) {
        if self.held.len() == self.held.capacity() {
            self.held.retain(|(_, _, guard)| guard.strong_count() > 0);
        }
        self.held.push((offset, len, Arc::downgrade(guard)));
    }

    /// True when a reader holds a byte of the range.
    pub(super) fn is_held(&self, offset: u64, len: u64) -> bool {
        self.held.iter().any(|(at, held, guard)| {
            guard.strong_count() > 0 && *at < offset.saturating_add(len) && offset < at + held
        })
    }

    pub(super) fn opened(&mut self, process: u64) {
        *self.handles.entry(process).or_insert(0) += 1;
    }

    pub(super) fn closed(&mut self, process: u64) {
        if let Some(count) = self.handles.get_mut(&process) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&process);
            }
        }
    }

    pub(super) fn flip(&mut self, bit: u64) {
        let (at, mask) = ((bit / 8) as usize, 1 << (bit % 8));
        self.live[at] ^= mask;
        if let Some(byte) = Arc::make_mut(&mut self.durable).get_mut(at) {
            *byte ^= mask;
        }
    }

    /// The sectors with changes, and how many changes each saw.
    fn sectors(&self, sector_bytes: u64) -> BTreeMap<u64, u32> {
        let mut sectors = BTreeMap::new();
        for change in &self.pending {
            if let Change::Write { offset, bytes } = change
                && !bytes.is_empty()
            {
                for sector in offset / sector_bytes..=(offset + bytes.len() as u64 - 1) / sector_bytes {
                    *sectors.entry(sector).or_insert(0) += 1;
                }
            }
        }
        sectors
    }

    fn lengths(&self) -> u32 {
        self.pending.iter().filter(|change| matches!(change, Change::Length(_))).count() as u32
    }

    /// The content after a crash that kept, of each unit, the version `kept` says.
    fn crashed(&self, sector_bytes: u64, mut kept: impl FnMut(Option<u64>) -> u32) -> Arc<Vec<u8>> {
        if self.pending.is_empty() {
            return Arc::clone(&self.durable);
        }
        let lengths = self.pending.iter().filter_map(|change| match change {
            Change::Length(len) => Some(*len),
            Change::Write { .. } => None,
        });
        let lengths: Vec<u64> = lengths.collect();
        let len = if lengths.is_empty() { 0 } else { kept(None) };
        let len = if len == 0 { self.durable.len() as u64 } else { lengths[len as usize - 1] };
        let mut content = Vec::clone(&self.durable);
        content.resize(content.len().max(self.live.len()).max(len as usize), 0);
        let mut left: BTreeMap<u64, u32> =
            self.sectors(sector_bytes).into_keys().map(|sector| (sector, kept(Some(sector)))).collect();
        for change in &self.pending {
            if let Change::Write { offset, bytes } = change {
                keep_sectors(&mut content, *offset, bytes, sector_bytes, &mut left);
            }
        }
        content.truncate(len as usize);
        Arc::new(content)
    }
}

/// Applies the sectors of one write that are still to be kept.
fn keep_sectors(
    content: &mut Vec<u8>,
    offset: u64,
    bytes: &[u8],
    sector_bytes: u64,
    left: &mut BTreeMap<u64, u32>,
) {
    let end = offset + bytes.len() as u64;
    let mut at = offset;
    while at < end {
        let sector = at / sector_bytes;
        let stop = end.min((sector + 1) * sector_bytes);
        if let Some(count) = left.get_mut(&sector).filter(|count| **count > 0) {
            *count -= 1;
            if content.len() < stop as usize {
                content.resize(stop as usize, 0);
            }
            let piece = &bytes[(at - offset) as usize..(stop - offset) as usize];
            content[at as usize..stop as usize].copy_from_slice(piece);
        }
        at = stop;
    }
}

impl Image {
    pub(super) fn add(&mut self, path: &Path) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode::default());
        self.names.insert(path.to_owned(), self.next_inode);
        self.pend(NameChange::Set(path.to_owned(), self.next_inode));
        self.next_inode
    }

    pub(super) fn remove(&mut self, path: &Path) -> Option<u64> {
        let inode = self.names.remove(path)?;
        self.pend(NameChange::Unset(path.to_owned()));
        Some(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Option<()> {
        let inode = self.names.remove(from)?;
        self.names.insert(to.to_owned(), inode);
        self.pend(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Some(())
    }

    fn pend(&mut self, change: NameChange) {
        let folders = change.names().filter_map(Path::parent).map(Path::to_owned).collect();
        self.pending_names.push(PendingName { change, folders });
    }

    /// A rename from one folder to another is durable when both are synced. Until then nothing else about its two names is.
    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let durable = &mut self.durable_names;
        let mut undecided = BTreeSet::new();
        self.pending_names.retain_mut(|pending| {
            pending.folders.remove(dir);
            let waits =
                !pending.folders.is_empty() || pending.change.names().any(|name| undecided.contains(name));
            if waits {
                undecided.extend(pending.change.names().map(Path::to_owned));
            } else {
                pending.change.apply(durable);
            }
            waits
        });
    }

    pub(super) fn inode(&mut self, number: u64) -> Option<&mut Inode> {
        self.inodes.get_mut(&number)
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.names
            .values()
            .filter_map(|number| self.inodes.get(number))
            .map(|inode| inode.live.len() as u64)
            .sum()
    }

    /// A failed sync: what was pending is decided now, and no later sync makes up for it.
    pub(super) fn fail_sync(&mut self, number: u64, sector_bytes: u64, mut choose: impl FnMut(u32) -> u32) {
        let Some(inode) = self.inodes.get_mut(&number) else { return };
        let (lengths, sectors) = (inode.lengths(), inode.sectors(sector_bytes));
        let durable = inode.crashed(sector_bytes, |unit| match unit {
            None => choose(lengths + 1),
            Some(sector) => choose(sectors.get(&sector).map_or(1, |versions| versions + 1)),
        });
        // A length that got lost would come back with the next change of length; the later writes need the room.
        let mut durable = Arc::unwrap_or_clone(durable);
        durable.resize(inode.live.len(), 0);
        inode.durable = Arc::new(durable);
        inode.pending.clear();
    }

    fn units(&self, sector_bytes: u64) -> Vec<(Unit, u32)> {
        let mut units: Vec<_> = (0..self.pending_names.len()).map(|i| (Unit::Name(i), 2)).collect();
        for (&number, inode) in self.inodes.iter().filter(|(_, inode)| !inode.pending.is_empty()) {
            if inode.lengths() > 0 {
                units.push((Unit::Length(number), inode.lengths() + 1));
            }
            let sectors = inode.sectors(sector_bytes);
            units.extend(sectors.into_iter().map(|(sector, n)| (Unit::Sector(number, sector), n + 1)));
        }
        units
    }

    /// How many versions each undecided unit has.
    pub(super) fn versions(&self, sector_bytes: u64) -> Vec<u32> {
        self.units(sector_bytes).into_iter().map(|(_, versions)| versions).collect()
    }

    /// The image that a crash leaves which keeps version `kept[i]` of unit `i`; units beyond the slice are lost.
    pub(super) fn crashed(&self, sector_bytes: u64, kept: &[u32]) -> Image {
        let units = self.units(sector_bytes);
        let chosen: BTreeMap<Unit, u32> = units
            .iter()
            .enumerate()
            .map(|(i, (unit, _))| (*unit, kept.get(i).copied().unwrap_or(0)))
            .collect();
        let pick = |unit: Unit| chosen.get(&unit).copied().unwrap_or(0);
        let mut names = self.durable_names.clone();
        for (i, pending) in self.pending_names.iter().enumerate() {
            if pick(Unit::Name(i)) > 0 {
                pending.change.apply(&mut names);
            }
        }
        let mut inodes = BTreeMap::new();
        for number in names.values() {
            let Some(inode) = self.inodes.get(number) else { continue };
            let durable = inode.crashed(sector_bytes, |unit| match unit {
                None => pick(Unit::Length(*number)),
                Some(sector) => pick(Unit::Sector(*number, sector)),
            });
            inodes.insert(*number, Inode { live: Vec::clone(&durable), durable, ..Inode::default() });
        }
        Image {
            inodes,
            durable_names: names.clone(),
            names,
            pending_names: Vec::new(),
            next_inode: self.next_inode,
        }
    }

    /// Drops a file that has no name any more and no handle.
    pub(super) fn forget(&mut self, number: u64) {
        let used = self.inodes.get(&number).is_some_and(|inode| !inode.handles.is_empty());
        let named = used
            || self.names.values().chain(self.durable_names.values()).any(|n| *n == number)
            || self.pending_names.iter().any(|pending| match pending.change {
                NameChange::Set(_, n) | NameChange::Rename(_, _, n) => n == number,
                NameChange::Unset(_) => false,
            });
        if !named {
            self.inodes.remove(&number);
        }
    }
}
