//! Quorum arithmetic. Knows ids, indexes and votes, nothing of raft.

mod joint;
mod majority;

pub use joint::Joint;
pub use majority::Majority;

/// The outcome of a vote so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// More votes decide.
    Pending,
    /// A quorum can no longer be reached.
    Lost,
    /// A quorum said yes.
    Won,
}
