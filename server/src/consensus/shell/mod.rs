//! The threads around the cores: who runs consensus, the log and the applier, and when.
//!
//! Each of the three stations has a queue and an owner's lock. Whoever brings work to a station runs it if
//! nobody else does, or leaves the work to whoever does: no thread waits for another one's lock. So a lone
//! put costs no hand-over between threads at all (its caller proposes, writes, syncs and applies), and under
//! load one thread carries whole batches around the circle while callers only queue.
//!
//! ```text
//!             submit ──► inbox ──► consensus ──┬─► log queue ──► log ──────► inbox (Persisted)
//!          proposals ──► gather ──┘            │
//!                                              └─► apply queue ─► applier ─► inbox (Applied), waiters
//! ```
//!
//! | thread | consensus | log | applier |
//! | --- | --- | --- | --- |
//! | a caller with the only request in flight, a proposal, while syncs are quick | one round | one round | one round |
//! | a caller with a proposal among others, on the leader | no: wakes the drive thread | no | no |
//! | any other caller | one round | no: wakes the drive thread | no |
//! | drive thread | until empty | until empty | until empty |
//! | ticker | one round | no | no |
//! | peers' event loop | one round | no | a few puts, while syncs are quick |
//! | a reader of entries from a peer | one round | a lone entry, while syncs are quick | a few puts, while syncs are quick |
//! | fetch thread | one round | what a tick found waiting, while the applier is at something long | no |
//!
//! A leader's proposals gather while its log is at work, and go on together when it is done: so each sync, here and on the followers, and
//! each message to them carries all that came during the last one. One that comes when the log is idle goes on at once. Nobody waits
//! longer for that: what the leader's own disk has not taken in is not applied here, and so not answered.
//!
//! The rule that no work is forgotten: whoever lets go of a station looks at all queues afterwards, and wakes
//! the drive thread if anything is there that nobody is at. The lock of consensus is never held over I/O, so ticks never wait
//! for a disk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ketch_raft::{Apply, StorageError};
use ketch_wal::{Position, Wal};

use super::core::{ConsensusCore, Input, Outputs};
use super::persist::{self, FetchJob, LogFault, LogWriter, PersistJob};
use crate::apply::core::ApplyCore;
use crate::clock::Stopwatch;
use crate::metrics::Metrics;
use crate::propose::Proposed;
use crate::staging::{Pinned, Staging};
use crate::state::Shared;
use crate::stint;
use crate::sync::{lock, try_lock};
use crate::wait::{AppliedWaiters, Waiters};

/// A sync that takes longer is no longer done on a request's thread.
const QUICK_SYNC: Duration = Duration::from_millis(2);

/// The election timeout, in ticks, unless it is set.
const STALL_TICKS: u32 = 10;

/// Rounds of consensus that a thread runs in a row; then it has other things to do.
const ROUNDS_MAX: usize = 2;

mod applier;
mod heartbeats;
mod peers;
mod queue;
#[cfg(test)]
mod tests;

use heartbeats::Heartbeats;
use peers::needs_no_disk;
pub use peers::{Outlet, Pace};
use queue::{Gather, Queue, Sleeper};

/// Why a member stopped by itself.
#[derive(Debug, Clone)]
pub struct Stopped(pub String);

impl Stopped {
    /// The member is one no more.
    #[must_use]
    pub fn removed() -> Stopped {
        Stopped(REMOVED.to_owned())
    }

    /// Whether it was removed rather than broken.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.0 == REMOVED
    }
}

/// etcd's words.
pub(crate) const REMOVED: &str = "the member has been permanently removed from the cluster";

/// The driver of one member: its three stations and those who wait for them.
pub struct Driver {
    inbox: Queue<Input>,
    gather: Gather,
    consensus: Mutex<Consensus>,
    log_queue: Queue<PersistJob>,
    fetch_queue: Queue<FetchJob>,
    log: Mutex<LogWriter>,
    wal: Arc<Wal>,
    purge: Mutex<Option<Position>>,
    /// The way to the peers; a member on its own has none.
    outlet: OnceLock<Arc<dyn Outlet>>,
    /// Where received snapshots are staged.
    staging: Arc<Staging>,
    /// A view is to be pinned for peers.
    pin_wanted: AtomicBool,
    /// The view that is pinned for peers.
    pinned: Mutex<Option<Pinned>>,
    apply_queue: Queue<Apply>,
    applier: Mutex<ApplyCore>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    proposals: Waiters<Proposed>,
    reads: Waiters<()>,
    at_index: AppliedWaiters,
    drive_thread: Sleeper,
    fetch_thread: Sleeper,
    stopping: AtomicBool,
    ticks: AtomicU64,
    /// The tick at which the member stops because it was removed.
    last_tick: AtomicU64,
    /// The tick at which the log began what it is at.
    log_busy_since: AtomicU64,
    /// A disk that hangs for so many ticks costs the member its leadership.
    stall_ticks: u64,
    heartbeats: Heartbeats,
    /// Whether no more than one entry was handed to the log the last time.
    job_is_lone: AtomicBool,
    /// Whether the last sync was so quick that a caller may spend the next one's time itself.
    sync_is_quick: AtomicBool,
    stopped: OnceLock<Stopped>,
    on_stop: tokio::sync::Notify,
}

