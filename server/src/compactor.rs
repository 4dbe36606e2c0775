//! Automatic compaction (`--auto-compaction-mode`, `--auto-compaction-retention`): the leader proposes a compaction
//! now and then. When, and to which revision, is a function of the times and revisions it is shown; the task around it
//! sleeps and proposes.
//!
//! The schedule is etcd's: *periodic* keeps the last period of history, looks ten times a period (at most an hour) and
//! compacts first after one period, then every period or every hour, whichever is shorter; *revision* keeps a number of
//! revisions and looks every five minutes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ketch_proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::Api;
use crate::apply::answer::ApplyError;
use crate::caller::Caller;
use crate::clock;
use crate::propose::ProposeError;

const HOUR: Duration = Duration::from_secs(3600);
/// Looks per period.
const LOOKS: u32 = 10;
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// What the last so much time has changed.
    Period(Duration),
    /// So many revisions.
    Revisions(i64),
}

/// Decides when to compact, and to which revision.
#[derive(Debug)]
pub struct Schedule {
    retention: Retention,
    /// Revisions of the looks of the last period, oldest first.
    seen: VecDeque<i64>,
    /// The last revision that was compacted to.
    last: i64,
    last_at: Instant,
    /// How long to wait after `last_at`.
    wait: Duration,
}

impl Schedule {
    /// A schedule that begins now, with the store at `revision`.
    #[must_use]
    pub fn new(retention: Retention, now: Instant, revision: i64) -> Schedule {
        let wait = match retention {
            Retention::Period(period) => period,
            Retention::Revisions(_) => Duration::ZERO,
        };
        Schedule { retention, seen: VecDeque::from([revision]), last: 0, last_at: now, wait }
    }

    /// The time between two looks.
    #[must_use]
    pub fn interval(&self) -> Duration {
        match self.retention {
            Retention::Period(period) => (period.min(HOUR) / LOOKS).max(Duration::from_nanos(1)),
            Retention::Revisions(_) => REVISION_INTERVAL,
        }
    }

    /// A look: the revision to compact to now, if any. Whoever does not lead only looks.
    pub fn look(&mut self, now: Instant, revision: i64, leads: bool) -> Option<i64> {
        let wanted = match self.retention {
            Retention::Period(period) => {
                let oldest = self.seen.front().copied().unwrap_or(revision);
                self.seen.push_back(revision);
                let looks = period.as_nanos() / self.interval().as_nanos() + 1;
                if self.seen.len() as u128 > looks {
                    self.seen.pop_front();
                }
                (now.saturating_duration_since(self.last_at) >= self.wait).then_some(oldest)
            }
            Retention::Revisions(kept) => Some(revision.saturating_sub(kept)).filter(|&wanted| wanted > 0),
        };
        wanted.filter(|&wanted| leads && wanted != self.last)
    }

    /// The compaction to `revision` that a look asked for is done.
    pub fn done(&mut self, now: Instant, revision: i64) {
        self.last = revision;
        self.last_at = now;
        if let Retention::Period(period) = self.retention {
            self.wait = period.min(HOUR);
        }
    }
}

/// Compacts as `retention` says until `stop` becomes true.
pub async fn run(api: Arc<Api>, retention: Retention, mut stop: watch::Receiver<bool>) {
    let mut schedule = Schedule::new(retention, clock::now(), api.shared.reader.revision());
    while tokio::time::timeout(schedule.interval(), stop.wait_for(|&stop| stop)).await.is_err() {
        let leads = api.shared.standing().leader == api.shared.member_id;
        let Some(revision) = schedule.look(clock::now(), api.shared.reader.revision(), leads) else {
            continue;
        };
        tracing::info!(revision, ?retention, "starting auto compaction");
        match compact(&api, revision).await {
            Ok(()) | Err(ProposeError::Refused(ApplyError::Compacted)) => {
                tracing::info!(revision, ?retention, "completed auto compaction");
                schedule.done(clock::now(), revision);
            }
            Err(error) => tracing::warn!(revision, ?error, "failed auto compaction, will retry"),
        }
    }
}

async fn compact(api: &Api, revision: i64) -> Result<(), ProposeError> {
    let compaction = Some(CompactionRequest { revision, physical: false });
    let command = InternalRaftRequest { compaction, ..InternalRaftRequest::default() };
    let deadline = clock::now() + api.limits.request_timeout;
    api.proposer.propose(&Caller::default(), command, deadline).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for `hours` while a revision a minute is made; says when (in minutes) it compacted to what.
    fn compactions(period: Duration, hours: u64) -> Vec<(u64, i64)> {
        let start = Instant::now();
        let revision = |now: Instant| i64::try_from(now.duration_since(start).as_secs() / 60 + 1).unwrap();
        let mut schedule = Schedule::new(Retention::Period(period), start, 1);
        let mut found = Vec::new();
        let mut now = start;
        while now < start + Duration::from_secs(hours * 3600) {
            now += schedule.interval();
            if let Some(wanted) = schedule.look(now, revision(now), true) {
                found.push(((now - start).as_secs() / 60, wanted));
                schedule.done(now, wanted);
            }
        }
        found
    }

    #[test]
    fn a_period_below_an_hour_is_compacted_every_period() {
        // Revision 1 is of minute 0: what is older than ten minutes goes.
        let found = compactions(Duration::from_secs(600), 1);
        assert_eq!(found, [(10, 1), (20, 10), (30, 20), (40, 30), (50, 40), (60, 50)]);
    }

    #[test]
    fn a_longer_period_is_compacted_every_hour_after_the_first() {
        let found = compactions(3 * HOUR, 6);
        let when: Vec<u64> = found.iter().map(|&(minute, _)| minute).collect();
        assert_eq!(when, [180, 240, 300, 360]);
        for (minute, revision) in found {
            let kept = i64::try_from(minute).unwrap() - (revision - 1);
            assert!((180..=186).contains(&kept), "at {minute}: {kept} minutes are kept");
        }
    }

    #[test]
    fn nothing_new_is_not_compacted_again_and_followers_do_not_compact() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Retention::Revisions(100), start, 1);
        assert_eq!(schedule.look(start, 100, true), None, "all of it is kept");
        assert_eq!(schedule.look(start, 101, false), None, "somebody else leads");
        assert_eq!(schedule.look(start, 101, true), Some(1));
        assert_eq!(schedule.look(start, 101, true), Some(1), "until it is done");
        schedule.done(start, 1);
        assert_eq!(schedule.look(start, 101, true), None);
        assert_eq!(schedule.look(start, 150, true), Some(50));
    }
}
