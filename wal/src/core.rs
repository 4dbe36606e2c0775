//! What the parts of an open log share, and the duties that run in the background.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::Thread;

use crate::error::Error;
use crate::group::Group;
use crate::options::Options;
use crate::planted::{Bug, planted};
use crate::position::Position;
use crate::segment::Segment;
use crate::spares::{Maker, Preparation};
use crate::stage::Stage;
use crate::stats::Counters;
use crate::table::Table;
use crate::wal::Progress;
use crate::writer::Io;

pub(crate) struct Core {
    pub(crate) maker: Maker,
    pub(crate) group: Group,
    pub(crate) counters: Counters,
    table: RwLock<Table>,
    stage: Mutex<Stage>,
    io: Mutex<Io>,
    written: AtomicU64,
    duties: Mutex<Duties>,
    retired: Mutex<Vec<Retired>>,
    worker: Mutex<Option<Thread>>,
    _lock: Option<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("dir", &self.maker.dir)
            .field("written", &self.written())
            .field("durable", &Position::from_u64(self.group.durable()))
            .finish_non_exhaustive()
    }
}

/// The state of the background duties.
#[derive(Debug, Default)]
struct Duties {
    preparation: Option<Preparation>,
    write_back: Vec<Arc<Segment>>,
}

/// Segments that go once the record of their going is durable.
#[derive(Debug)]
struct Retired {
    after: Position,
    segments: Vec<Arc<Segment>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(
        maker: Maker,
        table: Table,
        stage: Stage,
        guard: Option<Box<dyn Any + Send + Sync>>,
        durable: u64,
    ) -> Core {
        let written = AtomicU64::new(stage.end().as_u64());
        Core {
            maker,
            group: Group::new(durable),
            counters: Counters::default(),
            table: RwLock::new(table),
            stage: Mutex::new(stage),
            io: Mutex::default(),
            written,
            duties: Mutex::default(),
            retired: Mutex::default(),
            worker: Mutex::default(),
            _lock: guard,
        }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.maker.options
    }

    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stage(&self) -> MutexGuard<'_, Stage> {
        lock(&self.stage)
    }

    pub(crate) fn io(&self) -> MutexGuard<'_, Io> {
        lock(&self.io)
    }

    /// The end of what reads can see.
    pub(crate) fn written(&self) -> Position {
        Position::from_u64(self.written.load(Ordering::Acquire))
    }

    pub(crate) fn set_written(&self, end: Position) {
        self.written.store(end.as_u64(), Ordering::Release);
    }

    /// Whether all below `upto` is durable; an error when it is not and never will be.
    pub(crate) fn is_durable(&self, upto: Position) -> Result<bool, Error> {
        if self.group.durable() >= upto.as_u64() {
            return Ok(true);
        }
        // Whoever reads only syncs nothing, so it knows no more than what the log itself proves.
        if self.options().read_only {
            return Err(Error::ReadOnly);
        }
        self.group.check().map(|()| false)
    }

    /// Returns once all below `upto` is durable.
    pub(crate) fn wait_durable(&self, upto: Position) -> Result<(), Error> {
        if self.options().read_only {
            return self.is_durable(upto).map(drop);
        }
        self.group.wait(upto.as_u64(), || self.sync_round())
    }

    /// The segments' files go once the log is durable up to `after`.
    pub(crate) fn retire(&self, segments: Vec<Arc<Segment>>, after: Position) {
        if !segments.is_empty() {
            lock(&self.retired).push(Retired { after, segments });
            self.call_worker();
        }
    }

    pub(crate) fn set_worker(&self, thread: Option<Thread>) {
        *lock(&self.worker) = thread;
    }

    /// There is something to do in the background.
    pub(crate) fn call_worker(&self) {
        if let Some(thread) = &*lock(&self.worker) {
            thread.unpark();
        }
    }

    /// One slice of the background duties.
    pub(crate) fn step(&self, budget: usize) -> Result<Progress, Error> {
        if self.options().read_only {
            return Ok(Progress::Idle);
        }
        self.group.check()?;
        let mut duties = lock(&self.duties);
        self.maker.sweep();
        let retired = self.drop_retired();
        let gives_back = self.maker.give_back();
        let prepared = self.maker.prepare(&mut duties.preparation, budget, &self.counters);
        let wrote = self.write_back(&mut duties, budget)?;
        Ok(if retired || gives_back || prepared || wrote { Progress::More } else { Progress::Idle })
    }

    /// Lets files go whose going is durable; true when one went.
    pub(crate) fn drop_retired(&self) -> bool {
        let durable = self.group.durable();
        let mut retired = lock(&self.retired);
        let mut went = false;
        retired.retain_mut(|retired| {
            if retired.after.as_u64() <= durable || planted(Bug::PurgedTooEarly) {
                let segments = std::mem::take(&mut retired.segments);
                let before = segments.len();
                retired.segments =
                    segments.into_iter().filter_map(|segment| self.maker.retire(segment).err()).collect();
                went |= retired.segments.len() < before;
            }
            !retired.segments.is_empty()
        });
        went
    }

    /// Starts the write-back of a slice of what grew since the last one.
    fn write_back(&self, duties: &mut Duties, budget: usize) -> Result<bool, Error> {
        if self.options().zero_fill {
            return Ok(false);
        }
        let at_least = self.options().write_back_bytes;
        let durable = Position::from_u64(self.group.durable());
        {
            let table = self.table();
            let from = table.order().len().saturating_sub(4);
            let newest = table.order()[from..].iter().filter(|segment| segment.id >= durable.segment().0);
            duties.write_back.extend(newest.cloned());
        }
        let mut outcome = Ok(false);
        for segment in duties.write_back.drain(..) {
            if let Some((from, len)) = segment.take_write_back(at_least, budget as u64)
                && outcome.is_ok()
            {
                outcome = segment
                    .file
                    .write_back(from, len)
                    .map(|()| true)
                    .map_err(|error| self.group.poison("write-back of a segment", error));
            }
        }
        outcome
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.maker.pool.forget(&self.maker.dir);
    }
}
