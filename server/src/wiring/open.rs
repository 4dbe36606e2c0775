//! Opening a member's directory as the flags say: founding a cluster, joining one, or going on.

use std::sync::Arc;
use std::time::Duration;

use ketch_wal::{Disk, RealDisk, Tail};

use crate::bootstrap::{self, CoreOptions, First, Founding, Opened};
use crate::cluster::Member;
use crate::config::{Bootstrap, Config, ConfigError, Url};
use crate::datadir::{self, Identity};
use crate::peer::ask;
use crate::version;

/// Size of the raft log's segments. Spares of this size are filled with zeroes at the first start; later ones
/// are recycled.
pub(crate) const LOG_SEGMENT_BYTES: u64 = 16 << 20;

/// Roots of the recent past that the store keeps for reads at older revisions. Each holds on to the index nodes
/// that changed since; lists that are being paged pin theirs apart from these.
const RING_ROOTS: usize = 4;

pub(super) fn open(config: &Config, remote: Result<Remote, String>) -> Result<Opened, String> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options = CoreOptions {
        election_ticks: config.election_ticks(),
        pre_vote: config.pre_vote,
        seed: u64::from(std::process::id()),
        unsafe_no_sync: config.unsafe_no_fsync,
        force_new_cluster: config.force_new_cluster,
        log_dir: config.wal_dir.clone(),
        log_segment_bytes: LOG_SEGMENT_BYTES,
        store: store_options(config),
    };
    let opened = bootstrap::open(&disk, &config.data_dir, &options, || first(config, remote))
        .map_err(|error| error.to_string())?;
    let Identity { cluster_id, member_id } = opened.identity;
    if let Tail::Torn { segment, offset, cut_bytes } = &opened.recovery.tail {
        tracing::warn!(
            ?segment,
            offset,
            cut_bytes,
            "cut a torn tail off the raft log: writes that were never acknowledged, unless the disk is at fault"
        );
    }
    tracing::info!(
        local_member_id = %format_args!("{member_id:x}"),
        cluster_id = %format_args!("{cluster_id:x}"),
        data_dir = %config.data_dir.display(),
        new = opened.founded,
        version = version::KETCH,
        "starting member"
    );
    Ok(opened)
}

fn store_options(config: &Config) -> ketch_mvcc::Options {
    ketch_mvcc::Options {
        ring_roots: RING_ROOTS,
        unsafe_no_sync: config.unsafe_no_fsync,
        ..ketch_mvcc::Options::default()
    }
}

/// A command must fit into one record of the raft log, whatever the flag says.
pub(super) fn check_request_bytes(config: &Config) -> Result<(), String> {
    let limit = ketch_wal::RECORD_BYTES_MAX as usize - (1 << 20);
    if config.max_request_bytes <= limit {
        return Ok(());
    }
    Err(format!("--max-request-bytes={} is above the limit of {limit} bytes", config.max_request_bytes))
}

/// What the peers say of a cluster.
type Remote = (u64, Vec<Member>);

/// Asks the other members that `--initial-cluster` names who is in their cluster; nothing is asked for a directory that
/// was started before.
///
/// # Errors
/// A list that cannot be read.
pub(super) async fn ask_peers(config: &Config) -> Result<Result<Remote, String>, String> {
    let started = config.data_dir.join(datadir::BOOT).exists();
    // What is wrong with the flags is said before anybody is asked.
    let urls = match started {
        true => Ok(Vec::new()),
        false if config.join_existing => config.remote_peer_urls(),
        false => config.bootstrap().and_then(|_| config.remote_peer_urls()),
    };
    let urls = urls.map_err(|error| error.to_string())?;
    if urls.is_empty() {
        return Ok(Err("could not retrieve cluster information from the given URLs".into()));
    }
    let limit = if config.join_existing { ASK_EXISTING } else { ASK_NEW };
    let asked = tokio::time::timeout(limit, ask::members_of(&urls)).await;
    Ok(asked.unwrap_or_else(|_| Err("could not retrieve cluster information from the given URLs".into())))
}

/// How long peers of an existing cluster have to answer, and those of a new one, who may not be up yet.
const ASK_EXISTING: Duration = Duration::from_secs(10);
const ASK_NEW: Duration = Duration::from_secs(1);

fn first(config: &Config, remote: Result<Remote, String>) -> Result<First, String> {
    let text = |error: ConfigError| error.to_string();
    if config.join_existing {
        let (cluster_id, members) =
            remote.map_err(|why| format!("cannot fetch cluster info from peer urls: {why}"))?;
        let joining = founding_of(config.joining(cluster_id, &members).map_err(text)?);
        return Ok(First::Join(Founding { members, ..joining }));
    }
    let founding = founding_of(config.bootstrap().map_err(text)?);
    let own = founding.identity.member_id;
    let known = |(_, members): &Remote| {
        members.iter().any(|member| member.id == own && !member.client_urls.is_empty())
    };
    if remote.as_ref().is_ok_and(known) {
        return Err(format!("member {own:x} has already been bootstrapped"));
    }
    Ok(First::New(founding))
}

/// What a cluster starts from whose first configuration is `first`.
pub(crate) fn founding_of(first: Bootstrap) -> Founding {
    let members = first.members.into_iter().map(|member| Member {
        id: member.id,
        peer_urls: member.peer_urls.iter().map(Url::to_string).collect(),
        is_learner: false,
        name: member.name,
        client_urls: Vec::new(),
    });
    Founding {
        identity: Identity { cluster_id: first.cluster_id, member_id: first.member_id },
        members: members.collect(),
    }
}
