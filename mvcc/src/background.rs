//! The duties that block: syncing, finding the dead, checkpoints, rewriting. One call is one slice.

use std::sync::{Arc, TryLockError};

use crate::checkpoint::Checkpoints;
use crate::compaction::Scan;
use crate::error::Fault;
use crate::front::Front;
use crate::log::rewrite::Rewriter;
use crate::shared::{Shared, lock};
use crate::store::Progress;
use crate::types::Applied;
use crate::write_back::{WriteBack, sync};

/// The state of all duties; one thread at a time has it.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) scan: Scan,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) rewriter: Rewriter,
    write_back: WriteBack,
    /// How often work beside the store was given up, and for how many steps it rests.
    postponed: u64,
    pause: u32,
    /// Another content is in place of this one: nothing is to be done for it any more.
    retired: bool,
}

/// A handle to a store's blocking duties, for a thread beside the writer's. Clones are handles to the same store.
#[derive(Clone, Debug)]
pub struct Background {
    front: Arc<Front>,
}

impl Background {
    pub(crate) fn new(front: Arc<Front>) -> Background {
        Background { front }
    }

    /// Does a slice of each duty that is due: writes back and syncs the log, carries compaction
    /// and checkpoints on, rewrites segments. `budget` is the number of changes or entries one slice may
    /// look at; a few hundred to a few thousand keep a slice below a millisecond, syncs aside. When another thread is
    /// inside, there is nothing to do for this one.
    ///
    /// # Errors
    /// A [`Fault`], which also stops the store's writer and readers.
    pub fn step(&self, budget: usize) -> Result<Progress, Fault> {
        let shared = self.front.content();
        shared.check()?;
        let mut state = match shared.background.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(Progress::Idle),
        };
        if state.retired {
            return Ok(Progress::More);
        }
        self.front.let_go();
        state.step(&shared, budget.max(1)).map_err(|fault| shared.fail(fault))
    }

    /// Makes everything committed so far durable.
    ///
    /// # Errors
    /// A [`Fault`]: the disk refused, and nothing is known about what was not durable before.
    pub fn sync(&self) -> Result<Applied, Fault> {
        let shared = self.front.content();
        shared.check()?;
        sync(&shared).map_err(|fault| shared.fail(fault))
    }

    /// Writes a checkpoint now and waits for it, so that the next start has nothing to replay.
    ///
    /// # Errors
    /// A [`Fault`] of the disk. When it is about the checkpoint's own file the store goes on as if nothing had been tried.
    pub fn checkpoint(&self) -> Result<(), Fault> {
        let shared = self.front.content();
        shared.check()?;
        let mut state = lock(&shared.background);
        if state.retired {
            // Its content has been replaced since by one that has a checkpoint.
            return Ok(());
        }
        let Err(fault) = state.checkpoint(&shared) else { return Ok(()) };
        match state.checkpoints.give_up(&shared, fault.clone()) {
            Ok(()) => Err(fault),
            Err(fault) => Err(shared.fail(fault)),
        }
    }

    /// How often a checkpoint or a rewrite was given up, to be tried again later, because its file could not be written: a
    /// disk without room, most likely. Counted since the store was opened.
    pub fn postponed(&self) -> u64 {
        lock(&self.front.content().background).postponed
    }
}

impl State {
    pub(crate) fn new(scan: Scan, checkpoints: Checkpoints) -> State {
        State { scan, checkpoints, ..State::default() }
    }

    /// Ends all duties; returns how often work was given up.
    pub(crate) fn retire(&mut self) -> u64 {
        let postponed = self.postponed;
        *self = State { retired: true, ..State::default() };
        postponed
    }

    /// Goes on counting where the content before this one ended.
    pub(crate) fn postponed_before(&mut self, postponed: u64) {
        self.postponed += postponed;
    }

    fn step(&mut self, shared: &Shared, budget: usize) -> Result<Progress, Fault> {
        if shared.options.read_only {
            return Ok(Progress::Idle);
        }
        let mut more = self.write_back.step(shared, shared.options.sync_bytes)?;
        more |= self.scan.step(shared, budget)? == Progress::More;
        if self.pause > 0 {
            self.pause -= 1;
            return Ok(if more { Progress::More } else { Progress::Idle });
        }
        match self.write_beside(shared, budget) {
            Ok(some) => more |= some,
            Err(fault) => self.postpone(shared, fault)?,
        }
        Ok(if more { Progress::More } else { Progress::Idle })
    }

    /// What is written beside the store, to take the place of something once it is complete.
    fn write_beside(&mut self, shared: &Shared, budget: usize) -> Result<bool, Fault> {
        self.checkpoints.begin_if_due(shared, &self.scan, &self.rewriter)?;
        // A key of a checkpoint costs a fraction of what reading a record does; and as long as one is made, it holds a copy of every
        // node that is written to meanwhile.
        const KEYS_MORE: usize = 16;
        let saving = self.checkpoints.step(shared, budget.saturating_mul(KEYS_MORE))? == Progress::More;
        // A rewrite that ended before the checkpoint would take away the segments whose marks that one has noted.
        let rewriting = (self.rewriter.is_busy() || !self.checkpoints.is_making())
            && self.rewriter.step(shared, &self.checkpoints, budget)? == Progress::More;
        Ok(saving || rewriting)
    }

    /// A full disk, or a file that cannot be written, costs the work on that file and nothing else: it is begun again later.
    /// Any other fault is handed back.
    fn postpone(&mut self, shared: &Shared, fault: Fault) -> Result<(), Fault> {
        const PAUSE_MIN: u32 = 16;
        const PAUSE_MAX: u32 = 1024;
        if fault.left_the_log_alone() {
            self.rewriter = Rewriter::default();
        } else {
            self.checkpoints.give_up(shared, fault)?;
        }
        self.postponed += 1;
        self.pause = (PAUSE_MIN << self.postponed.min(6)).min(PAUSE_MAX);
        Ok(())
    }

    fn checkpoint(&mut self, shared: &Shared) -> Result<(), Fault> {
        const BUDGET: usize = 4096;
        while self.scan.at_rest().is_none() {
            self.scan.step(shared, BUDGET)?;
        }
        self.rewriter = Rewriter::default();
        self.checkpoints.begin(shared, &self.scan)?;
        while self.checkpoints.is_making() {
            self.checkpoints.step(shared, BUDGET)?;
        }
        Ok(())
    }
}
