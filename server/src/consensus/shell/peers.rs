//! The driver's side towards the peers: messages out, views pinned for snapshots, leadership handed over.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ketch_raft::{Body, Message, NodeId, Status};

use super::queue::try_lock;
use super::{Driver, Input, Outputs, Stopped};
use crate::apply::cluster::Cluster;
use crate::staging::{Pinned, Staging};
use crate::sync::lock;

/// The way to the peers. Nothing here may block.
pub trait Outlet: Send + Sync {
    /// Sends `messages`, in order for each peer. One with a snapshot goes with the content of `pinned`.
    fn send(&self, messages: Vec<Message>, pinned: Option<Pinned>);

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

    /// Hands in what peers sent. Never waits for a disk.
    pub fn receive(&self, messages: Vec<Message>) {
        let leads = self.leads();
        // Proposals that followers passed on gather with the leader's own.
        let (passed_on, messages): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|message| leads && matches!(message.body, Body::Propose { .. }));
        let input = |message| Input::Message(Box::new(message));
        passed_on.into_iter().for_each(|message| self.gather.push(input(message)));
        self.inbox.extend(messages.into_iter().map(input));
        self.run_consensus();
        self.wake_if_busy();
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
        lock(&self.consensus).core.status()
    }

    pub(super) fn send(&self, messages: Vec<Message>) {
        let Some(outlet) = self.outlet.get().filter(|_| !messages.is_empty()) else { return };
        self.heartbeats.note(&messages, &self.metrics);
        let with_snapshot = messages.iter().any(|message| matches!(message.body, Body::Snapshot { .. }));
        let pinned = if with_snapshot { lock(&self.pinned).clone() } else { None };
        outlet.send(messages, pinned);
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

    /// Notes that the log's disk is at work, or that it is done.
    pub(super) fn note_log_busy(&self, busy: bool) {
        let since = if busy { self.ticks.load(Ordering::Relaxed) } else { NOT_BUSY };
        self.log_busy_since.store(since, Ordering::Relaxed);
    }
}

/// So many ticks a member lives on after its removal.
const REMOVED_TICKS: u64 = 10;

/// The log's disk has nothing to do.
pub(super) const NOT_BUSY: u64 = u64::MAX;
