//! The versions that a cluster agrees on: what a downgrade may aim at, and who moves the cluster version.
//!
//! The leader looks now and then whether the cluster version is what it should be: the version that all members
//! speak, or the target of a downgrade job. The stored data's version follows the cluster's.

use std::sync::Arc;
use std::time::Duration;

use ketch_proto::etcdserverpb::InternalRaftRequest;
use ketch_proto::membershippb::ClusterVersionSetRequest;

use tokio::sync::watch;

use crate::api::Api;
use crate::apply::cluster::Cluster;
use crate::caller::Caller;
use crate::peer::ask;
use crate::{clock, version};

/// When the leader looks first, in a cluster that has no version yet: as soon as its members answer they agree on one. Each
/// further look comes after twice the time.
const SOON: Duration = Duration::from_millis(50);

/// How often the leader looks.
const EVERY: Duration = Duration::from_secs(4);

/// The first two numbers of a version: what clusters agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterVersion {
    major: i64,
    minor: i64,
}

impl ClusterVersion {
    /// Reads `X.Y`, `X.Y.Z`, or either with what a semantic version may have behind it.
    #[must_use]
    pub fn parse(text: &str) -> Option<ClusterVersion> {
        semantic(text).or_else(|| semantic(&format!("{text}.0")))
    }

    /// The only version that a cluster of this version may be downgraded to.
    #[must_use]
    pub fn downgrade_target(self) -> ClusterVersion {
        ClusterVersion { minor: self.minor - 1, ..self }
    }

    /// Major and minor; a number that is too large for a snapshot's header becomes 0.
    #[must_use]
    pub fn numbers(self) -> (u16, u16) {
        (u16::try_from(self.major).unwrap_or(0), u16::try_from(self.minor).unwrap_or(0))
    }

    /// `X.Y`, as answers about downgrades name it.
    #[must_use]
    pub fn short(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

/// `X.Y.0`, as it is replicated and stored.
impl std::fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

/// Three numbers, then perhaps `-` and `+` with letters, digits, dots and dashes behind them.
fn semantic(text: &str) -> Option<ClusterVersion> {
    let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
    let (text, prerelease) = text.split_once('-').unwrap_or((text, ""));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if !metadata.chars().chain(prerelease.chars()).all(is_plain) {
        return None;
    }
    let mut parts = text.splitn(3, '.');
    let mut number = || parts.next().filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?.parse().ok();
    let (major, minor, _patch): (i64, i64, i64) = (number()?, number()?, number()?);
    Some(ClusterVersion { major, minor })
}

/// The version that this program speaks.
#[must_use]
pub fn own() -> Option<ClusterVersion> {
    ClusterVersion::parse(version::CLUSTER)
}

/// What the cluster version should become, if it is not that already, where `own` is the lowest version that any of its
/// members speaks.
#[must_use]
pub fn due(cluster: &Cluster, own: ClusterVersion) -> Option<ClusterVersion> {
    let Some(current) = cluster.version.as_deref().and_then(ClusterVersion::parse) else { return Some(own) };
    if cluster.downgrade.enabled {
        let target = ClusterVersion::parse(&cluster.downgrade.target)?;
        let valid = current.downgrade_target() == target && own.downgrade_target() == target;
        return valid.then_some(target);
    }
    (current.major == own.major && current < own).then_some(own)
}

/// The version of the stored data.
#[must_use]
pub fn storage(cluster: &Cluster) -> String {
    let version = cluster.version.as_deref().and_then(ClusterVersion::parse);
    version.map_or_else(|| version::STORAGE.to_owned(), |version| version.to_string())
}

/// The command that sets the cluster version.
#[must_use]
pub fn command(version: ClusterVersion) -> InternalRaftRequest {
    let request = ClusterVersionSetRequest { ver: version.to_string() };
    InternalRaftRequest { cluster_version_set: Some(Box::new(request)), ..InternalRaftRequest::default() }
}

/// Moves the cluster version whenever this member leads and it is due, until `stop` becomes true.
pub async fn watch(api: Arc<Api>, mut stop: watch::Receiver<bool>) {
    let mut soon = SOON;
    loop {
        let pause = if api.shared.cluster().version.is_some() { EVERY } else { soon };
        soon = EVERY.min(soon * 2);
        if tokio::time::timeout(pause, stop.wait_for(|&stop| stop)).await.is_ok() {
            return;
        }
        let leads = api.shared.standing().leader == api.shared.member_id;
        let cluster = api.shared.cluster();
        // The members are asked only if there is something to decide.
        if !leads || own().and_then(|own| due(&cluster, own)).is_none() {
            continue;
        }
        let Some(version) = lowest(&api, &cluster).await.and_then(|lowest| due(&cluster, lowest)) else {
            continue;
        };
        tracing::info!(cluster_version = %version, "updating the cluster version");
        let deadline = clock::now() + api.limits.request_timeout;
        if let Err(error) = api.proposer.propose(&Caller::default(), command(version), deadline).await {
            tracing::warn!(?error, "failed to update the cluster version");
        }
    }
}

/// The lowest version that any member speaks; `None` while one of them does not answer.
async fn lowest(api: &Api, cluster: &Cluster) -> Option<ClusterVersion> {
    let mut lowest = own()?;
    for member in cluster.members.values().filter(|member| member.id != api.shared.member_id) {
        let versions = ask::version_of(&member.peer_urls).await.inspect_err(|error| {
            tracing::warn!(member = %format_args!("{:x}", member.id), error, "failed to get a member's version");
        });
        lowest = lowest.min(ClusterVersion::parse(&versions.ok()?.server)?);
    }
    Some(lowest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::downgrade::Downgrade;

    #[test]
    fn versions_that_etcd_reads_and_those_that_it_does_not() {
        for text in ["3.6", "3.6.0", "3.6.5", "03.6", "3.06", "3.6.0-alpha", "3.6.0+meta", "3.6.0-", "3.6.0+"]
        {
            assert_eq!(
                ClusterVersion::parse(text).map(ClusterVersion::short).as_deref(),
                Some("3.6"),
                "{text}"
            );
        }
        for text in
            ["", "x", "3", "v3.6", " 3.6", "3.-6", "3.6.x", "3.6.0.1", "3.6-rc", "3.6+x", "+3.6", "3.6.0-a_b"]
        {
            assert_eq!(ClusterVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_cluster_version_follows_the_job_and_comes_back_after_it() {
        let cluster = |version: Option<&str>, target: Option<&str>| Cluster {
            version: version.map(str::to_owned),
            downgrade: target.map_or_else(Downgrade::default, |target| Downgrade {
                target: target.to_owned(),
                enabled: true,
            }),
            ..Cluster::default()
        };
        let due = |version, target| {
            due(&cluster(version, target), own().unwrap()).map(|version| version.to_string())
        };
        assert_eq!(due(None, None).as_deref(), Some("3.7.0"));
        assert_eq!(due(Some("3.7.0"), None), None);
        assert_eq!(due(Some("3.7.0"), Some("3.6.0")).as_deref(), Some("3.6.0"));
        assert_eq!(due(Some("3.6.0"), Some("3.6.0")), None);
        assert_eq!(due(Some("3.6.0"), None).as_deref(), Some("3.7.0"));
        assert_eq!(due(Some("3.8.0"), None), None, "a newer cluster is left alone");
        assert_eq!(storage(&cluster(Some("3.6.0"), None)), "3.6.0");
        assert_eq!(storage(&cluster(None, None)), "3.7.0");
    }
}
