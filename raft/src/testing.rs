//! Hooks for the script driver: the pieces that [`Node::persisted`] and [`Node::apply_conf_change`] are made of,
//! one by one. Not for owners: the order is theirs to get wrong.

use crate::error::{ChangeError, Fault};
use crate::lanes::Mark;
use crate::membership::{self, ConfChangeSingle};
use crate::message::Message;
use crate::node::Node;
use crate::progress::Tracker;
use crate::ready::PersistToken;
use crate::storage::Storage;
use crate::types::{EntryId, Index, SnapshotMeta, Term};

/// See [`ChangeError`] for when it is refused.
///
/// # Errors
/// The steps do not fit the members.
pub fn enter_joint(
    tracker: &Tracker,
    last_index: Index,
    auto_leave: bool,
    steps: &[ConfChangeSingle],
) -> Result<Tracker, ChangeError> {
    membership::enter_joint(tracker, last_index, auto_leave, steps)
}

/// See [`ChangeError`] for when it is refused.
///
/// # Errors
/// The members are not joint.
pub fn leave_joint(tracker: &Tracker) -> Result<Tracker, ChangeError> {
    membership::leave_joint(tracker)
}

/// See [`ChangeError`] for when it is refused.
///
/// # Errors
/// The steps do not fit the members.
pub fn simple(
    tracker: &Tracker,
    last_index: Index,
    steps: &[ConfChangeSingle],
) -> Result<Tracker, ChangeError> {
    membership::simple(tracker, last_index, steps)
}

/// As if a lease given in an earlier life were over.
pub fn forget_promise<S: Storage>(node: &mut Node<S>) {
    node.core.promised_until = 0;
}

/// What a batch's durability means, not yet carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Term the batch was handed out in.
    pub term: Term,
    /// The end of the log then, when some of it was not durable.
    pub last: Option<EntryId>,
    /// The snapshot in the batch.
    pub snapshot: Option<SnapshotMeta>,
}

impl Report {
    /// The snapshot in the batch.
    pub fn snapshot_meta(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref()
    }
}

impl<S: Storage> Node<S> {
    /// Campaigns without the refusals of [`Node::campaign`] that etcd does not have.
    pub fn hup(&mut self) {
        self.act(|core| crate::tick::ignore_refusal(core.hup(false)));
    }

    /// Sets the ticks until the next election.
    pub fn set_election_wait(&mut self, ticks: u32) {
        self.core.election_wait = ticks;
    }

    /// The messages that wait for the batch of `token`, those to this member included.
    pub fn waiting_for(&self, token: &PersistToken) -> Vec<Message> {
        let batch = self.lanes.batches.iter().find(|batch| batch.number == token.number);
        batch.map(|batch| batch.promises.clone()).unwrap_or_default()
    }

    /// What is to be reported once the batch of `token` is durable.
    pub fn report_of(&self, token: &PersistToken) -> Option<Report> {
        let batch = self.lanes.batches.iter().find(|batch| batch.number == token.number)?;
        let Mark { term, last } = batch.mark?;
        Some(Report { term, last, snapshot: batch.snapshot.clone() })
    }

    /// Takes the batch of `token` out of the lane without its consequences.
    pub fn forget_batch(&mut self, token: PersistToken) {
        self.lanes.batches.retain(|batch| batch.number != token.number);
    }

    /// One promise to this member came true.
    ///
    /// # Errors
    /// A fault.
    pub fn step_own(&mut self, message: Message) -> Result<(), Fault> {
        let outcome = self.keep_promise(message);
        outcome.map_err(|fault| self.stop(fault))
    }

    /// A batch's report arrived.
    ///
    /// # Errors
    /// A fault.
    pub fn step_report(&mut self, report: &Report) -> Result<(), Fault> {
        if let Some(last) = report.last {
            self.core.stable(report.term, last);
        }
        match &report.snapshot {
            Some(meta) => self.core.installed(meta.index).map_err(|fault| self.stop(fault)),
            None => Ok(()),
        }
    }
}
