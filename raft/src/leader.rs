//! Taking proposals, counting acknowledgements, committing (paper, §5.3, §5.4.2).

use crate::core::{Core, Halt, trace};
use crate::error::{Fault, Refusal};
use crate::membership::{ConfChange, carry_out};
use crate::message::{Body, Rejection};
use crate::planted::Bug;
use crate::progress::ProgressState;
use crate::storage::Storage;
use crate::trace::Event;
use crate::types::{Entry, EntryId, Index, NO_NODE, NodeId, Payload, Role};

use crate::config::RefusedChange;

impl<S: Storage> Core<S> {
    pub(crate) fn step_leader(&mut self, from: NodeId, body: Body) -> Result<(), Halt> {
        match body {
            Body::Propose { entries } => {
                let mut payloads: Vec<Payload> = entries.into_iter().map(|entry| entry.payload).collect();
                return self.propose(&mut payloads);
            }
            Body::ReadIndex { id } => return Ok(self.take_read(from, id)?),
            Body::Append { .. } | Body::Heartbeat { .. } if from != self.id => {
                return Err(Fault::TwoLeaders { term: self.term, known: self.id, other: from }.into());
            }
            _ => {}
        }
        if self.tracker.get(from).is_none() {
            trace!(self, Event::UnknownPeer { from });
            return Ok(());
        }
        match body {
            Body::AppendAnswer { index, rejection: Some(rejection) } => {
                Ok(self.handle_rejection(from, index, rejection)?)
            }
            Body::AppendAnswer { index, rejection: None } if index > self.log.last_index() => {
                Err(Halt::Malformed("acknowledges entries that do not exist"))
            }
            Body::AppendAnswer { index, rejection: None } => Ok(self.handle_acknowledgement(from, index)?),
            Body::HeartbeatAnswer { round } => Ok(self.handle_heartbeat_answer(from, round)?),
            Body::TransferLeader => self.start_transfer(from),
            _ => Ok(()),
        }
    }

    /// Appends proposals to the own log and sends them on. All or none are taken; what is left of `payloads` is of no use.
    pub(crate) fn propose(&mut self, payloads: &mut [Payload]) -> Result<(), Halt> {
        if let Err(refusal) = self.check_proposal() {
            trace!(self, Event::ProposalRefused { refusal: refusal.clone() });
            return Err(refusal.into());
        }
        let mut pending = None;
        for (payload, index) in payloads.iter_mut().zip(self.log.last_index() + 1..) {
            let Payload::ConfChange(change) = payload else { continue };
            match self.check_change(change, pending) {
                Ok(()) => pending = Some(index),
                Err(refusal) => {
                    trace!(
                        self,
                        Event::ChangeRefused {
                            change: change.clone(),
                            members: self.tracker.conf_state(),
                            refusal: refusal.clone(),
                        }
                    );
                    if self.config.refused_change == RefusedChange::Refuse {
                        return Err(refusal.into());
                    }
                    *payload = Payload::default();
                }
            }
        }
        if let Err(refusal) = self.take_uncommitted(payloads) {
            trace!(self, Event::ProposalRefused { refusal: refusal.clone() });
            return Err(refusal.into());
        }
        if let Some(index) = pending {
            self.pending_change_index = index;
        }
        self.append_as_leader(payloads)?;
        self.broadcast_append()?;
        Ok(())
    }

    fn check_proposal(&self) -> Result<(), Refusal> {
        if self.tracker.get(self.id).is_none() {
            return Err(Refusal::Removed);
        }
        if self.transferee != NO_NODE {
            return Err(Refusal::Transferring { to: self.transferee });
        }
        Ok(())
    }

    /// At most one change is pending, and it fits the members in force (thesis, §4.1).
    fn check_change(&self, change: &ConfChange, pending: Option<Index>) -> Result<(), Refusal> {
        if self.config.disable_change_validation {
            return Ok(());
        }
        let index = pending.unwrap_or(self.pending_change_index);
        if index > self.log.applied {
            return Err(Refusal::ConfChangePending { index, applied: self.log.applied });
        }
        let (joint, leaves) = (self.tracker.voters.is_joint(), change.changes.is_empty());
        if joint && !leaves {
            return Err(Refusal::MustLeaveJoint);
        }
        if !joint && leaves {
            return Err(Refusal::NotJoint);
        }
        carry_out(&self.tracker, self.log.last_index(), change).map(|_| ()).map_err(Refusal::InvalidChange)
    }

    /// Proposes to leave the joint configuration that was just applied.
    pub(crate) fn propose_leave(&mut self) -> Result<(), Halt> {
        self.propose(&mut [Payload::ConfChange(ConfChange::leave())])
    }

