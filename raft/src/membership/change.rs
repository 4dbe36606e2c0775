//! What can be asked of a membership, and what a membership is.

use std::fmt;

use bytes::Bytes;

use crate::types::{NodeId, varint_bytes};

/// How to get from the old members to the new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Transition {
    /// One change: at once. Several: through a joint configuration that is left by itself.
    #[default]
    Auto,
    /// Always through a joint configuration that is left by itself.
    Implicit,
    /// Always through a joint configuration that the owner leaves by proposing [`ConfChange::leave`].
    Explicit,
}

/// What to do to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ConfChangeKind {
    /// Make it a voter: new, or promoted from learner.
    AddVoter,
    /// Make it a learner: new, or demoted from voter.
    AddLearner,
    /// Drop it.
    Remove,
    /// Nothing to raft: the owner keeps data about members (addresses) in the change's context.
    Update,
}

/// One step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConfChangeSingle {
    /// What to do.
    pub kind: ConfChangeKind,
    /// To whom. 0 makes the step void.
    pub node: NodeId,
}

/// A change of members as an entry carries it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConfChange {
    /// How to get there.
    pub transition: Transition,
    /// The steps, in order. None, with [`Transition::Auto`], leaves a joint configuration.
    pub changes: Vec<ConfChangeSingle>,
    /// The owner's bytes.
    pub context: Bytes,
    /// Encoded as raftpb's first form (exactly one step, [`Transition::Auto`]). Raft itself treats both alike.
    pub v1: bool,
}

impl ConfChange {
    /// One step without a joint configuration, in raftpb's first form.
    pub fn single(kind: ConfChangeKind, node: NodeId) -> ConfChange {
        ConfChange { changes: vec![ConfChangeSingle { kind, node }], v1: true, ..ConfChange::default() }
    }

    /// Several steps.
    pub fn new(transition: Transition, changes: Vec<ConfChangeSingle>) -> ConfChange {
        ConfChange { transition, changes, ..ConfChange::default() }
    }

    /// Leaves a joint configuration.
    pub fn leave() -> ConfChange {
        ConfChange::default()
    }

    /// True when it leaves a joint configuration.
    pub fn leaves_joint(&self) -> bool {
        self.transition == Transition::Auto && self.changes.is_empty()
    }

    /// `Some(auto_leave)` when it enters a joint configuration.
    pub fn enters_joint(&self) -> Option<bool> {
        match self.transition {
            Transition::Auto if self.changes.len() <= 1 => None,
            Transition::Auto | Transition::Implicit => Some(true),
            Transition::Explicit => Some(false),
        }
    }

    /// Bytes it would take in raftpb. A change that only leaves a joint configuration takes none, so no limit refuses it.
    pub fn wire_bytes(&self) -> u64 {
        let context = match self.context.len() as u64 {
            0 => 0,
            len => 1 + varint_bytes(len) + len,
        };
        let steps = self.changes.iter().map(|step| 3 + varint_bytes(step.node));
        match (self.v1, self.leaves_joint()) {
            (true, _) => steps.sum::<u64>() + context,
            (false, true) => context,
            (false, false) => 2 + steps.map(|step| 2 + step).sum::<u64>() + context,
        }
    }
}

/// The members at one point of the log. Lists are sorted and free of duplicates when they come from this crate.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConfState {
    /// Who votes; in a joint configuration, the incoming majority.
    pub voters: Vec<NodeId>,
    /// The outgoing majority of a joint configuration; empty otherwise.
    pub voters_outgoing: Vec<NodeId>,
    /// Who receives the log without a vote.
    pub learners: Vec<NodeId>,
    /// Outgoing voters who become learners when the joint configuration is left.
    pub learners_next: Vec<NodeId>,
    /// The joint configuration is left by the leader as soon as it is applied.
    pub auto_leave: bool,
}

impl ConfState {
    /// Plain voters.
    pub fn of_voters(voters: impl Into<Vec<NodeId>>) -> ConfState {
        ConfState { voters: voters.into(), ..ConfState::default() }.sorted()
    }

    /// Two majorities decide.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// True when `node` has a vote in either majority.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.voters_outgoing.contains(&node)
    }

    /// True when `node` is in any list.
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node) || self.learners_next.contains(&node)
    }

    /// The same members in the order this crate keeps.
    pub(crate) fn sorted(mut self) -> ConfState {
        for list in [&mut self.voters, &mut self.voters_outgoing, &mut self.learners, &mut self.learners_next]
        {
            list.sort_unstable();
            list.dedup();
        }
        self
    }
}

/// `voters=(1 2 3)&&(1 2) learners=(4) learners_next=(5) autoleave`, ids in hexadecimal.
impl fmt::Display for ConfState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "voters={}", Ids(&self.voters))?;
        if self.is_joint() {
            write!(f, "&&{}", Ids(&self.voters_outgoing))?;
        }
        if !self.learners.is_empty() {
            write!(f, " learners={}", Ids(&self.learners))?;
        }
        if !self.learners_next.is_empty() {
            write!(f, " learners_next={}", Ids(&self.learners_next))?;
        }
        if self.auto_leave {
            write!(f, " autoleave")?;
        }
        Ok(())
    }
}

/// `(1 2 a)`.
pub(crate) struct Ids<'a>(pub(crate) &'a [NodeId]);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, id) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{id:x}")?;
        }
        f.write_str(")")
    }
}
