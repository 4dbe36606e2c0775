//! From checked settings to a [`Config`].

use std::path::PathBuf;
use std::time::Duration;

use super::gotext::{self, quote, to_duration};
use super::settings::Settings;
use super::url::Url;
use super::{Config, ConfigError, Notice, features, log};
use crate::api::watch::progress::{INTERVAL_DEFAULT, INTERVAL_MIN};
use crate::compactor::Retention;

const DEFAULT_NAME: &str = "default";

/// Builds the configuration.
///
/// # Errors
/// From the logger's options.
pub(crate) fn config(settings: &Settings, notices: Vec<Notice>) -> Result<Config, ConfigError> {
    let name = settings.text("name").to_owned();
    let peer_urls = settings.urls("initial-advertise-peer-urls").to_vec();
    let millis = |option: &str| Duration::from_millis(settings.unsigned(option));
    let duration = |option: &str| to_duration(settings.nanoseconds(option));
    let size = |option: &str| usize::try_from(settings.unsigned(option)).unwrap_or(usize::MAX);
    let (interval, timeout) = (duration("grpc-keepalive-interval"), duration("grpc-keepalive-timeout"));
    let pings = !interval.is_zero() && !timeout.is_zero();
    let streams = or_default(settings.unsigned("max-concurrent-streams"), u64::from(u32::MAX));
    let gates = settings.text("feature-gates");
    Ok(Config {
        data_dir: data_dir(settings, &name),
        wal_dir: Some(settings.text("wal-dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from),
        snapshot_count: or_default(settings.unsigned("snapshot-count"), 10_000),
        listen_client_urls: settings.urls("listen-client-urls").to_vec(),
        listen_client_http_urls: settings.urls("listen-client-http-urls").to_vec(),
        listen_peer_urls: settings.urls("listen-peer-urls").to_vec(),
        listen_metrics_urls: settings.urls("listen-metrics-urls").to_vec(),
        socket_reuse_port: settings.boolean("socket-reuse-port"),
        socket_reuse_address: settings.boolean("socket-reuse-address"),
        extensive_metrics: settings.text("metrics") == "extensive",
        advertise_client_urls: settings.urls("advertise-client-urls").to_vec(),
        initial_cluster: initial_cluster(settings, &name, &peer_urls),
        join_existing: settings.text("initial-cluster-state") == "existing",
        initial_cluster_token: settings.text("initial-cluster-token").to_owned(),
        initial_advertise_peer_urls: peer_urls,
        name,
        heartbeat_interval: millis("heartbeat-interval"),
        election_timeout: millis("election-timeout"),
        initial_election_tick_advance: settings.boolean("initial-election-tick-advance"),
        strict_reconfig_check: settings.boolean("strict-reconfig-check"),
        max_learners: usize::try_from(settings.signed("max-learners")).unwrap_or_default(),
        snapshot_catchup_entries: settings.unsigned("snapshot-catchup-entries"),
        pre_vote: settings.boolean("pre-vote"),
        quota_backend_bytes: settings.signed("quota-backend-bytes"),
        max_txn_ops: size("max-txn-ops"),
        max_request_bytes: size("max-request-bytes"),
        max_concurrent_streams: u32::try_from(streams).unwrap_or(u32::MAX),
        auto_compaction: retention(settings)?,
        grpc_keepalive_min_time: duration("grpc-keepalive-min-time"),
        grpc_keepalive_interval: if pings { interval } else { Duration::ZERO },
        grpc_keepalive_timeout: if pings { timeout } else { Duration::ZERO },
        warning_apply_duration: duration("warning-apply-duration"),
        warning_unary_request_duration: or_default(
            duration("warning-unary-request-duration"),
            Duration::from_millis(300),
        ),
        watch_progress_notify_interval: progress_interval(duration("watch-progress-notify-interval")),
        features: features::states(gates),
        initial_corrupt_check: features::is_on(gates, features::INITIAL_CORRUPT_CHECK),
        corrupt_check_time: duration("corrupt-check-time"),
        compact_hash_check_time: features::is_on(gates, features::COMPACT_HASH_CHECK)
            .then(|| duration("compact-hash-check-time")),
        bootstrap_defrag_megabytes: settings.unsigned("bootstrap-defrag-threshold-megabytes"),
        unsafe_no_fsync: settings.boolean("unsafe-no-fsync"),
        force_new_cluster: settings.boolean("force-new-cluster"),
        cors: settings.strings("cors").to_vec(),
        host_whitelist: settings.strings("host-whitelist").to_vec(),
        log: log::read(settings)?,
        notices,
    })
}

/// A shorter interval is raised to the least one, and none stands for the default.
fn progress_interval(given: Duration) -> Duration {
    or_default(given, INTERVAL_DEFAULT).max(INTERVAL_MIN)
}

/// Zero stands for the default, as etcd takes it.
fn or_default<T: Default + PartialEq>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}

/// A bare number is hours or revisions; anything else is a duration, which etcd reads as a count of nanoseconds when
/// it wants revisions.
pub(crate) fn retention(settings: &Settings) -> Result<Option<Retention>, ConfigError> {
    let text = settings.text("auto-compaction-retention");
    let text = if text.is_empty() { "0" } else { text };
    let periodic = settings.text("auto-compaction-mode") != "revision";
    let invalid = |why: String| ConfigError::invalid(format!("error parsing CompactionRetention: {why}"));
    let number = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let amount = match number.and_then(|text| text.parse::<i64>().ok()) {
        Some(hours) if periodic => {
            let nanoseconds = hours.checked_mul(3_600_000_000_000);
            nanoseconds.ok_or_else(|| invalid(format!("{} hours are too long", quote(text))))?
        }
        Some(revisions) => revisions,
        None => {
            gotext::duration(text).map_err(|_| invalid(format!("time: invalid duration {}", quote(text))))?
        }
    };
    Ok(match amount {
        0 => None,
        ..0 => return Err(invalid(format!("{} is negative", quote(text)))),
        _ if periodic => Some(Retention::Period(to_duration(amount))),
        _ => Some(Retention::Revisions(amount)),
    })
}

fn data_dir(settings: &Settings, name: &str) -> PathBuf {
    match settings.text("data-dir") {
        "" => PathBuf::from(format!("{name}.etcd")),
        given => PathBuf::from(given),
    }
}

/// With a name of its own and no list, a member is its own cluster; with the default name the default list stands.
fn initial_cluster(settings: &Settings, name: &str, peer_urls: &[Url]) -> String {
    let given = settings.text("initial-cluster");
    let default = super::table::find("initial-cluster").map_or("", |flag| flag.default);
    if name == DEFAULT_NAME || given != default {
        return given.to_owned();
    }
    let name = if name.is_empty() { DEFAULT_NAME } else { name };
    peer_urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
}
