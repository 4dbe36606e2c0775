//! The driver's side towards the peers: messages out, views pinned for snapshots, leadership handed over.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ketch_raft::{Apply, Body, Entry, Message, NO_ROUND, NodeId, Payload, Status};

use super::{Driver, Input, Outputs, PersistJob, Stopped};
use crate::apply::cluster::Cluster;
use crate::apply::command;
use crate::staging::{Pinned, Staging};
use crate::sync::{lock, try_lock};

/// Whether messages have others to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// They belong to the only command under way, as far as this member can tell.
    Lone,
    /// Others may follow at once.
    Busy,
}

/// The way to the peers. Nothing here may block.
pub trait Outlet: Send + Sync {
    /// Sends `messages`, in order for each peer. One with a snapshot goes with the content of `pinned`.
    fn send(&self, pace: Pace, messages: Vec<Message>, pinned: Option<Pinned>);

    /// The members changed.
    fn members(&self, cluster: &Cluster);
}

impl Driver {
    /// Opens the way to the peers. What was sent before it is lost, as on any network.
    pub fn connect(&self, outlet: Arc<dyn Outlet>) {
        let _connected_before = self.outlet.set(outlet);
    }

    /// Where received snapshots are staged.
    #[must_use]
    pub fn staging(&self) -> &Arc<Staging> {
        &self.staging
    }

    /// Hands in what peers sent. Never waits for a disk to sync. A few puts that may be applied then are applied here.
    pub fn receive(&self, messages: Vec<Message>) {
        self.take_in(messages);
        self.carry_on(false);
    }

    /// The same with what came on a lane for entries. A lone entry is written and synced here, as long as syncs are quick.
    pub fn receive_appends(&self, messages: Vec<Message>) {
        self.take_in(messages);
        self.carry_on(true);
    }

    /// Does what takes a moment and follows from what the calling thread has brought, a sync among it if it `may_sync`; leaves the rest to
    /// the drive thread, and all of it while the disk is slow: applying syncs nothing, but writes to the store's log.
    pub(super) fn carry_on(&self, may_sync: bool) {
        for _ in 0..TURNS_MAX {
            let is_quick = self.sync_is_quick.load(Ordering::Relaxed) && !self.log_hangs();
            let mut worked = is_quick && self.run_applier_if(are_few_puts);
            if is_quick && may_sync {
                if !self.apply_queue.is_empty() {
                    // It is not for here, and should not wait for the sync.
                    self.wake_if_busy();
                }
                worked |= self.run_log_if(|jobs| matches!(jobs, [job] if is_brief(job)));
            }
            worked |= self.run_log_if(|jobs| jobs.iter().all(needs_no_disk));
            // What is for consensus alone; proposals gather for the drive thread.
            worked |= !self.gather.is_due() && self.run_consensus();
            if !worked {
                break;
            }
        }
        self.wake_if_busy();
    }