    /// A proposal of this member: appended here, or passed on.
    pub(crate) fn propose_here(&mut self, payload: Payload) -> Result<(), Halt> {
        if self.role == Role::Leader {
            return self.propose(&mut [payload]);
        }
        let body = Body::Propose { entries: vec![Entry { term: 0, index: 0, payload }] };
        match self.role {
            Role::Follower => self.step_follower(self.id, body),
            _ => self.step_candidate(self.id, body),
        }
    }

    /// The follower's log differs: try further back, skipping the terms that cannot match.
    fn handle_rejection(&mut self, from: NodeId, index: Index, rejection: Rejection) -> Result<(), Fault> {
        let Rejection { hint, log_term } = rejection;
        trace!(self, Event::AppendRejected { from, index, hint: EntryId { term: log_term, index: hint } });
        let mut next = hint;
        if log_term > 0 {
            next = self.log.conflict_by_term(hint.min(self.log.last_index()), log_term)?.0;
        }
        let past_match = self.bug(Bug::BackOffPastMatch);
        let Some(progress) = self.tracker.get_mut(from) else { return Ok(()) };
        progress.recent_active = true;
        if past_match && next < progress.next_index {
            progress.match_index = progress.match_index.max(next);
        }
        if progress.rejected(index, next) {
            let before = progress.clone();
            if progress.state == ProgressState::Replicate {
                progress.become_probe();
            }
            trace!(self, Event::ProgressDecreased { peer: from, progress: before });
            self.send_append(from)?;
        }
        Ok(())
    }

    fn handle_acknowledgement(&mut self, from: NodeId, index: Index) -> Result<(), Fault> {
        let first_index = self.log.first_index();
        let Some(progress) = self.tracker.get_mut(from) else { return Ok(()) };
        progress.recent_active = true;
        let news = progress.accepted(index)
            || (progress.match_index == index && progress.state == ProgressState::Probe);
        if !news {
            return Ok(());
        }
        match progress.state {
            ProgressState::Probe => progress.become_replicate(),
            // Whatever snapshot it took, and from whom: the log reaches it again.
            ProgressState::Snapshot if progress.match_index + 1 >= first_index => {
                let before = progress.clone();
                progress.become_probe();
                progress.become_replicate();
                trace!(self, Event::SnapshotRecovered { peer: from, progress: before });
            }
            ProgressState::Snapshot => {}
            ProgressState::Replicate => progress.inflights.free_up_to(index),
        }
        self.after_acknowledgement(from)
    }

    fn after_acknowledgement(&mut self, from: NodeId) -> Result<(), Fault> {
        let committed = self.log.committed;
        if self.maybe_commit()? {
            self.release_postponed_reads()?;
            self.broadcast_append()?;
        } else if self.gathers() {
            // It may have been behind the commit that it now holds.
            self.commit_due |= self.tracker.get(from).is_some_and(|peer| peer.is_owed(committed));
        } else if from != self.id
            && self.tracker.get(from).is_some_and(|peer| peer.can_bump_commit(committed))
        {
            self.send_append(from)?;
        }
        if from == self.id {
            return Ok(());
        }
        self.feed(from)?;
        let complete = self.tracker.get(from).is_some_and(|peer| peer.match_index == self.log.last_index());
        if from == self.transferee && complete {
            self.send_timeout_now(from, false);
        }
        Ok(())
    }

    /// Commits what a quorum holds durably, if it is of the own term. True when the commit index moved.
    pub(crate) fn maybe_commit(&mut self) -> Result<bool, Fault> {
        let index = if self.bug(Bug::MissedJointMajority) {
            self.tracker
                .voters
                .incoming
                .committed_index(|id| self.tracker.get(id).map(|peer| peer.match_index))
        } else if self.bug(Bug::LearnerCounted) {
            self.tracker.committed_with_learners()
        } else {
            self.tracker.committed()
        };
        let older = if self.bug(Bug::CommitOlderTerm) { self.log.term(index)? } else { None };
        self.log.maybe_commit(EntryId { term: older.unwrap_or(self.term), index })
    }

    fn handle_heartbeat_answer(&mut self, from: NodeId, round: u64) -> Result<(), Fault> {
        let last = self.log.last_index();
        let current = self.reads.round();
        let Some(progress) = self.tracker.get_mut(from) else { return Ok(()) };
        progress.recent_active = true;
        progress.flow_paused = false;
        if round <= current {
            progress.acked_round = progress.acked_round.max(round);
        }
        if progress.match_index < last || progress.state == ProgressState::Probe {
            self.send_append(from)?;
        }
        self.confirm_reads();
        Ok(())
    }
}
