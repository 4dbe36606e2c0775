//! Changes of members, carried out on a copy and checked before and after.
//!
//! The rules, all checked by [`check`]:
//! 1. every member has a progress;
//! 2. nobody is learner and voter at once; a voter to be demoted waits in `learners_next` while it still
//!    votes in the outgoing majority;
//! 3. outside a joint configuration there is no outgoing majority, no `learners_next`, no auto-leave.

use super::{ConfChange, ConfChangeKind, ConfChangeSingle};
use crate::error::ChangeError;
use crate::progress::{Progress, Tracker};
use crate::quorum::Majority;
use crate::types::{Index, NodeId};

/// What `change` makes of the members in `tracker`. `last_index` is where sending to a new member starts.
pub(crate) fn carry_out(
    tracker: &Tracker,
    last_index: Index,
    change: &ConfChange,
) -> Result<Tracker, ChangeError> {
    if change.leaves_joint() {
        leave_joint(tracker)
    } else if let Some(auto_leave) = change.enters_joint() {
        enter_joint(tracker, last_index, auto_leave, &change.changes)
    } else {
        simple(tracker, last_index, &change.changes)
    }
}

/// From `(1 2 3)` to `(1 2 4)&&(1 2 3)`: the incoming majority becomes the outgoing one as well, then the steps
/// work on the incoming one (thesis, §4.3).
///
/// # Errors
/// The members are already joint, or nobody votes before or after.
pub(crate) fn enter_joint(
    tracker: &Tracker,
    last_index: Index,
    auto_leave: bool,
    steps: &[ConfChangeSingle],
) -> Result<Tracker, ChangeError> {
    check(tracker)?;
    if tracker.voters.is_joint() {
        return Err(ChangeError::AlreadyJoint);
    }
    if tracker.voters.incoming.is_empty() {
        return Err(ChangeError::NoVoters);
    }
    let mut next = tracker.clone();
    next.voters.outgoing = next.voters.incoming.clone();
    apply(&mut next, last_index, steps)?;
    next.auto_leave = auto_leave;
    check(&next)?;
    Ok(next)
}

/// The incoming majority decides alone; outgoing voters become what they were to become.
///
/// # Errors
/// The members are not joint.
pub(crate) fn leave_joint(tracker: &Tracker) -> Result<Tracker, ChangeError> {
    check(tracker)?;
    if !tracker.voters.is_joint() {
        return Err(ChangeError::NotJoint);
    }
    let mut next = tracker.clone();
    for id in std::mem::take(&mut next.learners_next) {
        insert(&mut next.learners, id);
        if let Some(progress) = next.get_mut(id) {
            progress.is_learner = true;
        }
    }
    for id in std::mem::take(&mut next.voters.outgoing).ids() {
        if !next.voters.incoming.contains(*id) && !next.learners.contains(id) {
            next.remove(*id);
        }
    }
    next.auto_leave = false;
    check(&next)?;
    Ok(next)
}

/// Steps that together change at most one voter, at once.
///
/// # Errors
/// The members are joint, more than one voter changes, or nobody votes afterwards.
pub(crate) fn simple(
    tracker: &Tracker,
    last_index: Index,
    steps: &[ConfChangeSingle],
) -> Result<Tracker, ChangeError> {
    check(tracker)?;
    if tracker.voters.is_joint() {
        return Err(ChangeError::SimpleWhileJoint);
    }
    let mut next = tracker.clone();
    apply(&mut next, last_index, steps)?;
    if differing(&tracker.voters.incoming, &next.voters.incoming) > 1 {
        return Err(ChangeError::TooManyVoters);
    }
    check(&next)?;
    Ok(next)
}

fn differing(a: &Majority, b: &Majority) -> usize {
    let only = |x: &Majority, y: &Majority| x.ids().iter().filter(|id| !y.contains(**id)).count();
    only(a, b) + only(b, a)
}

