//! Segments made ready ahead of need, and files that go: filling, recycling, unlinking, a slice at a time.
//!
//! A spare is complete before it can be used: filled, its header durable, under its final name, the folder synced. So
//! beginning a segment costs an append nothing but the write itself. Numbers are given at the end of a preparation,
//! under one lock, so segments are begun in the order of their numbers.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};
use crate::header::SegmentHeader;
use crate::leaving::Leaving;
use crate::options::Options;
use crate::planted::{Bug, planted};
use crate::pool::{Pool, Raw};
use crate::segment::{self, Segment};
use crate::stats::{Counters, count};

/// So much of a new log's first segment is filled at a time.
const FIRST_SLICE_BYTES: usize = 1 << 20;

/// With less room than this, or than two segments take, files that go are not held back.
const SHORT_BYTES: u64 = 256 << 20;

/// What all files of a log have in common.
#[derive(Debug)]
pub(crate) struct Maker {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) log_id: u64,
    pub(crate) options: Options,
    pub(crate) pool: Arc<Pool>,
    /// Names of temporary files, different in every life of the log.
    temporaries: AtomicU64,
    ready: Mutex<VecDeque<Arc<Segment>>>,
    /// Files that could not be removed when their time had come.
    leftovers: Mutex<Vec<PathBuf>>,
    leaving: Leaving,
    /// The next segment's number. Held while a segment gets its number and its name.
    numbers: Mutex<u64>,
}

/// A file on its way to become a segment.
#[derive(Debug)]
pub(crate) struct Preparation {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    filled: u64,
    recycled: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Maker {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        log_id: u64,
        options: Options,
        life: u32,
        next: u64,
    ) -> Maker {
        let pool = options.pool.clone().unwrap_or_default();
        Maker {
            disk,
            dir: dir.to_owned(),
            log_id,
            options,
            pool,
            temporaries: AtomicU64::new(u64::from(life) << 32),
            ready: Mutex::default(),
            leftovers: Mutex::default(),
            leaving: Leaving::default(),
            numbers: Mutex::new(next),
        }
    }

    pub(crate) fn ready(&self) -> usize {
        lock(&self.ready).len()
    }

    fn temporary(&self) -> PathBuf {
        segment::temporary_path(&self.dir, "new", self.temporaries.fetch_add(1, Ordering::Relaxed))
    }

    fn create(&self) -> io::Result<Preparation> {
        let path = self.temporary();
        let file = self.disk.create(&path)?;
        Ok(Preparation { file, path, filled: 0, recycled: false })
    }

    /// A file from the pool under a temporary name; `None` when there is none.
    fn recycle(&self) -> Option<io::Result<Preparation>> {
        if !self.options.zero_fill {
            return None;
        }
        let path = self.temporary();
        let raw = self.pool.take(self.options.segment_bytes, |from| self.disk.rename(from, &path))?;
        let prepared = raw.and_then(|raw| self.begin_second_life(&raw, &path));
        // Whatever the error says, the rename may have happened.
        Some(prepared.inspect_err(|_| {
            self.discard(&path);
        }))
    }

    /// The new name is durable before the file's content changes: under its old name it might still be taken for what it was.
    fn begin_second_life(&self, raw: &Raw, path: &Path) -> io::Result<Preparation> {
        self.disk.sync_dir(&self.dir)?;
        let other = raw.path.parent().filter(|other| *other != self.dir);
        if let Some(other) = other.filter(|_| !planted(Bug::OtherFolderNotSynced)) {
            self.disk.sync_dir(other)?;
        }
        let file = self.disk.open(path, true)?;
        if file.len()? != raw.bytes {
            return Err(io::Error::other("a recycled file changed its length"));
        }
        Ok(Preparation { file, path: path.to_owned(), filled: raw.bytes, recycled: true })
    }

