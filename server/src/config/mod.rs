//! What the operator asked for: flags and environment in, one checked [`Config`] out.
//!
//! ```text
//! arguments ─► syntax ─┐
//!                      ├─► settings ─► validate ─► Config ─► (new data directory only) bootstrap
//! ETCD_* ────► env ────┘
//! ```
//!
//! Every flag of etcd 3.7 is one row of [`table`]: its name, kind, default, help line and what ketch does with it.
//! A flag that ketch does not serve yet stops the start when it is given a value other than its default: a server
//! that silently ignores `--client-cert-auth` is a security hole. Nothing here opens a file or a socket.

mod bootstrap;
mod build;
mod env;
mod error;
mod features;
mod gotext;
mod help;
mod log;
mod settings;
mod syntax;
pub mod table;
pub mod url;
mod validate;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub use bootstrap::{Bootstrap, InitialMember};
pub use error::ConfigError;
pub(crate) use gotext::{duration_text, size_text};
pub use help::{help, usage, version_text};
pub use log::{LogConfig, LogFormat, LogLevel, LogOutput};
pub use url::{Scheme, Url};

use crate::compactor::Retention;
use crate::metrics::Feature;

/// What a command line asks the process to do.
#[derive(Debug)]
pub enum Parsed {
    /// Start a server.
    Run(Box<Config>),
    /// Print [`version_text`] and exit with 0.
    Version,
    /// Print [`help`] and exit with 0.
    Help,
}

/// Something worth a log line once the logger stands: an option that has no effect, a variable nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is a warning; otherwise it is for information.
    pub warning: bool,
    /// The message.
    pub message: String,
    /// The flag or variable it is about.
    pub subject: String,
}

