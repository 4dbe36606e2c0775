//! What raft is told of its peers besides their messages: one word of a kind for each peer, however often it is said before it is heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use ketch_raft::NodeId;
use tokio::sync::Notify;

use crate::sync::lock;

/// One word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// Messages to it were lost.
    Unreachable(NodeId),
    /// A snapshot arrived, or did not.
    Snapshot { to: NodeId, ok: bool },
    /// This member is a member no more.
    Removed,
}

/// What was said and not heard yet.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    waiting: Mutex<Waiting>,
    said: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    unreachable: BTreeSet<NodeId>,
    /// The newest outcome: raft begins another snapshot only after it has heard of the one before, or given it up.
    snapshots: BTreeMap<NodeId, bool>,
    removed: bool,
}

impl Reports {
    /// Says it. Never waits.
    pub(crate) fn say(&self, report: Report) {
        let mut waiting = lock(&self.waiting);
        match report {
            Report::Unreachable(to) => drop(waiting.unreachable.insert(to)),
            Report::Snapshot { to, ok } => drop(waiting.snapshots.insert(to, ok)),
            Report::Removed => waiting.removed = true,
        }
        drop(waiting);
        self.said.notify_one();
    }

    /// All that was said since it was last heard; waits for something.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn hear(&self) -> Vec<Report> {
        loop {
            let Waiting { unreachable, snapshots, removed } = std::mem::take(&mut *lock(&self.waiting));
            let unreachable = unreachable.into_iter().map(Report::Unreachable);
            let snapshots = snapshots.into_iter().map(|(to, ok)| Report::Snapshot { to, ok });
            let heard: Vec<Report> =
                unreachable.chain(snapshots).chain(removed.then_some(Report::Removed)).collect();
            if !heard.is_empty() {
                return heard;
            }
            self.said.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_again_before_it_is_heard_is_one_word() {
        let reports = Reports::default();
        for round in 0..10_000 {
            for to in 1..=3 {
                reports.say(Report::Unreachable(to));
                reports.say(Report::Snapshot { to, ok: round % 2 == to % 2 });
            }
        }
        reports.say(Report::Removed);
        let snapshot = |to, ok| Report::Snapshot { to, ok };
        let heard = reports.hear().await;
        assert_eq!(heard[..3], [1, 2, 3].map(Report::Unreachable));
        assert_eq!(heard[3..], [snapshot(1, true), snapshot(2, false), snapshot(3, true), Report::Removed]);
        // Whoever waits already is woken.
        let (heard, ()) = tokio::join!(reports.hear(), async { reports.say(Report::Unreachable(2)) });
        assert_eq!(heard, [Report::Unreachable(2)]);
    }
}
