//! Configuration changes between raft's types and their bytes (`raftpb.ConfChangeV2`), in the log and on the
//! wire. The context of a change names the member as JSON, as etcd's does (see [`crate::cluster`]).

use bytes::Bytes;
use ketch_proto::raftpb;
use ketch_raft::{ConfChange, ConfChangeKind, ConfChangeSingle, ConfState, Transition};
use prost::Message;

/// The bytes of `change`.
#[must_use]
pub fn encode(change: &ConfChange) -> Vec<u8> {
    let transition = match change.transition {
        Transition::Auto => raftpb::ConfChangeTransition::Auto,
        Transition::Implicit => raftpb::ConfChangeTransition::JointImplicit,
        Transition::Explicit => raftpb::ConfChangeTransition::JointExplicit,
    };
    let changes = change.changes.iter().map(|single| {
        let kind = match single.kind {
            ConfChangeKind::AddVoter => raftpb::ConfChangeType::ConfChangeAddNode,
            ConfChangeKind::Remove => raftpb::ConfChangeType::ConfChangeRemoveNode,
            ConfChangeKind::Update => raftpb::ConfChangeType::ConfChangeUpdateNode,
            ConfChangeKind::AddLearner => raftpb::ConfChangeType::ConfChangeAddLearnerNode,
        };
        raftpb::ConfChangeSingle { r#type: kind as i32, node_id: single.node }
    });
    raftpb::ConfChangeV2 {
        transition: transition as i32,
        changes: changes.collect(),
        context: change.context.clone(),
    }
    .encode_to_vec()
}

/// Reads a change back.
///
/// # Errors
/// What is wrong with the bytes, in words.
pub fn decode(bytes: Bytes) -> Result<ConfChange, String> {
    let wire = raftpb::ConfChangeV2::decode(bytes).map_err(|error| error.to_string())?;
    let transition = match wire.transition() {
        raftpb::ConfChangeTransition::Auto => Transition::Auto,
        raftpb::ConfChangeTransition::JointImplicit => Transition::Implicit,
        raftpb::ConfChangeTransition::JointExplicit => Transition::Explicit,
    };
    let changes = wire
        .changes
        .iter()
        .map(|single| {
            let kind = match single.r#type() {
                raftpb::ConfChangeType::ConfChangeAddNode => ConfChangeKind::AddVoter,
                raftpb::ConfChangeType::ConfChangeRemoveNode => ConfChangeKind::Remove,
                raftpb::ConfChangeType::ConfChangeUpdateNode => ConfChangeKind::Update,
                raftpb::ConfChangeType::ConfChangeAddLearnerNode => ConfChangeKind::AddLearner,
            };
            ConfChangeSingle { kind, node: single.node_id }
        })
        .collect();
    Ok(ConfChange { transition, changes, context: wire.context, ..ConfChange::default() })
}

/// Raft's membership as `raftpb` has it.
#[must_use]
pub fn conf_state_to_wire(state: &ConfState) -> raftpb::ConfState {
    raftpb::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
    }
}

/// Reads it back.
#[must_use]
pub fn conf_state_from_wire(wire: raftpb::ConfState) -> ConfState {
    ConfState {
        voters: wire.voters,
        voters_outgoing: wire.voters_outgoing,
        learners: wire.learners,
        learners_next: wire.learners_next,
        auto_leave: wire.auto_leave,
    }
}
