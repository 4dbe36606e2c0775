//! The first start of a cluster.

use bytes::Bytes;

use crate::membership::{ConfChange, ConfChangeKind};
use crate::types::{Entry, HardState, Index, NodeId, Payload};

/// What each founding member persists before its first start: in term 1, one committed change of members for each
/// of `peers` (id and context), in the given order, which must be the same everywhere.
///
/// The entries are applied like any others, so the owner learns of the members by the same way as later on. A node
/// started on them campaigns once they are applied.
pub fn bootstrap(peers: &[(NodeId, Bytes)]) -> (HardState, Vec<Entry>) {
    let entries: Vec<Entry> = peers
        .iter()
        .zip(1..)
        .map(|((id, context), index)| {
            let change = ConfChange::single(ConfChangeKind::AddVoter, *id);
            let change = ConfChange { context: context.clone(), ..change };
            Entry { term: 1, index, payload: Payload::ConfChange(change) }
        })
        .collect();
    (HardState { term: 1, vote: 0, commit: entries.len() as Index }, entries)
}