struct Consensus {
    core: ConsensusCore,
    outputs: Outputs,
}

impl Driver {
    /// A driver of the given cores.
    #[must_use]
    pub fn new(
        core: ConsensusCore,
        log: LogWriter,
        applier: ApplyCore,
        staging: Arc<Staging>,
        shared: Arc<Shared>,
        metrics: Arc<Metrics>,
    ) -> Driver {
        shared.set_applied(applier.store().applied().index);
        shared.set_used_bytes(applier.store().logical_bytes());
        shared.set_cluster(applier.cluster().clone(), applier.alarms());
        Driver {
            inbox: Queue::default(),
            gather: Gather::default(),
            consensus: Mutex::new(Consensus { core, outputs: Outputs::default() }),
            log_queue: Queue::default(),
            fetch_queue: Queue::default(),
            wal: Arc::clone(log.wal()),
            purge: Mutex::new(None),
            outlet: OnceLock::new(),
            staging,
            pin_wanted: AtomicBool::new(false),
            pinned: Mutex::new(None),
            log: Mutex::new(log),
            apply_queue: Queue::default(),
            applier: Mutex::new(applier),
            shared,
            metrics,
            proposals: Waiters::default(),
            reads: Waiters::default(),
            at_index: AppliedWaiters::default(),
            drive_thread: Sleeper::default(),
            fetch_thread: Sleeper::default(),
            stopping: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
            last_tick: AtomicU64::new(u64::MAX),
            log_busy_since: AtomicU64::new(peers::NOT_BUSY),
            stall_ticks: u64::from(STALL_TICKS),
            heartbeats: Heartbeats::default(),
            job_is_lone: AtomicBool::new(false),
            sync_is_quick: AtomicBool::new(false),
            stopped: OnceLock::new(),
            on_stop: tokio::sync::Notify::new(),
        }
    }

    /// Hands leadership over when the disk hangs for so many ticks.
    #[must_use]
    pub fn stall_after(self, ticks: u32) -> Driver {
        Driver { stall_ticks: u64::from(ticks.max(1)), ..self }
    }

    /// What the member publishes about itself.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The member's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Those who wait for the answer of a command.
    #[must_use]
    pub fn proposals(&self) -> &Waiters<Proposed> {
        &self.proposals
    }

    /// Those who wait until a read may go ahead.
    #[must_use]
    pub fn reads(&self) -> &Waiters<()> {
        &self.reads
    }

    /// Hands in `input` and does what the calling thread may do about it. A thread that brings the only request
    /// in flight, a proposal, may spend the time of a disk sync in here, as long as syncs are quick.
    pub fn submit(&self, input: Input) {
        self.submit_all(std::iter::once(input));
    }

    /// The same with several inputs, of which no other than proposals may be among proposals.
    pub fn submit_all(&self, inputs: impl IntoIterator<Item = Input>) {
        let mut proposes = false;
        for input in inputs {
            if let Input::Propose { .. } = input {
                proposes = true;
                self.gather.push(input);
            } else {
                self.inbox.push(input);
            }
        }
        let only = self.has_one_request();
        // A leader takes many proposals together: the drive thread does so, now or when it is done at the disk.
        if proposes && !only && self.leads() {
            if self.gather.is_due() {
                self.drive_thread.wake();
            }
            return;
        }
        self.run_consensus();
        if proposes && only && self.sync_is_quick.load(Ordering::Relaxed) {
            self.run_log();
            // What others have brought meanwhile may take long to apply: that is not for this thread.
            if self.has_one_request() {
                self.run_applier();
            }
            return self.carry_on(false);
        }
        self.wake_if_busy();
    }

    /// Queues `input` for the next call of [`run`](Self::run), or of whoever else hands in something.
    pub fn queue(&self, input: Input) {
        self.inbox.push(input);
    }

    /// Does what the calling thread may do about what is queued.
    pub fn run(&self) {
        self.run_consensus();
        self.wake_if_busy();
    }

    /// Lets one heartbeat interval go by. Never waits for a disk.
    pub fn tick(&self) {
        self.mind_the_disk();
        self.mind_the_removal();
        self.inbox.push(Input::Tick);
        self.run_consensus();
        if !self.log_queue.is_empty() && self.is_applying() {
            self.fetch_thread.wake();
        }
        self.wake_if_busy();
    }

