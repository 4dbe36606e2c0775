//! The member's network, put together: messages in and out, the members it talks to, and its removal.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ketch_raft::{Message, NodeId};
use tokio::sync::watch;

use crate::apply::cluster::Cluster;
use crate::cluster::Member;
use crate::config::{Config, Url};
use crate::consensus::core::Input;
use crate::consensus::shell::{Driver, Stopped};
use crate::datadir::Identity;
use crate::metrics::Metrics;
use crate::peer::{Inlet, Network, NetworkOptions, SNAPSHOT_BYTES_PER_SECOND};

/// What the network hands in. It must not keep the driver alive, which keeps the network.
struct IntoDriver(Weak<Driver>);

impl Inlet for IntoDriver {
    fn messages(&self, messages: Vec<Message>) {
        if let Some(driver) = self.0.upgrade() {
            driver.receive(messages);
        }
    }

    fn appends(&self, messages: Vec<Message>) {
        if let Some(driver) = self.0.upgrade() {
            driver.receive_appends(messages);
        }
    }

    fn unreachable(&self, to: NodeId) {
        if let Some(driver) = self.0.upgrade() {
            driver.submit(Input::Unreachable { to });
        }
    }

    fn snapshot_report(&self, to: NodeId, ok: bool) {
        if let Some(driver) = self.0.upgrade() {
            driver.submit(Input::SnapshotReport { to, ok });
        }
    }

    fn removed(&self) {
        if let Some(driver) = self.0.upgrade() {
            driver.stop(Stopped::removed());
        }
    }
}

/// Time that peers have to connect before a member that starts waits for an election like any other; etcd's.
const ADVANCE_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks whether they have.
const ADVANCE_LOOK: Duration = Duration::from_millis(50);

/// Once more than one peer is connected, all but two ticks of the first election timeout are over at once: a leader that is there has
/// been heard of by then, and where there is none nobody waits for long (`--initial-election-tick-advance`).
pub(super) async fn advance_election(
    driver: Arc<Driver>,
    network: Arc<Network>,
    ticks: u32,
    mut stop: watch::Receiver<bool>,
) {
    let connected = async {
        while network.connected_peers() <= 1 {
            tokio::time::sleep(ADVANCE_LOOK).await;
        }
    };
    tokio::select! {
        connected = tokio::time::timeout(ADVANCE_WITHIN, connected) => {
            if connected.is_ok() {
                let forward = ticks.saturating_sub(2);
                tracing::info!(forward_ticks = forward, election_ticks = ticks,
                    "initialized peer connections; fast-forwarding election ticks");
                driver.submit_all((0..forward).map(|_| Input::Tick));
            }
        }
        _ = stop.wait_for(|&stop| stop) => {}
    }
}

/// Starts the network of the member that `driver` drives. `peers` are those it was told of when it joined.
///
/// # Errors
/// The system has no thread left.
pub(super) fn start(
    config: &Config,
    identity: Identity,
    boot: u64,
    driver: &Arc<Driver>,
    metrics: &Arc<Metrics>,
    peers: &[Member],
) -> Result<Arc<Network>, String> {
    let options = NetworkOptions {
        member_id: identity.member_id,
        cluster_id: identity.cluster_id,
        boot,
        seed: identity.member_id ^ boot,
        election: config.election_timeout,
        peer_urls: config.initial_advertise_peer_urls.iter().map(Url::to_string).collect(),
        staging: Arc::clone(driver.staging()),
        metrics: Arc::clone(metrics),
        snapshot_bytes_per_second: SNAPSHOT_BYTES_PER_SECOND,
    };
    let network = Network::start(options, Arc::new(IntoDriver(Arc::downgrade(driver))))?;
    let known = driver.shared().cluster();
    if known.members.is_empty() {
        let members = peers.iter().map(|member| (member.id, member.clone())).collect();
        network.set_members(&Cluster { members, ..Cluster::default() });
    } else {
        network.set_members(&known);
    }
    driver.connect(Arc::<Network>::clone(&network));
    Ok(network)
}
