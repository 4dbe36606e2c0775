//! From stored members back to the members in force, by the same changes that could have led there.

use super::changer::{enter_joint, simple};
use super::{ConfChangeKind, ConfChangeSingle, ConfState};
use crate::error::ChangeError;
use crate::progress::Tracker;
use crate::types::{Index, NodeId};

/// Builds the members of `state` on top of an empty tracker: first the outgoing voters one by one, then, in one
/// joint step, everything else.
pub(crate) fn restore(empty: &Tracker, last_index: Index, state: &ConfState) -> Result<Tracker, ChangeError> {
    let mut tracker = empty.clone();
    let incoming = incoming_steps(state);
    if !state.is_joint() {
        for step in incoming {
            tracker = simple(&tracker, last_index, &[step])?;
        }
        return Ok(tracker);
    }
    for id in &state.voters_outgoing {
        tracker = simple(&tracker, last_index, &[step(ConfChangeKind::AddVoter, *id)])?;
    }
    enter_joint(&tracker, last_index, state.auto_leave, &incoming)
}

fn incoming_steps(state: &ConfState) -> Vec<ConfChangeSingle> {
    let removed = state.voters_outgoing.iter().map(|id| step(ConfChangeKind::Remove, *id));
    let voters = state.voters.iter().map(|id| step(ConfChangeKind::AddVoter, *id));
    let learners = state.learners.iter().chain(&state.learners_next);
    removed.chain(voters).chain(learners.map(|id| step(ConfChangeKind::AddLearner, *id))).collect()
}

fn step(kind: ConfChangeKind, node: NodeId) -> ConfChangeSingle {
    ConfChangeSingle { kind, node }
}
