//! A simulated disk that crashes, tears, reorders and fails: the twin of [`RealDisk`](crate::RealDisk).
//!
//! It keeps two images: what the process sees, and what a crash would leave. Until a file is synced, every sector of every
//! write, every change of length, every creation, rename and removal is undecided; a crash decides each of
//! them on its own, so writes get lost, torn and reordered in every way that the obligations of [`disk`](crate::disk) allow.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//! use ketch_wal::{Batch, Options, Wal, sim::SimDisk};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let disk = SimDisk::new(7);
//! let options = Options { segment_bytes: 16 << 10, ..Options::default() };
//! let wal = Wal::open(disk.clone(), Path::new("/log"), options.clone())?.wal;
//! let mut batch = Batch::new();
//! batch.push(1, &[b"acknowledged"]);
//! let kept = wal.commit(&mut batch)?;
//! batch.clear();
//! batch.push(1, &[b"never synced"]);
//! wal.append(&mut batch)?;
//! drop(wal);
//!
//! disk.crash();
//! let wal = Wal::open(disk, Path::new("/log"), options)?.wal;
//! assert_eq!(&wal.read(kept.first)?.data[..], b"acknowledged");
//! # Ok(())
//! # }
//! ```

mod file;
mod image;

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, Space};
use file::SimFile;
use image::Image;

/// What a simulated disk is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the methods of the seam")]
pub enum Op {
    List,
    Create,
    Open,
    Rename,
    Remove,
    SyncDir,
    Read,
    Write,
    ZeroFill,
    SetLen,
    WriteBack,
    Sync,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device fails.
    Eio,
    /// The disk is full.
    NoSpace,
    /// A write puts down this many bytes, then the device fails.
    Short(usize),
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::Eio | Fault::Short(_) => io::Error::other("injected: input/output error"),
            Fault::NoSpace => io::ErrorKind::StorageFull.into(),
        }
    }
}

type Hook = Arc<dyn Fn(&SimDisk, Op, &Path) + Send + Sync>;

/// A simulated disk; see the [module](self). Clones share the disk.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    /// Whose handles count for [`DiskFile::in_use`].
    process: u64,
}

struct Shared {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

struct State {
    image: Image,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    /// Handles of an earlier life are dead.
    life: u64,
    random: u64,
    sector_bytes: u64,
    capacity: Option<u64>,
    faults: Vec<(Op, u64, Fault)>,
    ops: u64,
    violations: u64,
    processes: u64,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimDisk").field("files", &state.image.names.len()).field("ops", &state.ops).finish()
    }
}

impl State {
    fn random(&mut self, below: u32) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.random;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % u64::from(below.max(1))) as u32
    }

    /// What a crash keeps: mostly a mixture, sometimes all, nothing, or everything up to a point.
    fn choose(&mut self, versions: &[u32]) -> Vec<u32> {
        let (style, cut) = (self.random(6), self.random(versions.len() as u32 + 1) as usize);
        let mut kept = Vec::with_capacity(versions.len());
        for (i, &n) in versions.iter().enumerate() {
            kept.push(match style {
                0 => 0,
                1 => n - 1,
                2 if i < cut => n - 1,
                2 => 0,
                _ => self.random(n),
            });
        }
        kept
    }

    /// The fault for this operation, if one is due.
    fn due(&mut self, op: Op) -> Option<Fault> {
        self.ops += 1;
        let mut due = None;
        self.faults.retain_mut(|(of, left, fault)| {
            if *of != op || due.is_some() {
                return true;
            }
            if *left == 0 {
                due = Some(*fault);
                return false;
            }
            *left -= 1;
            true
        });
        due
    }
}

impl SimDisk {
    /// An empty disk; all its chance comes from the seed.
    pub fn new(seed: u64) -> Arc<SimDisk> {
        SimDisk::with(Image::default(), BTreeSet::new(), seed, 512)
    }