    /// The drive thread's life: runs whatever is queued, sleeps when there is nothing that it could run.
    pub fn drive(&self) {
        self.drive_thread.adopt(std::thread::current());
        while !self.stopping.load(Ordering::SeqCst) {
            let mut worked = self.run_consensus();
            worked |= self.run_log();
            worked |= self.run_pin();
            worked |= self.run_applier();
            if !worked {
                self.drive_thread.sleep();
            }
        }
    }

    /// The fetch thread's life: reads old entries back from the log for followers that are behind. A cold disk delays
    /// nobody else. While the drive thread applies something long, it minds the log too.
    pub fn fetch(&self) {
        self.fetch_thread.adopt(std::thread::current());
        while !self.stopping.load(Ordering::SeqCst) {
            let mut worked = self.run_fetches();
            if self.is_applying() {
                worked |= self.run_log();
            }
            self.wake_if_busy();
            if !worked {
                self.fetch_thread.sleep();
            }
        }
    }

    /// Whether somebody applies right now. Whoever asks looks at the queues afterwards: asking may have been in the way.
    fn is_applying(&self) -> bool {
        try_lock(&self.applier).is_none()
    }

    /// Runs `duty` on the applier's store, between two batches.
    pub fn with_applier<T>(&self, duty: impl FnOnce(&mut ApplyCore) -> T) -> T {
        let done = duty(&mut lock(&self.applier));
        self.wake_if_busy();
        done
    }

    /// The raft log, for its background duties.
    #[must_use]
    pub fn wal(&self) -> &Arc<Wal> {
        &self.wal
    }

    /// Stops the member: nothing is acknowledged from now on, and everybody who waits is let go.
    pub fn stop(&self, why: Stopped) {
        if self.stopped.set(why).is_ok() {
            self.stopping.store(true, Ordering::SeqCst);
            self.proposals.close();
            self.reads.close();
            self.drive_thread.wake();
            self.fetch_thread.wake();
            self.on_stop.notify_waiters();
        }
    }

    /// Why the member stopped, if it has.
    #[must_use]
    pub fn stopped(&self) -> Option<&Stopped> {
        self.stopped.get()
    }

    /// Waits until the member has stopped.
    pub async fn until_stopped(&self) -> Stopped {
        loop {
            let notified = self.on_stop.notified();
            if let Some(why) = self.stopped.get() {
                return why.clone();
            }
            notified.await;
        }
    }

    /// What waits at each station: see [`STATIONS`](crate::metrics::STATIONS).
    #[must_use]
    pub fn waiting(&self) -> [usize; crate::metrics::STATIONS.len()] {
        let (inbox, log, apply) = (self.inbox.len(), self.log_queue.len(), self.apply_queue.len());
        [self.gather.len(), inbox, log, apply, self.fetch_queue.len()]
    }

    fn leads(&self) -> bool {
        self.shared.standing().leader == self.shared.member_id
    }

    /// Whether something waits that is the drive thread's: what waits for a station that somebody is at is theirs, who looks at the
    /// queues afterwards.
    fn needs_drive(&self) -> bool {
        self.gather.is_due()
            || self.pin_wanted.load(Ordering::SeqCst)
            || (!self.log_queue.is_empty() && try_lock(&self.log).is_some())
            || (!self.apply_queue.is_empty() && try_lock(&self.applier).is_some())
    }

    fn has_one_request(&self) -> bool {
        self.proposals.pending() + self.reads.pending() <= 1
    }

    /// Looks at all queues. What is for the log and needs no disk, and what is for consensus, is done here; anything else is for the drive
    /// thread.
    fn wake_if_busy(&self) {
        self.run_log_if(|jobs| jobs.iter().all(needs_no_disk));
        if !self.gather.is_due() {
            self.run_consensus();
        }
        if self.needs_drive() {
            self.drive_thread.wake();
        }
    }

    /// A round of consensus, and another one for what came meanwhile, unless another thread is at it. Says whether anything was done.
    fn run_consensus(&self) -> bool {
        for rounds in 0..ROUNDS_MAX {
            if !self.run_round() {
                return rounds > 0;
            }
        }
        // The caller may be about to wait for a disk.
        if self.has_input() {
            self.drive_thread.wake();
        }
        true
    }

    fn has_input(&self) -> bool {
        !self.inbox.is_empty() || self.gather.is_due()
    }

