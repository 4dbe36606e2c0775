//! Time passes.

use crate::core::{Core, Halt, trace};
use crate::error::Fault;
use crate::storage::Storage;
use crate::trace::Event;
use crate::types::{NO_NODE, Role};

impl<S: Storage> Core<S> {
    pub(crate) fn tick(&mut self) -> Result<(), Fault> {
        self.ticks += 1;
        self.election_elapsed = self.election_elapsed.saturating_add(1);
        if self.role == Role::Leader { self.tick_leader() } else { self.tick_election() }
    }

    fn tick_election(&mut self) -> Result<(), Fault> {
        if self.promotable() && self.election_elapsed >= self.election_wait {
            self.election_elapsed = 0;
            let outcome = self.hup(false);
            ignore_refusal(outcome)?;
        }
        Ok(())
    }

    fn tick_leader(&mut self) -> Result<(), Fault> {
        self.heartbeat_elapsed += 1;
        if self.election_elapsed >= self.config.election_ticks {
            self.election_elapsed = 0;
            if self.config.check_quorum {
                self.check_quorum();
            }
            if self.role == Role::Leader && std::mem::replace(&mut self.transferee, NO_NODE) != NO_NODE {
                self.leave_joint_if_due()?;
            }
        }
        if self.role == Role::Leader && self.heartbeat_elapsed >= self.config.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.broadcast_heartbeat();
        }
        Ok(())
    }

    fn check_quorum(&mut self) {
        if !self.tracker.quorum_active() {
            trace!(self, Event::QuorumLost);
            self.become_follower(self.term, NO_NODE);
        }
        for (id, progress) in &mut self.tracker.peers {
            if *id != self.id {
                progress.recent_active = false;
            }
        }
    }
}

/// Refusals of what nobody asked for are nobody's business.
pub(crate) fn ignore_refusal(outcome: Result<(), Halt>) -> Result<(), Fault> {
    match outcome {
        Err(Halt::Fault(fault)) => Err(fault),
        _ => Ok(()),
    }
}
