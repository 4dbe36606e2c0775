//! Bugs to plant, each a mistake somebody made in some raft. With one of them in
//! [`Config::planted`](crate::Config) the simulator or the scripts must fail; a test shows that they do.

use crate::config::Config;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// A leader commits an entry of an older term because a quorum holds it (paper, figure 8).
    CommitOlderTerm,
    /// The vote is not among what is persisted.
    VoteForgotten,
    /// A leader counts its own disk before it has written.
    OwnAckEarly,
    /// A read is confirmed by an answer to a round begun before it arrived.
    StaleReadIndex,
    /// In a joint configuration the incoming majority decides alone.
    MissedJointMajority,
    /// Entries are applied before they are durable here.
    ApplyBeforeDurable,
    /// Learners count towards commits.
    LearnerCounted,
    /// Leadership goes to a member that lacks entries, and voters overlook it.
    TransferToLagging,
    /// A refused append makes the leader believe that the follower matches at the hint.
    BackOffPastMatch,
    /// A follower that needs a snapshot is sent appends all the same, and never gets the snapshot.
    SnapshotPauseDropped,
    /// An append that repeats old entries cuts off what follows them.
    DuplicateTruncates,
    /// A pre-vote is answered like a vote: it raises the term.
    PreVoteDisrupts,
    /// A vote is asked for before the term, the own vote and the log are durable.
    VoteAskedEarly,
    /// Connections accept answers meant for an earlier life.
    EarlierBootAccepted,
    /// Applied is set to a snapshot's index before the snapshot is installed.
    AppliedPastSnapshot,
    /// An append is acknowledged before it is durable.
    AppendAckEarly,
}

impl Bug {
    /// Does this configuration ask for it?
    #[inline]
    #[cfg_attr(not(feature = "planted"), expect(unused_variables, reason = "nothing can be planted then"))]
    pub(crate) fn is_planted(self, config: &Config) -> bool {
        #[cfg(feature = "planted")]
        {
            config.planted == Some(self)
        }
        #[cfg(not(feature = "planted"))]
        {
            false
        }
    }

    /// All of them.
    #[cfg(feature = "planted")]
    pub const ALL: [Bug; 16] = [
        Bug::CommitOlderTerm,
        Bug::VoteForgotten,
        Bug::OwnAckEarly,
        Bug::StaleReadIndex,
        Bug::MissedJointMajority,
        Bug::ApplyBeforeDurable,
        Bug::LearnerCounted,
        Bug::TransferToLagging,
        Bug::BackOffPastMatch,
        Bug::SnapshotPauseDropped,
        Bug::DuplicateTruncates,
        Bug::PreVoteDisrupts,
        Bug::VoteAskedEarly,
        Bug::EarlierBootAccepted,
        Bug::AppliedPastSnapshot,
        Bug::AppendAckEarly,
    ];
}
