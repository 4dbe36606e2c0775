//! What a change makes of a membership, for owners that keep the members with their state.

use super::{ConfChange, ConfState, carry_out, restore};
use crate::error::ChangeError;
use crate::progress::Tracker;

impl ConfState {
    /// The members after `change`: what [`Node::apply_conf_change`](crate::Node::apply_conf_change) answers, as a
    /// pure function. An owner that stores the members together with the entry that changed them computes them here
    /// while applying, before the node hears of it.
    ///
    /// # Errors
    /// The change does not fit the members.
    ///
    /// # Examples
    /// ```
    /// use ketch_raft::{ConfChange, ConfChangeKind, ConfState};
    ///
    /// let one = ConfState::of_voters([1]);
    /// let two = one.changed_by(&ConfChange::single(ConfChangeKind::AddVoter, 2))?;
    /// assert_eq!(two, ConfState::of_voters([1, 2]));
    /// assert!(one.changed_by(&ConfChange::single(ConfChangeKind::Remove, 1)).is_err());
    /// # Ok::<(), ketch_raft::ChangeError>(())
    /// ```
    pub fn changed_by(&self, change: &ConfChange) -> Result<ConfState, ChangeError> {
        let members = restore(&Tracker::new(1, 0), 0, self)?;
        Ok(carry_out(&members, 0, change)?.conf_state())
    }
}
