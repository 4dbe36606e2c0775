//! What was exercised, so that nobody mistakes silence for coverage.

use std::fmt;

macro_rules! stats {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// Counts of what happened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Stats {
            /// Adds another run's counts.
            pub fn add(&mut self, other: &Stats) {
                $(self.$field += other.$field;)*
            }

            /// Names and counts.
            #[must_use]
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),*]
            }
        }
    };
}

stats! {
    /// Things that happened at a point in time.
    events,
    /// Virtual time, in milliseconds.
    simulated_ms,
    /// Messages that arrived.
    delivered,
    /// Messages lost at random.
    dropped,
    /// Messages that arrived twice.
    duplicated,
    /// Messages held back for long.
    held_back,
    /// Messages lost to a partition.
    cut_off,
    /// Messages to an earlier life, turned away.
    earlier_life,
    /// Partitions of the network, one-way ones included.
    partitions,
    /// Crashes of a machine.
    crashes,
    /// Of those, in the middle of a sync.
    crashes_in_sync,
    /// Deaths of a process.
    kills,
    /// Starts that cut a torn tail of the raft log.
    torn_tails,
    /// Processes stopped for a while.
    pauses,
    /// Writes and syncs that were made to fail.
    disk_faults,
    /// Disks without room.
    full_disks,
    /// Disks that hung.
    stuck_disks,
    /// Bits that flipped.
    bit_flips,
    /// Damage that a member noticed.
    damage_found,
    /// Members that stopped by themselves, as they must when their disk fails.
    fail_stops,
    /// Starts that failed because the disk did.
    failed_starts,
    /// Leaders elected.
    elections,
    /// Deaths of a leader after which the others were well and connected.
    leaders_lost,
    /// Of those, followed by a leader within two election timeouts.
    followed_within_two_timeouts,
    /// The same where messages are lost or held back at random.
    leaders_lost_among_losses,
    /// Of those, followed by a leader within two election timeouts.
    followed_among_losses,
    /// Leadership transfers asked for.
    transfers,
    /// Restarts of all members, one after another.
    rolling_restarts,
    /// Long absences of a member.
    absences,
    /// Raft logs purged.
    purges,
    /// Entries fetched from disk.
    fetches,
    /// Snapshots sent.
    snapshots_sent,
    /// Snapshots cut off on their way.
    snapshots_cut,
    /// Of those, resumed.
    snapshots_resumed,
    /// Snapshots that another member began and a second one went on with.
    snapshots_gone_on,
    /// Snapshots that the receiver did not take in.
    snapshots_refused,
    /// Snapshots staged.
    snapshots_staged,
    /// Snapshots installed.
    snapshots_installed,
    /// Membership changes that took effect.
    changes,
    /// Membership changes that were refused.
    changes_refused,
    /// Members added.
    members_added,
    /// Members removed.
    members_removed,
    /// Learners promoted.
    promotions,
    /// Members replaced after they had lost their disk.
    replacements,
    /// Entries applied somewhere for the first time.
    committed,
    /// Requests of clients.
    requests,
    /// Writes that succeeded.
    writes,
    /// Transactions that succeeded.
    transactions,
    /// Compactions that succeeded.
    compactions,
    /// Requests refused by what was applied (alarm, compacted, ahead).
    refused_by_state,
    /// Proposals that were not taken.
    not_taken,
    /// Proposals said to be lost with their leader.
    lost,
    /// Requests that nobody could be asked.
    not_sent,
    /// Requests whose outcome is unknown.
    unknown,
    /// Linearizable reads checked.
    reads,
    /// Serializable reads checked.
    serializable_reads,
    /// Of those, behind what was known elsewhere.
    reads_behind,
    /// Reads in the past.
    past_reads,
    /// States of two members compared at the same applied index.
    states_compared,
    /// Whole stores compared with the reference.
    stores_compared,
    /// Events that watchers were told.
    watched,
    /// Progress notices.
    bookmarks,
    /// Watches resumed at another member or in another life.
    watches_resumed,
    /// Watches that compaction overtook.
    watches_lost,
    /// Histories that the second checker decided.
    histories_checked,
    /// Operations in them.
    history_operations,
    /// Histories it gave up on.
    histories_undecided,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.rows() {
            writeln!(f, "{:>14}  {}", count, name.replace('_', " "))?;
        }
        Ok(())
    }
}
