//! Log lines that scripts and supervisors of etcd look for: the words and the names of the fields are etcd's.

use ketch_mvcc::Sizes;

use crate::api::maintenance;
use crate::config::{Config, Url, size_text, url};
use crate::version;

/// Says what the member was started with, before it serves anybody.
pub(super) fn starting(config: &Config, founded: bool) {
    let state = if config.join_existing { "existing" } else { "new" };
    tracing::info!(
        etcd_version = version::SERVER,
        ketch_version = version::KETCH,
        member_initialized = !founded,
        name = config.name,
        data_dir = %config.data_dir.display(),
        wal_dir = %config.wal_dir.as_deref().unwrap_or_else(|| "".as_ref()).display(),
        force_new_cluster = config.force_new_cluster,
        heartbeat_interval = ?config.heartbeat_interval,
        election_timeout = ?config.election_timeout,
        initial_election_tick_advance = config.initial_election_tick_advance,
        snapshot_count = config.snapshot_count,
        snapshot_catchup_entries = config.snapshot_catchup_entries,
        initial_advertise_peer_urls = url::join(&config.initial_advertise_peer_urls),
        listen_peer_urls = url::join(&config.listen_peer_urls),
        advertise_client_urls = url::join(&config.advertise_client_urls),
        listen_client_urls = url::join(&config.listen_client_urls),
        listen_metrics_urls = url::join(&config.listen_metrics_urls),
        initial_cluster = config.initial_cluster,
        initial_cluster_state = state,
        initial_cluster_token = config.initial_cluster_token,
        quota_backend_bytes = config.quota_backend_bytes,
        max_request_bytes = config.max_request_bytes,
        max_concurrent_streams = config.max_concurrent_streams,
        pre_vote = config.pre_vote,
        initial_corrupt_check = config.initial_corrupt_check,
        corrupt_check_time_interval = ?config.corrupt_check_time,
        max_learners = config.max_learners,
        "starting an etcd server"
    );
}

/// Says what the listeners' sockets are told, if anything.
pub(super) fn socket_options(config: &Config) {
    let Config { socket_reuse_address: reuse_address, socket_reuse_port: reuse_port, .. } = *config;
    if reuse_address || reuse_port {
        tracing::info!(reuse_address, reuse_port, "configuring socket options");
    }
}

/// Says why nothing is defragmented, if the flag asks for it.
pub(super) fn defragmenting(config: &Config, sizes: Sizes) {
    let threshold = config.bootstrap_defrag_megabytes.wrapping_mul(1 << 20);
    let (bytes, in_use) = (sizes.logical_bytes, sizes.in_use_bytes);
    if config.bootstrap_defrag_megabytes == 0 {
        return;
    }
    if bytes.saturating_sub(in_use) >= threshold {
        maintenance::nothing_to_defragment(sizes);
        return;
    }
    tracing::info!(
        current_db_size_bytes = bytes,
        current_db_size = size_text(bytes),
        current_db_size_in_use_bytes = in_use,
        current_db_size_in_use = size_text(in_use),
        bootstrap_defrag_threshold_bytes = threshold,
        bootstrap_defrag_threshold = size_text(threshold),
        "Skipping defragmentation"
    );
}

/// Says at which addresses clients are served, and with what.
pub(super) fn serving(listeners: &[Url], traffic: &str) {
    for url in listeners {
        tracing::info!(
            traffic,
            address = url.address(),
            "serving client traffic insecurely; this is strongly discouraged!"
        );
    }
}
