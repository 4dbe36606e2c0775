//! Members: what a change is, and what it makes of the members in force.

mod change;
mod changer;
mod preview;
mod restore;

pub use change::{ConfChange, ConfChangeKind, ConfChangeSingle, ConfState, Transition};
pub(crate) use changer::{carry_out, check};
#[cfg(feature = "testing")]
pub(crate) use changer::{enter_joint, leave_joint, simple};
pub(crate) use restore::restore;
