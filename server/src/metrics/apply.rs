//! How long applying takes, by kind of command and by how it ended. Commands are applied in batches, and a look at the clock for each would
//! cost more than many of them: each has an equal share of its batch.

use std::time::Duration;

use super::instrument::Histogram;
use super::text::Page;
use crate::apply::tally::{Kind, Tally};

/// Histograms of failures and successes for each kind.
#[derive(Debug)]
pub struct ApplyDurations([[Histogram; 2]; Kind::ALL.len()]);

impl Default for ApplyDurations {
    fn default() -> Self {
        let histogram = || Histogram::doubling(Duration::from_micros(100), 20);
        Self(std::array::from_fn(|_| [histogram(), histogram()]))
    }
}

impl ApplyDurations {
    /// Records a batch that took `took`.
    pub fn observe(&self, batch: &Tally, took: Duration) {
        let total = u32::try_from(batch.total()).unwrap_or(u32::MAX);
        for (kind, succeeded, count) in batch.counts() {
            self.0[kind as usize][usize::from(succeeded)].observe_each(took / total, count);
        }
    }

    /// The family; absent until something was applied.
    pub(crate) fn render(&self, page: &mut Page) {
        let mut used: Vec<_> = Kind::ALL
            .into_iter()
            .flat_map(|kind| {
                [(kind.name(), "false", kind as usize, 0), (kind.name(), "true", kind as usize, 1)]
            })
            .filter(|&(.., kind, ended)| self.0[kind][ended].count() > 0)
            .collect();
        if used.is_empty() {
            return;
        }
        used.sort_unstable();
        let mut family =
            page.family("etcd_server_apply_duration_seconds", "histogram", "Time to apply a command");
        for (op, success, kind, ended) in used {
            let labels = [("op", op), ("success", success), ("version", "v3")];
            family.histogram(&labels, &self.0[kind][ended]);
        }
    }
}

#[cfg(test)]
mod tests {
    use ketch_proto::etcdserverpb::{InternalRaftRequest, PutRequest};

    use super::*;
    use crate::apply::answer::{Answer, ApplyError};

    #[test]
    fn each_command_has_its_share() {
        let put = InternalRaftRequest { put: Some(PutRequest::default()), ..InternalRaftRequest::default() };
        let mut batch = Tally::default();
        for outcome in [Ok(Answer::Done), Ok(Answer::Done), Err(ApplyError::KeyNotFound), Ok(Answer::Done)] {
            batch.add(&put, &outcome);
        }
        let durations = ApplyDurations::default();
        durations.observe(&Tally::default(), Duration::from_secs(1));
        durations.observe(&batch, Duration::from_millis(2));
        let mut page = Page::default();
        durations.render(&mut page);
        let page = page.finish();
        let name = "etcd_server_apply_duration_seconds";
        for line in [
            format!("{name}_bucket{{op=\"Put\",success=\"true\",version=\"v3\",le=\"0.0004\"}} 0"),
            format!("{name}_bucket{{op=\"Put\",success=\"true\",version=\"v3\",le=\"0.0008\"}} 3"),
            format!("{name}_sum{{op=\"Put\",success=\"true\",version=\"v3\"}} 0.0015"),
            format!("{name}_count{{op=\"Put\",success=\"false\",version=\"v3\"}} 1"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing:\n{page}");
        }
        assert!(!page.contains("Txn"), "{page}");
    }
}
