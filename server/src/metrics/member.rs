//! What a member knows of itself and of the others: gates, members, promotions.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use super::Counter;
use super::text::Page;
use crate::sync::lock;

/// A feature gate and whether it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// How far it is: `ALPHA` or `BETA`.
    pub stage: &'static str,
    /// Whether it is on.
    pub on: bool,
}

/// `etcd_server_feature_enabled`, `etcd_network_known_peers`, `etcd_server_learner_promote_*`.
#[derive(Debug, Default)]
pub struct MemberMetrics {
    features: OnceLock<Vec<Feature>>,
    known: Mutex<(u64, BTreeMap<u64, bool>)>,
    promoted: Counter,
    not_promoted: Mutex<BTreeMap<String, u64>>,
}

impl MemberMetrics {
    /// Shows these gates. Later calls change nothing: they are told at the start.
    pub fn set_features(&self, features: Vec<Feature>) {
        let _first = self.features.set(features);
    }

    /// Shows the members that `local` knows, itself included, and those that were removed.
    pub fn set_known(
        &self,
        local: u64,
        members: impl IntoIterator<Item = u64>,
        removed: impl IntoIterator<Item = u64>,
    ) {
        let known = members.into_iter().map(|id| (id, true)).chain(removed.into_iter().map(|id| (id, false)));
        *lock(&self.known) = (local, known.collect());
    }

    /// Counts a learner that this member, the leader, has promoted, or the reason why it has not.
    pub fn count_promotion(&self, failure: Option<String>) {
        match failure {
            None => self.promoted.inc(),
            Some(reason) => *lock(&self.not_promoted).entry(reason).or_default() += 1,
        }
    }

    pub(super) fn render(&self, page: &mut Page) {
        let (local, known) = &*lock(&self.known);
        if !known.is_empty() {
            let mut family =
                page.family("etcd_network_known_peers", "gauge", "1 for a member, 0 for a former one");
            let local = format!("{local:x}");
            for (id, is_member) in known {
                let labels = [("Local", local.as_str()), ("Remote", &format!("{id:x}"))];
                family.sample(&labels, u8::from(*is_member));
            }
        }
        if let Some(features) = self.features.get() {
            let mut family =
                page.family("etcd_server_feature_enabled", "gauge", "1 if the feature gate is on");
            for feature in features {
                family.sample(&[("name", feature.name), ("stage", feature.stage)], u8::from(feature.on));
            }
        }
        let not_promoted = lock(&self.not_promoted);
        if !not_promoted.is_empty() {
            let name = "etcd_server_learner_promote_failures";
            let mut family =
                page.family(name, "counter", "Learners that this member did not promote, by reason");
            for (reason, count) in not_promoted.iter() {
                family.sample(&[("Reason", reason)], count);
            }
        }
        page.counter(
            "etcd_server_learner_promote_successes",
            "Learners that this member promoted",
            &self.promoted,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_shown_with_labels() {
        let metrics = MemberMetrics::default();
        metrics.set_features(vec![Feature { name: "A", stage: "BETA", on: true }]);
        metrics.set_known(10, [10, 11], [12]);
        metrics.count_promotion(None);
        for _ in 0..2 {
            metrics.count_promotion(Some("not ready".to_owned()));
        }
        let mut page = Page::default();
        metrics.render(&mut page);
        let page = page.finish();
        let samples: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "etcd_network_known_peers{Local=\"a\",Remote=\"a\"} 1",
                "etcd_network_known_peers{Local=\"a\",Remote=\"b\"} 1",
                "etcd_network_known_peers{Local=\"a\",Remote=\"c\"} 0",
                "etcd_server_feature_enabled{name=\"A\",stage=\"BETA\"} 1",
                "etcd_server_learner_promote_failures{Reason=\"not ready\"} 2",
                "etcd_server_learner_promote_successes 1",
            ]
        );
    }
}
