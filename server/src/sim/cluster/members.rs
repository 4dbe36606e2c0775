//! The members as the reference sees them: etcd's rules for changes, computed a second time.

use std::collections::{BTreeMap, BTreeSet};

use ketch_raft::ConfChangeKind::{AddLearner, AddVoter, Remove, Update};
use ketch_raft::{ConfChange, NodeId};

use super::ask::{Seen, Told};
use crate::apply::answer::ApplyError;
use crate::cluster::Context;

/// Who is a member, after every change that was applied anywhere.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Members, and whether they only learn.
    now: BTreeMap<NodeId, bool>,
    removed: BTreeSet<NodeId>,
    /// How many changes took effect.
    pub(super) version: u64,
    /// How many changes were refused.
    pub(super) refused: u64,
    /// How many learners became voters.
    pub(super) promoted: u64,
}

impl Members {
    /// Members, and whether they only learn.
    pub(super) fn now(&self) -> &BTreeMap<NodeId, bool> {
        &self.now
    }

    /// Those that are members no more.
    pub(super) fn removed(&self) -> &BTreeSet<NodeId> {
        &self.removed
    }

    /// How many members vote.
    pub(super) fn voters(&self) -> usize {
        self.now.values().filter(|learner| !**learner).count()
    }

    /// A change is applied: what to tell who waits for it.
    ///
    /// # Errors
    /// A change that nobody asks for.
    pub(super) fn change(&mut self, change: &ConfChange, context: &Context) -> Result<Told, String> {
        let [single] = &change.changes[..] else { return Err(format!("nobody asks for {change:?}")) };
        let (id, found) = (single.node, self.now.get(&single.node).copied());
        let refusal = match (single.kind, found) {
            _ if self.removed.contains(&id) => Some(ApplyError::MemberNotFound),
            (AddVoter, None) if context.is_promote => Some(ApplyError::MemberNotFound),
            (AddVoter, Some(false)) if context.is_promote => Some(ApplyError::MemberNotLearner),
            (AddVoter, Some(_)) if !context.is_promote => Some(ApplyError::MemberExists),
            (AddLearner, Some(_)) => Some(ApplyError::MemberExists),
            (Remove | Update, None) => Some(ApplyError::MemberNotFound),
            _ => None,
        };
        if let Some(refusal) = refusal {
            self.refused += 1;
            return Ok(Told::Refused(refusal));
        }
        self.version += 1;
        match single.kind {
            AddVoter => {
                self.promoted += u64::from(context.is_promote);
                self.now.insert(id, false);
            }
            AddLearner => _ = self.now.insert(id, true),
            Remove => {
                self.now.remove(&id);
                self.removed.insert(id);
            }
            Update => {}
        }
        Ok(Told::Done(0, Seen::Members(self.now.iter().map(|(id, learner)| (*id, *learner)).collect())))
    }
}
