//! Opening a member's directory as the flags say: founding a cluster, joining one, or going on.

use std::sync::Arc;

use ketch_wal::{Disk, RealDisk, Tail};

use crate::bootstrap::{self, CoreOptions, First, Founding, Opened};
use crate::cluster::Member;
use crate::config::{Bootstrap, Config, Url};
use crate::datadir::Identity;
use crate::version;

/// Size of the raft log's segments. Spares of this size are filled with zeroes at the first start; later ones
/// are recycled.
pub(crate) const LOG_SEGMENT_BYTES: u64 = 16 << 20;

/// Roots of the recent past that the store keeps for reads at older revisions. Each holds on to the index nodes
/// that changed since; lists that are being paged pin theirs apart from these.
const RING_ROOTS: usize = 4;

pub(super) fn open(config: &Config) -> Result<Opened, String> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options = CoreOptions {
        election_ticks: config.election_ticks(),
        pre_vote: config.pre_vote,
        seed: u64::from(std::process::id()),
        unsafe_no_sync: config.unsafe_no_fsync,
        log_segment_bytes: LOG_SEGMENT_BYTES,
        store: store_options(config),
    };
    let opened = bootstrap::open(&disk, &config.data_dir, &options, || founding(config))
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

fn founding(config: &Config) -> Result<First, String> {
    Ok(First::New(founding_of(config.bootstrap().map_err(|error| error.to_string())?)))
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
