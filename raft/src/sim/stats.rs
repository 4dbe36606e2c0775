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
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),*]
            }
        }
    };
}

stats! {
    /// Things that happened at a point in time.
    events,
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
    /// Crashes.
    crashes,
    /// Batches written but not synced that a crash lost.
    lost_batches,
    /// Entries in them.
    lost_entries,
    /// Syncs that hung.
    stuck_syncs,
    /// Clocks stopped for a while.
    pauses,
    /// Leaders elected.
    elections,
    /// Entries applied somewhere for the first time.
    committed,
    /// Proposals taken by a leader or passed on.
    proposals,
    /// Proposals refused.
    refused,
    /// Changes of members applied somewhere for the first time.
    changes,
    /// Of those, into or out of a joint configuration.
    joint_changes,
    /// Leadership transfers begun.
    transfers,
    /// Snapshots sent.
    snapshots_sent,
    /// Snapshots installed.
    snapshots_installed,
    /// Starts that rolled a staged snapshot forward.
    rolled_forward,
    /// Logs compacted.
    compactions,
    /// Entries fetched from cold storage.
    fetches,
    /// Reads asked for.
    reads_asked,
    /// Reads confirmed and checked.
    reads_checked,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.rows() {
            writeln!(f, "{:>14}  {}", count, name.replace('_', " "))?;
        }
        Ok(())
    }
}