    fn run_round(&self) -> bool {
        if !self.has_input() || self.stopping.load(Ordering::SeqCst) {
            return false;
        }
        let Some(mut consensus) = try_lock(&self.consensus) else { return false };
        let Consensus { core, outputs } = &mut *consensus;
        let mut inputs = self.inbox.take();
        inputs.retain(|input| self.is_staged(input));
        let more_to_come = self.gather.take_due(&mut inputs);
        core.expect_proposals(more_to_come);
        let verdict = core.handle(&mut inputs, outputs);
        self.shared.set_standing(core.standing());
        // Queued while consensus is still locked: so the lanes keep their order.
        self.route(outputs);
        drop(consensus);
        if let Err(fault) = verdict {
            self.stop(Stopped(format!("raft stopped: {fault}")));
        }
        true
    }

    fn route(&self, outputs: &mut Outputs) {
        if !self.leads() {
            self.gather.release();
        } else if outputs.persist.iter().any(|job| job.must_sync) {
            // Before the log can see it: whoever is done with it ends the hold.
            self.gather.hold();
        }
        if !outputs.persist.is_empty() {
            let entries: usize = outputs.persist.iter().map(|job| job.entries.len()).sum();
            self.job_is_lone.store(entries <= 1, Ordering::Relaxed);
        }
        self.log_queue.append(&mut outputs.persist);
        self.apply_queue.append(&mut outputs.apply);
        if !outputs.fetch.is_empty() {
            self.fetch_queue.append(&mut outputs.fetch);
            self.fetch_thread.wake();
        }
        self.metrics.read_indexes_failed.add(std::mem::take(&mut outputs.reads_failed));
        self.send(std::mem::take(&mut outputs.send));
        self.route_snapshots(outputs);
        for (id, refused) in outputs.refused.drain(..) {
            self.proposals.complete(id, Err(refused));
        }
        for (index, tickets) in outputs.reads.drain(..) {
            if self.shared.applied() < index {
                self.at_index.add(index, tickets);
                // The index may have been reached between the look and the entry.
                self.wake_readers();
            } else {
                tickets.into_iter().for_each(|ticket| self.reads.complete(ticket, ()));
            }
        }
        if let Some(position) = outputs.purge.take() {
            *lock(&self.purge) = Some(position);
        }
    }

    /// Lets the raft log forget what lies before the place that consensus gave free. Does I/O.
    ///
    /// # Errors
    /// A fault of the log.
    pub fn purge(&self) -> Result<(), ketch_wal::Error> {
        let before = lock(&self.purge).take();
        before.map_or(Ok(()), |position| self.wal.purge_before(position))
    }

    fn wake_readers(&self) {
        for ticket in self.at_index.reached(self.shared.applied()) {
            self.reads.complete(ticket, ());
        }
    }

    /// Writes and syncs what is queued for the log as one batch, unless another thread is at it.
    fn run_log(&self) -> bool {
        self.run_log_if(|_any| true)
    }

    /// The same if `is_mine` says so of all that is queued. Whoever asks looks at the queues afterwards.
    fn run_log_if(&self, is_mine: impl FnOnce(&[PersistJob]) -> bool) -> bool {
        if self.stopping.load(Ordering::SeqCst) {
            return false;
        }
        let Some((mut log, jobs)) = self.log_queue.take_to(&self.log, is_mine) else { return false };
        let must_sync = jobs.iter().any(|job| job.must_sync);
        if must_sync {
            stint::asked();
        }
        let watch = Stopwatch::start();
        self.note_log_busy(true);
        let persisted = log.persist(jobs);
        self.note_log_busy(false);
        if let Some(took) = log.take_write_time() {
            self.metrics.wal_write.observe(took);
        }
        // Handed over in order: before the log can be taken by somebody else.
        let verdict = persisted.map(|done| self.inbox.extend(done.into_iter().map(Input::Persisted)));
        drop(log);
        if self.log_queue.is_empty() {
            self.gather.release();
        }
        if must_sync {
            let took = watch.elapsed();
            self.sync_is_quick.store(took < QUICK_SYNC, Ordering::Relaxed);
            self.metrics.wal_fsync.observe(took);
        }
        match verdict {
            Ok(()) => _ = self.run_consensus(),
            Err(fault) => self.stop(Stopped(fault.to_string())),
        }
        true
    }

    fn run_fetches(&self) -> bool {
        let mut worked = false;
        for job in self.fetch_queue.take() {
            let fetched = if job.positions.is_empty() {
                Err(StorageError::Compacted)
            } else {
                persist::fetch(&self.wal, &job).map_err(fetch_error)
            };
            self.inbox.push(Input::Fetched { token: job.token, entries: fetched });
            worked = true;
        }
        if worked {
            self.run_consensus();
            self.wake_if_busy();
        }
        worked
    }
}

fn fetch_error(fault: LogFault) -> StorageError {
    match fault {
        // Purged since it was asked for: a follower that needs it gets a snapshot.
        LogFault::Wal(ketch_wal::Error::Purged { .. }) => StorageError::Compacted,
        fault => StorageError::Failed(fault.to_string()),
    }
}