fn apply(next: &mut Tracker, last_index: Index, steps: &[ConfChangeSingle]) -> Result<(), ChangeError> {
    for step in steps.iter().filter(|step| step.node != 0) {
        match step.kind {
            ConfChangeKind::AddVoter => make_voter(next, last_index, step.node),
            ConfChangeKind::AddLearner => make_learner(next, last_index, step.node),
            ConfChangeKind::Remove => remove(next, step.node),
            ConfChangeKind::Update => {}
        }
    }
    if next.voters.incoming.is_empty() { Err(ChangeError::RemovesAllVoters) } else { Ok(()) }
}

fn make_voter(next: &mut Tracker, last_index: Index, id: NodeId) {
    if let Some(progress) = next.get_mut(id) {
        progress.is_learner = false;
        delete(&mut next.learners, id);
        delete(&mut next.learners_next, id);
    } else {
        track(next, last_index, id, false);
    }
    next.voters.incoming.insert(id);
}

fn make_learner(next: &mut Tracker, last_index: Index, id: NodeId) {
    let Some(progress) = next.get(id).cloned() else {
        track(next, last_index, id, true);
        insert(&mut next.learners, id);
        return;
    };
    if progress.is_learner {
        return;
    }
    remove(next, id);
    next.insert(id, progress);
    if next.voters.outgoing.contains(id) {
        insert(&mut next.learners_next, id);
    } else {
        if let Some(progress) = next.get_mut(id) {
            progress.is_learner = true;
        }
        insert(&mut next.learners, id);
    }
}

fn remove(next: &mut Tracker, id: NodeId) {
    next.voters.incoming.remove(id);
    delete(&mut next.learners, id);
    delete(&mut next.learners_next, id);
    if !next.voters.outgoing.contains(id) {
        next.remove(id);
    }
}

/// A new member counts as recently heard of, so that a leader does not step down before it could answer.
fn track(next: &mut Tracker, last_index: Index, id: NodeId, is_learner: bool) {
    let mut progress = Progress::new(last_index.max(1), next.inflights(), is_learner);
    progress.recent_active = true;
    next.insert(id, progress);
}

fn insert(list: &mut Vec<NodeId>, id: NodeId) {
    if let Err(at) = list.binary_search(&id) {
        list.insert(at, id);
    }
}

fn delete(list: &mut Vec<NodeId>, id: NodeId) {
    if let Ok(at) = list.binary_search(&id) {
        list.remove(at);
    }
}

/// The rules at the top of this file.
pub(crate) fn check(tracker: &Tracker) -> Result<(), ChangeError> {
    let wrong = |what, id: &NodeId| Err(ChangeError::Inconsistent(what, *id));
    let voters = &tracker.voters;
    let tracked = |id: &NodeId| tracker.get(*id).is_some();
    let lists = [voters.incoming.ids(), voters.outgoing.ids(), &tracker.learners, &tracker.learners_next];
    if let Some(id) = lists.iter().flat_map(|list| list.iter()).find(|id| !tracked(id)) {
        return wrong("has no progress", id);
    }
    let is_learner = |id: &NodeId| tracker.get(*id).is_some_and(|progress| progress.is_learner);
    for id in &tracker.learners_next {
        if !voters.outgoing.contains(*id) {
            return wrong("is to become a learner but is no outgoing voter", id);
        }
        if is_learner(id) {
            return wrong("is to become a learner but is one already", id);
        }
    }
    for id in &tracker.learners {
        if voters.contains(*id) {
            return wrong("is learner and voter", id);
        }
        if !is_learner(id) {
            return wrong("is a learner but not marked as one", id);
        }
    }
    if !voters.is_joint() {
        if let Some(id) = tracker.learners_next.first() {
            return wrong("is to become a learner but the members are not joint", id);
        }
        if tracker.auto_leave {
            return wrong("auto-leave although the members are not joint", &0);
        }
    }
    Ok(())
}