    /// The last step: header, name, folder. `numbers` is held by the caller.
    fn finish(
        &self,
        prepared: Preparation,
        id: u64,
        built: bool,
        generation: u32,
    ) -> io::Result<Arc<Segment>> {
        let header = SegmentHeader {
            log_id: self.log_id,
            segment: id,
            generation,
            built,
            recycled: prepared.recycled,
            filled: prepared.filled > 0,
            metadata: self.options.metadata.clone(),
        };
        let path = segment::path(&self.dir, id);
        self.name(&prepared, &header, &path).inspect_err(|_| {
            // The rename may have happened, whatever the error says.
            self.discard(&prepared.path);
            self.discard(&path);
        })?;
        Ok(Arc::new(Segment::new(&header, prepared.file, path)))
    }

    fn name(&self, prepared: &Preparation, header: &SegmentHeader, path: &Path) -> io::Result<()> {
        prepared.file.write_at(0, &header.encode())?;
        if !planted(Bug::HeaderNotSynced) {
            prepared.file.sync()?;
        }
        self.disk.rename(&prepared.path, path)?;
        if !planted(Bug::FolderNotSynced) {
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Removes a file that is not, or no longer, part of the log; now, or else by a later step. What is left when the process ends is removed
    /// when the log is opened again. True when the name is gone.
    pub(crate) fn discard(&self, path: &Path) -> bool {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                lock(&self.leftovers).push(path.to_owned());
                false
            }
            _ => true,
        }
    }

    /// One slice of what files without a name still take up; true when there is more to do. All of it where the disk is about to be full.
    pub(crate) fn give_back(&self) -> bool {
        if self.leaving.is_empty() {
            return false;
        }
        let short = (2 * self.options.segment_bytes).min(SHORT_BYTES);
        if self.disk.space(&self.dir).is_ok_and(|space| space.free_bytes < short) {
            self.leaving.let_go();
            return false;
        }
        self.leaving.step(&*self.disk, &self.dir)
    }

    /// Tries once more to remove what could not be removed.
    pub(crate) fn sweep(&self) {
        let mut leftovers = std::mem::take(&mut *lock(&self.leftovers));
        leftovers.extend(self.pool.rejected(&self.dir));
        for path in leftovers {
            self.discard(&path);
        }
    }

    fn number(next: &mut u64) -> io::Result<u64> {
        let id = *next;
        if id >= u64::from(u32::MAX) - 1 {
            return Err(io::Error::other("the log has used up its segment numbers"));
        }
        *next += 1;
        Ok(id)
    }

    /// The next segment for appends: a spare, or a file made on the spot.
    pub(crate) fn take(&self, counters: &Counters) -> io::Result<Arc<Segment>> {
        if let Some(spare) = lock(&self.ready).pop_front() {
            return Ok(spare);
        }
        let mut numbers = lock(&self.numbers);
        if let Some(spare) = lock(&self.ready).pop_front() {
            return Ok(spare);
        }
        count(&counters.spare_misses, 1);
        let prepared = match self.recycle() {
            Some(Ok(prepared)) => prepared,
            _ => self.create()?,
        };
        let id = Maker::number(&mut numbers).inspect_err(|_| {
            self.discard(&prepared.path);
        })?;
        self.finish(prepared, id, false, 0)
    }

    /// Gives back segments that were taken and not used; they stay in order.
    pub(crate) fn untake(&self, segments: Vec<Arc<Segment>>) {
        let mut ready = lock(&self.ready);
        for segment in segments.into_iter().rev() {
            ready.push_front(segment);
        }
    }

    /// A segment that takes no part in the order of appends.
    pub(crate) fn build(&self, generation: u32) -> io::Result<Arc<Segment>> {
        let id = Maker::number(&mut lock(&self.numbers))?;
        self.finish(self.create()?, id, true, generation)
    }

    /// The first segment of a new log, filled on the spot.
    pub(crate) fn first(&self) -> io::Result<Arc<Segment>> {
        let mut preparation = Some(self.create()?);
        while self.options.zero_fill && !self.fill(&mut preparation, FIRST_SLICE_BYTES)? {}
        let mut numbers = lock(&self.numbers);
        let id = Maker::number(&mut numbers)?;
        let prepared = preparation.take().ok_or_else(|| io::Error::other("a preparation got lost"))?;
        self.finish(prepared, id, false, 0)
    }

