//! Feeding peers: appends, snapshots, heartbeats, and what the owner reports about them.

use crate::core::{Core, trace};
use crate::error::{Fault, StorageError};
use crate::log::{Slice, check_run};
use crate::message::{Body, NO_ROUND};
use crate::planted::Bug;
use crate::progress::ProgressState;
use crate::ready::{Fetch, FetchPurpose, FetchToken};
use crate::storage::Storage;
use crate::trace::Event;
use crate::types::{Entry, Index, NodeId, Role, payload_bytes};

impl<S: Storage> Core<S> {
    /// Sends everybody what it lacks, at least the commit index. Gathered pacing leaves it to the next Ready.
    pub(crate) fn broadcast_append(&mut self) -> Result<(), Fault> {
        if self.gathers() {
            self.broadcast_due = true;
            return Ok(());
        }
        self.for_each_peer(|core, id| core.maybe_send_append(id, true).map(|_| ()))
    }

    /// Sends everybody entries it lacks, one message each.
    pub(crate) fn feed_all(&mut self) -> Result<(), Fault> {
        self.for_each_peer(|core, id| core.maybe_send_append(id, false).map(|_| ()))
    }

    /// Gathered pacing: what became due since the last Ready. Commits ride on appends; where there is nothing to append, and
    /// nothing is about to be, a notice tells of them.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        if std::mem::take(&mut self.broadcast_due) && self.role == Role::Leader {
            self.for_each_peer(Self::feed)?;
            self.commit_due = true;
        }
        if self.owes_notices() {
            self.commit_due = false;
            self.notify_commit();
        }
        self.start_read_round();
        Ok(())
    }

    /// Peers may have to be told of a commit by a message of its own.
    pub(crate) fn owes_notices(&self) -> bool {
        self.commit_due && !self.expects_proposals
    }

    /// Tells whoever holds committed entries and was not told so yet. A heartbeat without a round wants no answer; it says
    /// nothing that is not durable over there, so it may overtake appends.
    fn notify_commit(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        let committed = self.log.committed;
        for at in 0..self.tracker.peers.len() {
            let (id, progress) = &mut self.tracker.peers[at];
            if *id == self.id || !progress.is_owed(committed) {
                continue;
            }
            let (to, commit) = (*id, progress.match_index.min(committed));
            progress.sent_commit(commit);
            self.send(to, Body::Heartbeat { commit, round: NO_ROUND });
        }
    }

    /// Sends everybody all there is, and the commit index to those who cannot hold all of it durably yet, too.
    pub(crate) fn flush_everything(&mut self) -> Result<(), Fault> {
        self.broadcast_due = false;
        self.for_each_peer(|core, id| {
            core.feed(id)?;
            let committed = core.log.committed;
            if core.tracker.get(id).is_some_and(|peer| peer.can_bump_commit(committed)) {
                core.maybe_send_append(id, true)?;
            }
            Ok(())
        })
    }

    fn for_each_peer(
        &mut self,
        mut act: impl FnMut(&mut Self, NodeId) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut at = 0;
        while let Some(&(id, _)) = self.tracker.peers.get(at) {
            if id != self.id {
                act(self, id)?;
            }
            at += 1;
        }
        Ok(())
    }

    /// Sends what `to` lacks, at least the commit index.
    pub(crate) fn send_append(&mut self, to: NodeId) -> Result<(), Fault> {
        self.maybe_send_append(to, true).map(|_| ())
    }

    /// Sends entries as long as the window takes them.
    pub(crate) fn feed(&mut self, to: NodeId) -> Result<(), Fault> {
        while self.maybe_send_append(to, false)? {}
        Ok(())
    }

    /// Sends one append, or a snapshot where the log no longer reaches. True when something was sent.
    fn maybe_send_append(&mut self, to: NodeId, if_empty: bool) -> Result<bool, Fault> {
        let Some(progress) = self.tracker.get(to) else { return Ok(false) };
        let unpaused =
            if_empty && progress.state == ProgressState::Snapshot && self.bug(Bug::SnapshotPauseDropped);
        if (progress.is_paused() && !unpaused) || progress.fetching != 0 {
            return Ok(false);
        }
        let next = progress.next_index;
        let Some(log_term) = self.log.term(next - 1)? else { return self.maybe_send_snapshot(to) };
        // A full window still lets empty appends through: their answers tell whether the messages that filled
        // it were lost.
        let full = progress.state == ProgressState::Replicate && progress.inflights.is_full();
        let entries = if full {
            Vec::new()
        } else {
            match self.log.entries_from(next, self.config.max_append_bytes)? {
                Slice::Here(entries) => entries,
                Slice::Compacted if !if_empty => return Ok(false),
                Slice::Compacted => return self.maybe_send_snapshot(to),
                Slice::Pending => {
                    self.fetch_for(to, next);
                    return Ok(false);
                }
            }
        };
        if entries.is_empty() && !if_empty {
            return Ok(false);
        }
        self.send_entries(to, next - 1, log_term, entries);
        Ok(true)
    }

    fn send_entries(&mut self, to: NodeId, index: Index, log_term: u64, entries: Vec<Entry>) {
        let commit = self.log.committed;
        if let Some(progress) = self.tracker.get_mut(to) {
            progress.sent_entries(entries.len() as u64, payload_bytes(&entries));
            progress.sent_commit(commit);
        }
        self.send(to, Body::Append { index, log_term, entries, commit });
    }

    fn maybe_send_snapshot(&mut self, to: NodeId) -> Result<bool, Fault> {
        let Some(progress) = self.tracker.get(to) else { return Ok(false) };
        if !progress.recent_active {
            trace!(self, Event::SnapshotSkippedInactive { to });
            return Ok(false);
        }
        let at_least = self.log.first_index() - 1;
        let mut snapshot = self.log.snapshot(at_least, to)?;
        // One from before `to` was added would be turned away there: ask for one that knows it.
        if snapshot.as_ref().is_some_and(|meta| !meta.conf_state.contains(to)) {
            snapshot = self.log.snapshot(self.log.applied, to)?.filter(|meta| meta.conf_state.contains(to));
        }
        let Some(meta) = snapshot else {
            trace!(self, Event::SnapshotUnavailable { to });
            return Ok(false);
        };
        let before = progress.clone();
        let (first_index, commit, snapshot) = (self.log.first_index(), self.log.committed, meta.id());
        let Some(progress) = self.tracker.get_mut(to) else { return Ok(false) };
        progress.become_snapshot(meta.index);
        let after = progress.clone();
        trace!(self, Event::SnapshotSent { to, first_index, commit, snapshot, before, after });
        self.send(to, Body::Snapshot { meta });
        Ok(true)
    }

    /// Heartbeats carry the commit index only as far as the receiver is known to match.
    pub(crate) fn broadcast_heartbeat(&mut self) {
        let round = self.reads.begin_round(self.ticks);
        let committed = self.log.committed;
        for at in 0..self.tracker.peers.len() {
            let (id, progress) = &mut self.tracker.peers[at];
            if *id == self.id {
                progress.acked_round = round;
                continue;
            }
            let (to, commit) = (*id, progress.match_index.min(committed));
            progress.sent_commit(commit);
            self.send(to, Body::Heartbeat { commit, round });
        }
        // Whoever is the whole quorum has answered itself.
        self.confirm_reads();
    }

    fn fetch_for(&mut self, to: NodeId, low: Index) {
        let high = self.log.unstable.offset.min(self.log.last_index() + 1);
        self.fetch_number += 1;
        let number = self.fetch_number;
        if let Some(progress) = self.tracker.get_mut(to) {
            progress.fetching = number;
        }
        let purpose = FetchPurpose::Follower { to, term: self.term, number };
        let token = FetchToken { life: self.life, low, purpose };
        self.fetches.push(Fetch { low, high, max_bytes: self.config.max_append_bytes, token });
    }

    /// The owner read what was asked for. Whatever changed meanwhile decides whether it is still wanted.
    pub(crate) fn fetched(
        &mut self,
        token: FetchToken,
        entries: Result<Vec<Entry>, StorageError>,
    ) -> Result<(), Fault> {
        let entries = match entries {
            Ok(entries) => {
                // The log may have been cut since they were asked for; whoever wants them checks that.
                if !entries.is_empty() {
                    check_run(&entries, token.low, Index::MAX)?;
                }
                entries
            }
            Err(StorageError::Failed(why)) => return Err(Fault::Storage(why)),
            Err(_) => Vec::new(),
        };
        match token.purpose {
            FetchPurpose::Apply => {
                self.fetching_apply = false;
                if token.low == self.log.applying + 1 {
                    self.fetched = entries.into();
                }
                Ok(())
            }
            FetchPurpose::Follower { to, term, number } => {
                if self.role != Role::Leader || self.term != term {
                    return Ok(());
                }
                let Some(progress) = self.tracker.get_mut(to) else { return Ok(()) };
                if progress.fetching != number {
                    return Ok(());
                }
                progress.fetching = 0;
                self.fetched_for(to, token.low, entries)
            }
        }
    }

    fn fetched_for(&mut self, to: NodeId, low: Index, entries: Vec<Entry>) -> Result<(), Fault> {
        if entries.is_empty() {
            return if low < self.log.first_index() { self.send_append(to) } else { Ok(()) };
        }
        let Some(progress) = self.tracker.get(to) else { return Ok(()) };
        let wanted = progress.next_index == low && !progress.is_paused();
        if wanted && let Some(log_term) = self.log.term(low - 1)? {
            self.send_entries(to, low - 1, log_term, entries);
        }
        // More, or what became of it meanwhile.
        self.feed(to)
    }

    /// The transport could not reach `peer`: what is in flight is likely lost.
    pub(crate) fn report_unreachable(&mut self, peer: NodeId) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.get_mut(peer) else { return };
        if progress.state == ProgressState::Replicate {
            progress.become_probe();
        }
        let progress = progress.clone();
        trace!(self, Event::Unreachable { peer, progress });
    }

    /// The transport delivered a snapshot, or gave up.
    pub(crate) fn report_snapshot(&mut self, peer: NodeId, ok: bool) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.get_mut(peer) else { return };
        if progress.state != ProgressState::Snapshot {
            return;
        }
        if !ok {
            progress.pending_snapshot = 0;
        }
        progress.become_probe();
        let copy = progress.clone();
        // Delivered: wait for the answer. Not: wait for a heartbeat before trying again.
        progress.flow_paused = true;
        trace!(self, Event::SnapshotReported { peer, ok, progress: copy });
    }
}
