//! The member's network, put together: messages in and out, the members it talks to, and its removal.

use std::sync::{Arc, Weak};

use ketch_raft::{Message, NodeId};

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