    fn take_in(&self, messages: Vec<Message>) {
        let leads = self.leads();
        // Proposals that followers passed on gather with the leader's own.
        let (passed_on, messages): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|message| leads && matches!(message.body, Body::Propose { .. }));
        let input = |message| Input::Message(Box::new(message));
        passed_on.into_iter().for_each(|message| self.gather.push(input(message)));
        self.inbox.extend(messages.into_iter().map(input));
        self.run_consensus();
    }

    /// False for the message of a snapshot that another one has taken the place of: raft must not take what is not there.
    pub(super) fn is_staged(&self, input: &Input) -> bool {
        match input {
            Input::Message(message) => match &message.body {
                Body::Snapshot { meta } => self.staging.offer(meta),
                _ => true,
            },
            _ => true,
        }
    }

    /// What raft says of snapshots, received ones and the pinned one.
    pub(super) fn route_snapshots(&self, outputs: &mut Outputs) {
        outputs.turned_away.drain(..).for_each(|meta| self.staging.turn_away(&meta));
        if std::mem::take(&mut outputs.unpin) {
            *lock(&self.pinned) = None;
        }
        if std::mem::take(&mut outputs.pin) {
            self.pin_wanted.store(true, Ordering::SeqCst);
        }
    }

    /// What an operator sees of raft; on the leader with the progress of every member.
    #[must_use]
    pub fn status(&self) -> Status {
        let status = lock(&self.consensus).core.status();
        self.wake_if_busy();
        status
    }

    pub(super) fn send(&self, messages: Vec<Message>) {
        let Some(outlet) = self.outlet.get().filter(|_| !messages.is_empty()) else { return };
        self.heartbeats.note(&messages, &self.metrics);
        let with_snapshot = messages.iter().any(|message| matches!(message.body, Body::Snapshot { .. }));
        let pinned = if with_snapshot { lock(&self.pinned).clone() } else { None };
        let is_lone = self.job_is_lone.load(Ordering::Relaxed)
            && self.has_one_request()
            && messages.iter().all(|message| is_of_a_command(&message.body));
        outlet.send(if is_lone { Pace::Lone } else { Pace::Busy }, messages, pinned);
    }

    /// Pins a view of the store for peers, unless another thread is applying right now.
    pub(super) fn run_pin(&self) -> bool {
        if !self.pin_wanted.load(Ordering::SeqCst) || self.stopping.load(Ordering::SeqCst) {
            return false;
        }
        let Some(applier) = try_lock(&self.applier) else { return false };
        self.pin_wanted.store(false, Ordering::SeqCst);
        let pinned = applier.pin();
        drop(applier);
        let meta = pinned.meta.clone();
        *lock(&self.pinned) = Some(pinned);
        self.inbox.push(Input::Pinned(meta));
        self.run_consensus();
        true
    }

    /// The voter that could lead best if this member, the leader, did not: the one whose log is longest among those heard
    /// of recently. `None` where this member does not lead or there is nobody else.
    #[must_use]
    pub fn successor(&self) -> Option<NodeId> {
        let Status { id, leader, conf_state, progress, .. } = self.status();
        let fit = progress.iter().filter(|(peer, progress)| {
            leader == id && *peer != id && progress.recent_active && conf_state.voters.contains(peer)
        });
        fit.max_by_key(|(_, progress)| progress.match_index).map(|&(peer, _)| peer)
    }

    /// Tells everybody of the members as they are now.
    pub(super) fn note_members(&self, cluster: &Cluster) {
        let own = self.shared.member_id;
        // A member that joins learns of the members one by one; until it is among them, it was told better.
        if let Some(outlet) = self.outlet.get().filter(|_| cluster.members.contains_key(&own)) {
            outlet.members(cluster);
        }
        if cluster.removed.contains(&own) {
            let last = self.ticks.load(Ordering::Relaxed) + REMOVED_TICKS;
            self.last_tick.fetch_min(last, Ordering::Relaxed);
        }
    }

    /// A member that was removed stops, after a moment in which others learn of it.
    pub(super) fn mind_the_removal(&self) {
        if self.ticks.load(Ordering::Relaxed) >= self.last_tick.load(Ordering::Relaxed) {
            self.stop(Stopped::removed());
        }
    }

    /// A leader whose disk hangs longer than an election timeout hands leadership over: its followers can go on without
    /// it, its clients cannot go on with it.
    pub(super) fn mind_the_disk(&self) {
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        let since = self.log_busy_since.load(Ordering::Relaxed);
        let stalled = since != NOT_BUSY && tick >= since + self.stall_ticks;
        if !stalled || !(tick - since).is_multiple_of(self.stall_ticks) {
            return;
        }
        let standing = self.shared.standing();
        if standing.leader == self.shared.member_id
            && let Some(to) = self.successor()
        {
            tracing::warn!(%to, ticks = tick - since, "the disk hangs: handing leadership over");
            self.inbox.push(Input::Transfer { to });
        }
    }

    /// Whether a sync of the log has been under way since the tick before.
    fn log_hangs(&self) -> bool {
        let since = self.log_busy_since.load(Ordering::Relaxed);
        since != NOT_BUSY && self.ticks.load(Ordering::Relaxed) > since
    }

    /// Notes that the log's disk is at work, or that it is done.
    pub(super) fn note_log_busy(&self, busy: bool) {
        let since = if busy { self.ticks.load(Ordering::Relaxed) } else { NOT_BUSY };
        self.log_busy_since.store(since, Ordering::Relaxed);
    }
}

/// A reader of what peers send applies no more puts than these, and no more bytes, nor writes more of them to the log: what comes behind
/// them waits meanwhile.
const BRIEF_PUTS: usize = 4;
const BRIEF_BYTES: u64 = 64 << 10;

/// Whether it only tells of a newer commit index, which is written with what comes next.
pub(super) fn needs_no_disk(job: &PersistJob) -> bool {
    !job.must_sync && job.entries.is_empty() && job.snapshot.is_none()
}

/// Whether it is one of the messages that a command takes on its way. Reads of many clients may follow one another sooner.
fn is_of_a_command(body: &Body) -> bool {
    match body {
        Body::Propose { entries } | Body::Append { entries, .. } => entries.len() <= 1,
        Body::AppendAnswer { .. } => true,
        Body::Heartbeat { round, .. } => *round == NO_ROUND,
        _ => false,
    }
}

/// Whether it is no more than one small entry.
fn is_brief(job: &PersistJob) -> bool {
    let bytes = job.entries.iter().map(Entry::payload_bytes).sum::<u64>();
    job.snapshot.is_none() && job.entries.len() <= 1 && bytes <= BRIEF_BYTES
}

fn are_few_puts(jobs: &[Apply]) -> bool {
    let entries = || jobs.iter().flat_map(|job| &job.entries);
    entries().count() <= BRIEF_PUTS
        && entries().map(Entry::payload_bytes).sum::<u64>() <= BRIEF_BYTES
        && jobs.iter().all(|job| job.snapshot.is_none())
        && entries().all(is_put)
}

fn is_put(entry: &Entry) -> bool {
    matches!(&entry.payload, Payload::Normal(command) if command::is_plain_put(command))
}

/// So often a thread looks again for what takes a moment.
const TURNS_MAX: usize = 4;

/// So many ticks a member lives on after its removal.
const REMOVED_TICKS: u64 = 10;

/// The log's disk has nothing to do.
pub(super) const NOT_BUSY: u64 = u64::MAX;
