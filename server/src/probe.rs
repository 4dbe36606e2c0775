//! What health checks and scrapes see of a member.

use std::sync::Arc;

use ketch_mvcc::WatchHub;
use ketch_proto::etcdserverpb::AlarmType;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::clock;
use crate::consensus::shell::Driver;
use crate::http::{Alarm, Probe, ReadFuture, Versions};
use crate::metrics::Metrics;
use crate::peer::Network;
use crate::versions;

/// The member behind the HTTP endpoints.
pub struct MemberProbe {
    api: Arc<Api>,
}

impl MemberProbe {
    /// The member that `api` serves.
    #[must_use]
    pub fn new(api: Arc<Api>) -> MemberProbe {
        MemberProbe { api }
    }
}

impl Probe for MemberProbe {
    fn has_leader(&self) -> bool {
        self.api.shared.standing().leader != 0
    }

    fn is_learner(&self) -> bool {
        self.api.shared.standing().is_learner
    }

    fn alarms(&self) -> Vec<Alarm> {
        let alarms = self.api.shared.alarms();
        alarms.iter().map(|alarm| name_of(alarm.alarm)).collect()
    }

    fn versions(&self) -> Versions {
        let cluster = self.api.shared.cluster();
        Versions { cluster: cluster.version.clone(), storage: Some(versions::storage(&cluster)) }
    }

    fn serializable_read(&self) -> ReadFuture<'_> {
        // The published store can always be read; a member that cannot has stopped.
        let view = self.api.shared.reader.view();
        Box::pin(async move { view.get(b"health").map(|_| ()).map_err(|fault| fault.to_string()) })
    }

    fn linearizable_read(&self) -> ReadFuture<'_> {
        Box::pin(async move {
            let deadline = clock::now() + self.api.limits.request_timeout;
            self.api.barrier.pass(deadline).await.map_err(|error| ApiError::from(error).to_string())?;
            self.serializable_read().await
        })
    }
}

fn name_of(alarm: i32) -> Alarm {
    match AlarmType::try_from(alarm) {
        Ok(AlarmType::Nospace) => Alarm::NoSpace,
        Ok(AlarmType::Corrupt) => Alarm::Corrupt,
        Ok(AlarmType::None) | Err(_) => Alarm::Unknown(alarm),
    }
}

/// Sets the gauges that are cheaper to ask for than to keep, at every scrape.
pub fn refresh_on_scrape(metrics: &Metrics, driver: &Arc<Driver>, network: &Arc<Network>, hub: WatchHub) {
    let (driver, network) = (Arc::downgrade(driver), Arc::downgrade(network));
    metrics.on_scrape(move |metrics| {
        let Some(driver) = driver.upgrade() else { return };
        if let Some(network) = network.upgrade() {
            network.measure_queues();
        }
        let shared = driver.shared();
        let standing = shared.standing();
        metrics.proposals_committed.set_unsigned(standing.commit);
        metrics.proposals_applied.set_unsigned(shared.applied());
        metrics.proposals_pending.set_unsigned(driver.proposals().pending() as u64);
        metrics.proposals_parked.set_unsigned(standing.parked);
        metrics.reads_waiting.set_unsigned(driver.reads().pending() as u64);
        for (gauge, waiting) in metrics.queues.iter().zip(driver.waiting()) {
            gauge.set_unsigned(waiting as u64);
        }
        metrics.has_leader.set_bool(standing.leader != 0);
        metrics.is_leader.set_bool(standing.leader == shared.member_id);
        metrics.is_learner.set_bool(standing.is_learner);
        let seen = metrics.leader_changes_seen.get();
        metrics.leader_changes_seen.add(standing.leader_changes.saturating_sub(seen));
        metrics.wal_write_bytes.set_unsigned(driver.wal().stats().bytes);
        let sizes = shared.reader.sizes();
        metrics.db_total_bytes.set_unsigned(sizes.logical_bytes);
        metrics.db_in_use_bytes.set_unsigned(sizes.in_use_bytes);
        metrics.keys.set_unsigned(sizes.keys);
        let (watchers, late) = hub.watchers();
        metrics.watchers.set_unsigned(watchers as u64);
        metrics.slow_watchers.set_unsigned(late as u64);
        metrics.pending_events.set_unsigned(hub.pending_events() as u64);
        let alarms = shared.alarms();
        metrics.set_alarms(alarms.iter().map(|alarm| (name_of(alarm.alarm).name(), alarm.member_id)));
        let view = shared.reader.view();
        metrics.current_revision.set(view.revision());
        metrics.compact_revision.set(view.compacted());
        let cluster = shared.cluster();
        let known = cluster.members.keys().copied();
        metrics.member.set_known(shared.member_id, known, cluster.removed.iter().copied());
        if let Some(version) = &cluster.version {
            metrics.set_cluster_version(version);
        }
    });
}
