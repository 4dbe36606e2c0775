//! The duties that nobody waits for: write-back and checkpoints of the store, spare segments of the raft log,
//! and its purge. One thread does them in slices, so none stands in the way of a request for long, and sleeps for a moment between two
//! ([`stint`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ketch_mvcc::{Background, Progress};
use tokio::time::Instant;

use crate::clock::{self, Exertion, Stopwatch};
use crate::consensus::core::Input;
use crate::consensus::shell::{Driver, Stopped};
use crate::memory;
use crate::metrics::{CompactionMeter, Round};
use crate::priority;
use crate::quota::Reserve;
use crate::stint::{self, Stint};

/// How long the thread rests when there is nothing to do.
const REST: Duration = Duration::from_millis(50);
/// How much of the store's duties is done at most before the next one has its turn: nodes, changes or entries.
const STORE_BUDGET: usize = 2000;
/// The same of what holds up the applier meanwhile.
const APPLIER_BUDGET: usize = 500;
/// The same of the raft log's duties, in bytes.
const LOG_BUDGET: usize = 256 << 10;
/// The store is synced when it has applied so many entries more than are durable, even if they changed little:
/// what the raft log must keep for it stays bounded.
const SYNC_ENTRIES: u64 = 10_000;

/// Between two looks at memory that nobody uses.
const MEMORY_EVERY: Duration = Duration::from_secs(2);

/// The upkeep of one member.
pub struct Upkeep {
    driver: Arc<Driver>,
    background: Background,
    /// Applied entries between two purges of the raft log.
    purge_every: u64,
    /// Applied entries that stay in the raft log for followers that are behind.
    keep: u64,
    purged: u64,
    reserve: Reserve,
    memory_looked: Instant,
    compactions: CompactionMeter,
    stint: Stint,
}

impl Upkeep {
    /// The upkeep of the member that `driver` drives.
    #[must_use]
    pub fn new(driver: Arc<Driver>, purge_every: u64, keep: u64, reserve: Reserve) -> Upkeep {
        let background = driver.with_applier(|applier| applier.store().background());
        Upkeep {
            driver,
            background,
            purge_every: purge_every.max(1),
            keep,
            purged: 0,
            reserve,
            memory_looked: clock::now(),
            compactions: CompactionMeter::default(),
            stint: Stint::default(),
        }
    }

    /// The upkeep thread's life, until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) {
        // Not more than that: while it has the applier, commands wait.
        priority::give_way_at_once();
        while !stop.load(Ordering::SeqCst) && self.driver.stopped().is_none() {
            let exertion = Exertion::start();
            let outcome = self.round();
            self.stint.took(exertion.elapsed());
            match outcome {
                Ok(true) => stint::breathe(),
                Ok(false) => std::thread::park_timeout(REST),
                Err(why) => self.driver.stop(Stopped(why)),
            }
        }
    }

    /// A slice of every duty; says whether there is more to do at once.
    fn round(&mut self) -> Result<bool, String> {
        let watch = Stopwatch::start();
        let more_store = self
            .background
            .step(self.stint.of(STORE_BUDGET))
            .map_err(|fault| format!("the store failed: {fault}"))?;
        let search = watch.elapsed();
        let shared = Arc::clone(self.driver.shared());
        // First: what a compaction found is not dropped before.
        let more_hashes =
            shared.hashes.settle(stint::rest).map_err(|error| format!("the store failed: {error}"))?;
        let applier_budget = self.stint.of(APPLIER_BUDGET);
        let (more_memory, compaction, durable, held) = self.driver.with_applier(|applier| {
            let watch = Stopwatch::start();
            let store = applier.store_mut();
            shared.set_used_bytes(store.logical_bytes());
            let more = store.step(applier_budget);
            (more, store.compaction_progress(), store.durable_applied(), watch.elapsed())
        });
        let (is_done, dead) = (compaction.is_done(), compaction.dead);
        let round = Round { search, held, is_done, dead };
        self.compactions.note(&self.driver.metrics().compaction, round);
        let more_memory = more_memory.map_err(|fault| format!("the store failed: {fault}"))?;
        shared
            .compacted
            .send_if_modified(|done| std::mem::replace(done, compaction.physical) != compaction.physical);
        if self.driver.shared().applied() >= durable.index + SYNC_ENTRIES {
            self.background.sync().map_err(|fault| format!("the store failed: {fault}"))?;
        }
        self.driver.staging().tidy(shared.applied());
        self.give_free(durable.index);
        self.reserve.look(&shared);
        self.mind_the_memory();
        let log = |error| format!("the raft log failed: {error}");
        self.driver.purge().map_err(log)?;
        let more_log = self.driver.wal().step(self.stint.of(LOG_BUDGET)).map_err(log)?;
        Ok(more_hashes
            || more_store == Progress::More
            || more_memory == Progress::More
            || more_log == ketch_wal::Progress::More)
    }

    fn mind_the_memory(&mut self) {
        let now = clock::now();
        if now - self.memory_looked >= MEMORY_EVERY {
            self.memory_looked = now;
            memory::give_back();
        }
    }

    /// The raft log may forget what the store holds durably, less what followers may still ask for.
    fn give_free(&mut self, durable: u64) {
        let free = durable.saturating_sub(self.keep);
        if free >= self.purged + self.purge_every {
            self.purged = free;
            self.driver.submit(Input::Purge(free));
        }
    }
}