    fn with(image: Image, dirs: BTreeSet<PathBuf>, random: u64, sector_bytes: u64) -> Arc<SimDisk> {
        let state = State {
            image,
            dirs,
            locks: BTreeSet::new(),
            life: 0,
            random,
            sector_bytes,
            capacity: None,
            faults: Vec::new(),
            ops: 0,
            violations: 0,
            processes: 0,
        };
        let shared = Shared { state: Mutex::new(state), hook: Mutex::new(None) };
        Arc::new(SimDisk { shared: Arc::new(shared), process: 0 })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The smallest unit that a crash keeps or loses, in bytes: 512 (the default) or 4096.
    pub fn set_sector_bytes(&self, bytes: u64) {
        self.state().sector_bytes = bytes.max(1);
    }

    /// Growing the files beyond this many bytes in all fails as a full disk does.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// After `skip` more operations of this kind, the next one fails.
    pub fn fail(&self, op: Op, skip: u64, fault: Fault) {
        self.state().faults.push((op, skip, fault));
    }

    /// Forgets all faults that are not due yet.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Calls `hook` before every operation: to crash there, to count, or to wait (latency). `None` ends it.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Operations so far.
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// Writes over bytes that a reader held: always a fault of the code under test, 0 if it is right.
    pub fn violations(&self) -> u64 {
        self.state().violations
    }

    /// The power fails: what was not synced is kept, lost or torn as the seed has it. Open handles and locks are dead.
    pub fn crash(&self) {
        let mut state = self.state();
        let sector_bytes =
            if state.random(4) == 0 { 4096.max(state.sector_bytes) } else { state.sector_bytes };
        let versions = state.image.versions(sector_bytes);
        let kept = state.choose(&versions);
        state.image = state.image.crashed(sector_bytes, &kept);
        state.life += 1;
        state.locks.clear();
        state.faults.clear();
    }

    /// The process dies and the machine lives: nothing is lost. Open handles and locks are dead.
    pub fn kill(&self) {
        let mut state = self.state();
        state.life += 1;
        state.locks.clear();
        state.image.inodes.values_mut().for_each(|inode| inode.handles.clear());
    }

    /// The same disk as another process sees it: what is open there does not count as [in use](DiskFile::in_use) here. Power and
    /// [`kill`](SimDisk::kill) end all processes.
    pub fn another_process(&self) -> Arc<SimDisk> {
        let process = {
            let mut state = self.state();
            state.processes += 1;
            state.processes
        };
        Arc::new(SimDisk { shared: Arc::clone(&self.shared), process })
    }

    /// How many versions each unit has that a crash now would decide on, the oldest being 0.
    pub fn undecided(&self) -> Vec<u32> {
        let state = self.state();
        state.image.versions(state.sector_bytes)
    }

    /// Another disk: this one after a crash that kept version `kept[i]` of unit `i` of [`undecided`](SimDisk::undecided).
    pub fn crashed(&self, kept: &[u32]) -> Arc<SimDisk> {
        let state = self.state();
        let image = state.image.crashed(state.sector_bytes, kept);
        SimDisk::with(image, state.dirs.clone(), state.random ^ 1, state.sector_bytes)
    }

    /// The files, sorted by path.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().image.names.keys().cloned().collect()
    }

    /// A file's live content.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let number = state.image.names.get(path)?;
        state.image.inodes.get(number).map(|inode| inode.live.clone())
    }

    /// Puts a durable file there, in place of one that may be there, past the seam: to damage things.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        state.image.remove(path);
        let number = state.image.add(path);
        if let Some(inode) = state.image.inode(number) {
            inode.write(0, content);
            inode.sync();
        }
        let dir = path.parent().unwrap_or(Path::new("")).to_owned();
        state.image.sync_dir(&dir);
    }

    /// Removes a file durably, past the seam.
    pub fn lose(&self, path: &Path) {
        let mut state = self.state();
        state.image.remove(path);
        let dir = path.parent().unwrap_or(Path::new("")).to_owned();
        state.image.sync_dir(&dir);
    }

    /// Flips one bit of a file, on the disk as well as in memory. False when the file has no such bit.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> bool {
        let mut state = self.state();
        let Some(&number) = state.image.names.get(path) else { return false };
        match state.image.inode(number) {
            Some(inode) if bit / 8 < inode.live.len() as u64 => inode.flip(bit),
            _ => return false,
        }
        true
    }

    /// A hash of all names and live content: two runs of one seed give the same.
    pub fn digest(&self) -> u64 {
        let state = self.state();
        let mut hasher = DefaultHasher::new();
        for (path, number) in &state.image.names {
            path.hash(&mut hasher);
            state.image.inodes.get(number).map(|inode| &inode.live).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Runs the hook, counts, and fails if a fault is due.
    fn enter(&self, op: Op, path: &Path) -> Result<MutexGuard<'_, State>, (MutexGuard<'_, State>, Fault)> {
        let hook = self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook(self, op, path);
        }
        let mut state = self.state();
        match state.due(op) {
            None => Ok(state),
            Some(fault) => Err((state, fault)),
        }
    }

    fn enter_plain(&self, op: Op, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        self.enter(op, path).map_err(|(_, fault)| fault.error())
    }

    fn handle(&self, state: &mut State, path: &Path, number: u64, writable: bool) -> Arc<dyn DiskFile> {
        if let Some(inode) = state.image.inode(number) {
            inode.opened(self.process);
        }
        Arc::new(SimFile { disk: self.clone(), path: path.to_owned(), number, life: state.life, writable })
    }
}

/// The lock's name is free again once this is dropped.
struct LockGuard {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        for dir in dir.ancestors() {
            state.dirs.insert(dir.to_owned());
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.enter_plain(Op::List, dir)?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = state.image.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.enter_plain(Op::Create, path)?;
        if state.image.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|dir| state.dirs.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let number = state.image.add(path);
        Ok(self.handle(&mut state, path, number, true))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.enter_plain(Op::Open, path)?;
        let number = *state.image.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&mut state, path, number, writable))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.enter_plain(Op::Rename, from)?;
        state.image.rename(from, to).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.enter_plain(Op::Remove, path)?;
        state.image.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.enter_plain(Op::SyncDir, dir)?.image.sync_dir(dir);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.state();
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(LockGuard { disk: self.clone(), path: path.to_owned(), life: state.life }))
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let state = self.state();
        let total_bytes = state.capacity.unwrap_or(1 << 40);
        Ok(Space { free_bytes: total_bytes.saturating_sub(state.image.live_bytes()), total_bytes })
    }

    fn unique(&self) -> u64 {
        let mut state = self.state();
        (u64::from(state.random(u32::MAX)) << 32) | u64::from(state.random(u32::MAX))
    }
}