    /// Fills up to `budget` bytes more; true when the file is full.
    fn fill(&self, preparation: &mut Option<Preparation>, budget: usize) -> io::Result<bool> {
        let Some(prepared) = preparation else { return Ok(true) };
        let (from, whole) = (prepared.filled, self.options.segment_bytes);
        if !self.options.zero_fill || from >= whole {
            return Ok(true);
        }
        let to = from.saturating_add(budget.max(4096) as u64).min(whole);
        // No faster than the disk takes it: another file's sync stands behind one slice of zeroes, not behind a segment of them.
        prepared.file.await_write_back(0, from)?;
        prepared.file.zero_fill(to)?;
        prepared.file.write_back(from, to - from)?;
        prepared.filled = to;
        Ok(to == whole)
    }

    /// One slice of making a spare; true when there is more to do.
    pub(crate) fn prepare(
        &self,
        preparation: &mut Option<Preparation>,
        budget: usize,
        counters: &Counters,
    ) -> bool {
        if preparation.is_none() && self.ready() >= self.options.spare_segments {
            return false;
        }
        match self.try_prepare(preparation, budget, counters) {
            Ok(()) => true,
            Err(_) => {
                // No room, most likely: appends go on without spares, and the next step tries again.
                count(&counters.spare_failures, 1);
                if let Some(prepared) = preparation.take() {
                    self.discard(&prepared.path);
                }
                false
            }
        }
    }

    /// A spare must not take the last room on the disk from what has to be written: at least as much as it needs stays free.
    fn leave_room(&self, preparation: &Option<Preparation>) -> io::Result<()> {
        let whole = self.options.segment_bytes;
        let need = whole.saturating_sub(preparation.as_ref().map_or(0, |prepared| prepared.filled));
        if self.options.zero_fill && need > 0 && self.disk.space(&self.dir)?.free_bytes < need + whole {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn try_prepare(
        &self,
        preparation: &mut Option<Preparation>,
        budget: usize,
        counters: &Counters,
    ) -> io::Result<()> {
        if preparation.is_none() {
            *preparation = Some(match self.recycle() {
                Some(prepared) => {
                    let prepared = prepared?;
                    count(&counters.recycled, 1);
                    prepared
                }
                None => {
                    self.leave_room(&None)?;
                    self.create()?
                }
            });
            return Ok(());
        }
        self.leave_room(preparation)?;
        if !self.fill(preparation, budget)? {
            return Ok(());
        }
        // The long part of the sync happens before the lock is taken.
        if let Some(prepared) = preparation.as_ref() {
            prepared.file.sync()?;
        }
        let mut numbers = lock(&self.numbers);
        let id = Maker::number(&mut numbers)?;
        if let Some(prepared) = preparation.take() {
            let spare = self.finish(prepared, id, false, 0)?;
            lock(&self.ready).push_back(spare);
        }
        Ok(())
    }

    /// A segment that is no longer part of the log, durably so: its file becomes a future spare if nobody can ever read
    /// it again, and is removed otherwise. Gives it back while someone is just opening it.
    pub(crate) fn retire(&self, segment: Arc<Segment>) -> Result<(), Arc<Segment>> {
        let segment = Arc::try_unwrap(segment)?;
        let bytes = self.options.segment_bytes;
        let whole =
            self.options.zero_fill && !segment.built && segment.file.len().is_ok_and(|len| len == bytes);
        let free = whole && (!segment.file.in_use() || planted(Bug::RecycledUnderReader));
        let kept = free && self.pool.give(Raw { path: segment.path.clone(), bytes });
        if !kept && self.discard(&segment.path) {
            self.leaving.add(segment.file);
        }
        Ok(())
    }
}
