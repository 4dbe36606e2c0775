//! Handing leadership over (thesis, §3.10). Given up after one election timeout.

use crate::core::{Core, Halt, trace};
use crate::error::Refusal;
use crate::message::Body;
use crate::planted::Bug;
use crate::storage::Storage;
use crate::trace::Event;
use crate::types::{NO_NODE, NodeId, Role};

impl<S: Storage> Core<S> {
    /// The owner's wish: carried out here, or passed on to the leader.
    pub(crate) fn transfer_here(&mut self, to: NodeId) -> Result<(), Halt> {
        match self.role {
            Role::Leader if self.tracker.get(to).is_none() => {
                trace!(self, Event::UnknownPeer { from: to });
                Err(Refusal::UnknownNode { node: to }.into())
            }
            Role::Leader => self.start_transfer(to),
            Role::Follower => self.step_follower(to, Body::TransferLeader),
            _ => Err(Refusal::NoLeader { term: self.term }.into()),
        }
    }

    /// `to` is tracked.
    pub(crate) fn start_transfer(&mut self, to: NodeId) -> Result<(), Halt> {
        if self.tracker.get(to).is_some_and(|peer| peer.is_learner) {
            return self.ignore_transfer(to, Refusal::Learner { node: to });
        }
        if self.transferee == to {
            trace!(self, Event::TransferRepeated { to });
            return Ok(());
        }
        if self.transferee != NO_NODE {
            let aborted = std::mem::replace(&mut self.transferee, NO_NODE);
            trace!(self, Event::TransferAborted { to: aborted });
        }
        if to == self.id {
            self.leave_joint_if_due()?;
            return self.ignore_transfer(to, Refusal::AlreadyLeader);
        }
        trace!(self, Event::TransferStarted { to });
        self.election_elapsed = 0;
        self.transferee = to;
        let complete = self.tracker.get(to).is_some_and(|peer| peer.match_index == self.log.last_index());
        if complete || self.bug(Bug::TransferToLagging) {
            self.send_timeout_now(to, true);
        } else {
            self.send_append(to)?;
        }
        Ok(())
    }

    fn ignore_transfer(&mut self, to: NodeId, refusal: Refusal) -> Result<(), Halt> {
        trace!(self, Event::TransferIgnored { to, refusal: refusal.clone() });
        Err(refusal.into())
    }

    /// From here on the lease proves nothing in this term: voters ignore theirs for the election that follows,
    /// whenever the message arrives.
    pub(crate) fn send_timeout_now(&mut self, to: NodeId, immediately: bool) {
        trace!(self, Event::TimeoutNowSent { to, immediately });
        self.reads.break_lease();
        self.send(to, Body::TimeoutNow);
    }
}
