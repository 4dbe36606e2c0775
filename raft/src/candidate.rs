//! Elections: asking, counting, winning (paper, §5.2; thesis, §9.6).

use crate::core::{Core, Halt, trace};
use crate::error::{Fault, Refusal};
use crate::message::{Body, Message};
use crate::quorum::VoteResult;
use crate::storage::Storage;
use crate::trace::{Event, VoteKind};
use crate::types::{EntryId, NO_NODE, NodeId, Role};

impl<S: Storage> Core<S> {
    /// Begins an election if this member may. A transfer skips the pre-vote: the leader itself asked for it.
    pub(crate) fn hup(&mut self, transfer: bool) -> Result<(), Halt> {
        if let Some(refusal) = self.refuse_campaign()? {
            trace!(self, Event::CampaignRefused { refusal: refusal.clone() });
            return Err(refusal.into());
        }
        trace!(self, Event::ElectionStarting);
        let kind = if self.config.pre_vote && !transfer { VoteKind::PreVote } else { VoteKind::Vote };
        Ok(self.campaign(kind, transfer)?)
    }

    fn refuse_campaign(&self) -> Result<Option<Refusal>, Fault> {
        if self.role == Role::Leader {
            return Ok(Some(Refusal::AlreadyLeader));
        }
        if !self.promotable() {
            return Ok(Some(Refusal::NotPromotable));
        }
        if self.log.has_unapplied_change()? {
            let (applied, committed) = (self.log.applied, self.log.committed);
            return Ok(Some(Refusal::UnappliedConfChange { applied, committed }));
        }
        Ok(None)
    }

    fn campaign(&mut self, kind: VoteKind, transfer: bool) -> Result<(), Fault> {
        match kind {
            VoteKind::PreVote => self.become_pre_candidate(),
            VoteKind::Vote => self.become_candidate(),
        }
        let term = if kind == VoteKind::PreVote { self.term + 1 } else { self.term };
        let last = self.log.last_id()?;
        let commit = self.known_commit()?;
        for to in self.tracker.voters.ids() {
            if to == self.id {
                // The own vote counts once it is durable, like anybody's.
                let body = match kind {
                    VoteKind::PreVote => Body::PreVoteAnswer { reject: false, commit: EntryId::default() },
                    VoteKind::Vote => Body::VoteAnswer { reject: false, commit: EntryId::default() },
                };
                self.queue(Message { from: self.id, to, term, body });
                continue;
            }
            trace!(self, Event::VoteRequested { kind, to, last });
            let (index, log_term) = (last.index, last.term);
            let body = match kind {
                VoteKind::PreVote => Body::PreVote { index, log_term, commit },
                VoteKind::Vote => Body::Vote { index, log_term, transfer, commit },
            };
            self.queue(Message { from: self.id, to, term, body });
        }
        Ok(())
    }

    pub(crate) fn step_candidate(&mut self, from: NodeId, body: Body) -> Result<(), Halt> {
        match body {
            Body::Propose { .. } => {
                let refusal = Refusal::NoLeader { term: self.term };
                trace!(self, Event::ProposalRefused { refusal: refusal.clone() });
                Err(refusal.into())
            }
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } => {
                // Somebody else won this term.
                self.become_follower(self.term, from);
                self.step_follower(from, body)
            }
            Body::VoteAnswer { reject, .. } if self.role == Role::Candidate => {
                Ok(self.count_vote(VoteKind::Vote, from, !reject)?)
            }
            Body::PreVoteAnswer { reject, .. } if self.role == Role::PreCandidate => {
                Ok(self.count_vote(VoteKind::PreVote, from, !reject)?)
            }
            Body::TimeoutNow => {
                trace!(self, Event::TimeoutNowIgnored { from, role: self.role });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn count_vote(&mut self, kind: VoteKind, from: NodeId, granted: bool) -> Result<(), Fault> {
        trace!(self, Event::VoteReceived { kind, from, granted });
        self.tracker.record_vote(from, granted);
        let (granted, refused, result) = self.tracker.tally();
        trace!(self, Event::VotesCounted { kind, granted, refused });
        match result {
            VoteResult::Pending => Ok(()),
            VoteResult::Lost => {
                // A refused pre-vote names the term asked about, which was never entered.
                self.become_follower(self.term, NO_NODE);
                Ok(())
            }
            VoteResult::Won if kind == VoteKind::PreVote => self.campaign(VoteKind::Vote, false),
            VoteResult::Won if !self.promotable() => {
                self.become_follower(self.term, NO_NODE);
                Ok(())
            }
            VoteResult::Won => {
                self.become_leader()?;
                self.broadcast_append()
            }
        }
    }
}
