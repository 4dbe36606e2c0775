//! `--force-new-cluster`: a member whose cluster is lost goes on alone, with the data it has.
//!
//! The log gets one durable batch: entries, already committed, by which every other member leaves (and a learner votes, and
//! a member that never learned of the members adds itself), and a hard state of a new term. From there on it is a start like
//! any other.
//!
//! **Crash argument.** Before the batch is durable nothing has changed; afterwards the log tells of a cluster of one, and
//! doing it again finds nothing to do. Torn, the batch is cut off as a whole: it was never acknowledged.
//!
//! **Nothing acknowledged is lost.** The last entries of a log may be committed without this member knowing: what it stores
//! of the commit index trails behind. So all entries of the log count as committed. etcd drops those after the
//! commit index it stored, among them writes that it may have acknowledged.

use std::collections::BTreeMap;

use ketch_raft::{ConfChange, ConfChangeKind, Entry, HardState, Index, NodeId, Payload};
use ketch_wal::{Batch, Wal};

use super::StartError;
use super::log::FoundLog;
use crate::apply::cluster::Cluster;
use crate::apply::core::ApplyCore;
use crate::cluster::{Context, Member};
use crate::consensus::record;

/// Members, and whether they only learn.
type Ids = BTreeMap<NodeId, bool>;

/// Makes the member `own` the only one of its cluster. `peers` is whom a member that joins was told of. True if something was to
/// be done: the log is to be read again.
///
/// # Errors
/// [`StartError::Removed`]: whoever was removed is no member of which a cluster could be made. Or the log.
pub(super) fn stand_alone(
    wal: &Wal,
    found: &FoundLog,
    own: NodeId,
    applier: &ApplyCore,
    peers: &[Member],
) -> Result<bool, StartError> {
    let (cluster, applied) = (applier.cluster(), applier.store().applied().index);
    let (ids, was_removed) = members_after(found, cluster, own, applied);
    let last = ketch_raft::Storage::last_index(&found.storage);
    let changes = match ids.get(&own) {
        _ if was_removed => return Err(StartError::Removed),
        Some(false) if ids.len() == 1 => return Ok(false),
        standing => changes(own, standing.copied(), &ids, cluster, peers),
    };
    let state = found.hard_state.unwrap_or_default();
    // An entry of its own term: what another member may have at these places is never taken for it.
    let term = state.term + 1;
    let entries: Vec<Entry> = changes
        .into_iter()
        .zip(last + 1..)
        .map(|(change, index)| Entry { term, index, payload: Payload::ConfChange(change) })
        .collect();
    let mut batch = Batch::new();
    entries.iter().for_each(|entry| record::push_entry(&mut batch, entry));
    record::push_hard_state(&mut batch, &HardState { term, vote: own, commit: last + entries.len() as u64 });
    wal.commit(&mut batch).map_err(StartError::LogWrite)?;
    tracing::warn!(
        local_member_id = %format_args!("{own:x}"),
        removed = ?ids.keys().filter(|id| **id != own).map(|id| format!("{id:x}")).collect::<Vec<_>>(),
        commit_index = state.commit,
        last_index = last,
        "forcing restart member: it is the only one of its cluster now"
    );
    Ok(true)
}

/// The members once everything in the log is applied, and whether `own` was removed.
fn members_after(found: &FoundLog, cluster: &Cluster, own: NodeId, applied: Index) -> (Ids, bool) {
    let mut ids: Ids = cluster.members.values().map(|member| (member.id, member.is_learner)).collect();
    let mut was_removed = cluster.removed.contains(&own);
    for change in found.conf_changes.range(applied + 1..).map(|(_, change)| change) {
        let promotes = Context::from_json(&change.context).is_ok_and(|context| context.is_promote);
        for single in change.changes.iter().filter(|single| !cluster.removed.contains(&single.node)) {
            match single.kind {
                ConfChangeKind::AddVoter if promotes => {
                    ids.entry(single.node).and_modify(|learns| *learns = false);
                }
                ConfChangeKind::AddVoter => _ = ids.entry(single.node).or_insert(false),
                ConfChangeKind::AddLearner => _ = ids.entry(single.node).or_insert(true),
                ConfChangeKind::Remove => {
                    ids.remove(&single.node);
                    was_removed |= single.node == own;
                }
                ConfChangeKind::Update => {}
            }
        }
    }
    (ids, was_removed)
}

/// The own member first: raft is never without a voter.
fn changes(
    own: NodeId,
    standing: Option<bool>,
    ids: &Ids,
    cluster: &Cluster,
    peers: &[Member],
) -> Vec<ConfChange> {
    let known = cluster.members.get(&own).or_else(|| peers.iter().find(|peer| peer.id == own));
    let nameless = Member {
        id: own,
        peer_urls: Vec::new(),
        is_learner: false,
        name: String::new(),
        client_urls: Vec::new(),
    };
    let member = Member { is_learner: false, ..known.cloned().unwrap_or(nameless) };
    let vote = |is_promote| {
        let context = Context { is_promote, ..Context::of(member.clone()) };
        let change = ConfChange::single(ConfChangeKind::AddVoter, own);
        ConfChange { context: context.to_json().into(), ..change }
    };
    let first = match standing {
        Some(false) => None,
        Some(true) => Some(vote(true)),
        None => Some(vote(false)),
    };
    let others = ids.keys().filter(|id| **id != own);
    first.into_iter().chain(others.map(|id| ConfChange::single(ConfChangeKind::Remove, *id))).collect()
}

#[cfg(test)]
mod tests;