/// A server's options, checked. Fields carry the flag's name; durations are never negative.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// `--name`.
    pub name: String,
    /// `--data-dir`, by default `${name}.etcd`.
    pub data_dir: PathBuf,
    /// `--wal-dir`: where the raft log is kept, if not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// `--snapshot-count`: applied entries between two checkpoints of the store.
    pub snapshot_count: u64,
    /// `--listen-client-urls`: gRPC and HTTP, cleartext; sorted, without duplicates, never empty.
    pub listen_client_urls: Vec<Url>,
    /// `--listen-client-http-urls`: HTTP/1 alone, which the client URLs do not serve then; may be empty.
    pub listen_client_http_urls: Vec<Url>,
    /// `--listen-peer-urls`: sorted, without duplicates, never empty.
    pub listen_peer_urls: Vec<Url>,
    /// `--socket-reuse-port`: another process may listen at the same ports.
    pub socket_reuse_port: bool,
    /// `--socket-reuse-address`: what the listeners of etcd and ketch do anyway.
    pub socket_reuse_address: bool,
    /// `--listen-metrics-urls`: HTTP for probes and scrapes only; may be empty.
    pub listen_metrics_urls: Vec<Url>,
    /// `--metrics=extensive`: the time that each RPC takes is measured.
    pub extensive_metrics: bool,
    /// `--initial-advertise-peer-urls`.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// `--advertise-client-urls`.
    pub advertise_client_urls: Vec<Url>,
    /// `--initial-cluster` as written; read only by [`Config::bootstrap`].
    pub initial_cluster: String,
    /// `--initial-cluster-state=existing`; read only by [`Config::bootstrap`].
    pub join_existing: bool,
    /// `--initial-cluster-token`.
    pub initial_cluster_token: String,
    /// `--heartbeat-interval`: one raft tick.
    pub heartbeat_interval: Duration,
    /// `--watch-progress-notify-interval`, or its default.
    pub watch_progress_notify_interval: Duration,
    /// `--election-timeout`.
    pub election_timeout: Duration,
    /// `--initial-election-tick-advance`.
    pub initial_election_tick_advance: bool,
    /// `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// `--max-learners`.
    pub max_learners: usize,
    /// `--snapshot-catchup-entries`: applied entries that the raft log keeps for followers that are behind.
    pub snapshot_catchup_entries: u64,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--quota-backend-bytes`: 0 stands for the default, negative for none.
    pub quota_backend_bytes: i64,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// `--max-concurrent-streams` of one client connection.
    pub max_concurrent_streams: u32,
    /// `--auto-compaction-mode` and `--auto-compaction-retention`; `None`: no compaction by itself.
    pub auto_compaction: Option<Retention>,
    /// `--grpc-keepalive-min-time`: a client that pings more often is sent away; zero: no limit.
    pub grpc_keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval`; zero: no pings. Zero for either of the two turns both off.
    pub grpc_keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`; zero: no pings.
    pub grpc_keepalive_timeout: Duration,
    /// `--warning-apply-duration`.
    pub warning_apply_duration: Duration,
    /// `--warning-unary-request-duration`.
    pub warning_unary_request_duration: Duration,
    /// Every feature gate, as `--feature-gates` leaves it.
    pub features: Vec<Feature>,
    /// The gate `InitialCorruptCheck`: a member compares its data with its peers' before it serves.
    pub initial_corrupt_check: bool,
    /// `--corrupt-check-time`: how often the leader compares the followers' data with its own; zero: never.
    pub corrupt_check_time: Duration,
    /// `--compact-hash-check-time` if the gate `CompactHashCheck` is on: how often the leader looks for a compaction to
    /// compare the members at.
    pub compact_hash_check_time: Option<Duration>,
    /// `--bootstrap-defrag-threshold-megabytes`; 0 when nobody asks.
    pub bootstrap_defrag_megabytes: u64,
    /// `--unsafe-no-fsync`.
    pub unsafe_no_fsync: bool,
    /// `--force-new-cluster`: go on as the only member of the cluster.
    pub force_new_cluster: bool,
    /// `--cors`: origins that browsers may call from; contains `*` by default.
    pub cors: Vec<String>,
    /// `--host-whitelist`: `Host` names that plain HTTP requests may carry; empty or `*` means all.
    pub host_whitelist: Vec<String>,
    /// `--log-level`, `--log-format`, `--log-outputs`.
    pub log: LogConfig,
    /// To be logged, in this order, once the logger stands.
    pub notices: Vec<Notice>,
}

impl Config {
    /// Reads arguments (without the program's name) and the environment.
    ///
    /// # Errors
    /// [`ConfigError`] with exit code 2 for a command line that is no sequence of known flags, 1 for values that
    /// contradict each other, an option set by flag and environment alike, or one that is not served yet.
    pub fn from_args_env<A, E>(args: A, env: E) -> Result<Parsed, ConfigError>
    where
        A: IntoIterator<Item = String>,
        E: IntoIterator<Item = (String, String)>,
    {
        let args: Vec<String> = args.into_iter().collect();
        let env: Vec<(String, String)> = env.into_iter().collect();
        if let Some(command @ ("gateway" | "grpc-proxy")) = args.first().map(String::as_str) {
            return Err(ConfigError::invalid(format!("the command {command:?} is not supported by ketch")));
        }
        let mut settings = match syntax::parse(&args)? {
            syntax::Outcome::Help => return Ok(Parsed::Help),
            syntax::Outcome::Settings(settings) => settings,
        };
        if settings.boolean("version") {
            return Ok(Parsed::Version);
        }
        settings.refuse_config_file(&env)?;
        let mut notices = env::apply(&mut settings, &env)?;
        validate::check(&settings)?;
        notices.extend(validate::refuse_not_yet(&settings)?);
        build::config(&settings, notices).map(|config| Parsed::Run(Box::new(config)))
    }

    /// Reads this process's own arguments and environment.
    ///
    /// # Errors
    /// As [`Config::from_args_env`]; and exit code 2 for an argument, 1 for an `ETCD_*` variable, that is not UTF-8.
    pub fn from_process() -> Result<Parsed, ConfigError> {
        let args = std::env::args_os().skip(1).map(OsString::into_string).collect::<Result<Vec<_>, _>>();
        let args = args.map_err(|bad| ConfigError::syntax(format!("argument {bad:?} is not UTF-8")))?;
        Self::from_args_env(args, env::of_process(std::env::vars_os())?)
    }

    /// Election timeout in ticks of the heartbeat interval.
    #[must_use]
    pub fn election_ticks(&self) -> u32 {
        let ticks = self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// How long a request may take: five seconds plus two election timeouts.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }
}

#[cfg(test)]
mod tests;
