//! Whether the members hold the same data: their hashes at equal points are compared, and a member whose data differs is
//! named by the alarm `CORRUPT`, which forbids every write until a person lowers it.
//!
//! | check | who | compares |
//! | --- | --- | --- |
//! | at start (`InitialCorruptCheck`) | a member that was started before, before it serves | itself with each peer that answers, at its own revision |
//! | now and then (`--corrupt-check-time`) | the leader | itself with each follower at the leader's revision |
//! | after compactions (`CompactHashCheck`) | the leader | all members at the compaction point, by majority |
//!
//! A hash is a sum over the logical content, so it is equal whenever two members compacted to the same point and stand
//! at the same revision. What rots on a disk is found by the checksums of the records; what is found here is content
//! that members do not agree on.

mod judge;

use std::sync::Arc;
use std::time::Duration;

use ketch_mvcc::{StoreHash, View};
use ketch_proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest, alarm_request::AlarmAction};
use tokio::sync::watch;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::maintenance::hash::folded;
use crate::api::range::beside;
use crate::apply::cluster::Cluster;
use crate::caller::Caller;
use crate::clock;
use crate::datadir::Identity;
use crate::peer::ask::{self, HashError, PeerHash};
use crate::stint;
use judge::{Compared, Hash};

/// What a peer answered.
struct PeerAnswer {
    id: u64,
    urls: Vec<String>,
    hash: Result<PeerHash, HashError>,
}

/// Compares this member with its peers before it serves anybody. Peers that do not answer, or are elsewhere, count as
/// agreeing.
///
/// # Errors
/// etcd's words, if some peer holds other data; or why the own data cannot be read.
pub async fn initial(identity: Identity, cluster: &Cluster, view: View) -> Result<(), String> {
    let Identity { member_id, cluster_id } = identity;
    let own_id = format!("{member_id:x}");
    tracing::info!(local_member_id = own_id, "starting initial corruption check");
    let own = hash_at(&view, 0).map_err(|why| format!("{own_id} failed to fetch hash ({why})"))?;
    let mut differ = false;
    for peer in ask_peers(member_id, cluster_id, cluster, own.revision).await {
        let (id, urls) = (format!("{:x}", peer.id), peer.urls.join(","));
        let message = match &peer.hash {
            Ok(found) if found.hash == own.hash => continue,
            Ok(found) if found.compact_revision == own.compact_revision => {
                differ = true;
                "found different hash values from remote peer"
            }
            Ok(_) => "found different compact revision values from remote peer",
            Err(error) => judge::unanswered(error),
        };
        let answer = peer.hash.as_ref().ok();
        tracing::warn!(
            local_member_id = own_id,
            local_member_revision = own.revision,
            local_member_compact_revision = own.compact_revision,
            local_member_hash = own.hash,
            remote_peer_id = id,
            remote_peer_endpoints = urls,
            remote_peer_revision = answer.map(|answer| answer.revision),
            remote_peer_compact_revision = answer.map(|answer| answer.compact_revision),
            remote_peer_hash = answer.map(|answer| answer.hash),
            error = peer.hash.as_ref().err().map(ToString::to_string),
            "{message}"
        );
    }
    if differ {
        return Err(format!("{own_id} found data inconsistency with peers"));
    }
    tracing::info!(local_member_id = own_id, "initial corruption checking passed; no corruption");
    Ok(())
}

/// Compares the followers with this member every `every` while it leads, until `stop` becomes true.
pub async fn watch(api: Arc<Api>, every: Duration, mut stop: watch::Receiver<bool>) {
    tracing::info!(
        local_member_id = %format_args!("{:x}", api.shared.member_id),
        interval = ?every,
        "enabled corruption checking"
    );
    while next(every, &mut stop).await {
        if leads(&api)
            && let Err(error) = compare(&api).await
        {
            tracing::warn!(%error, "failed to check hash KV");
        }
    }
}

/// Compares all members at the last compaction points every `every` while this member leads, the newest first, until one is found that all
/// of them have carried out; until `stop` becomes true. Points at which all are equal, and those before them, are not looked at again.
pub async fn watch_compactions(api: Arc<Api>, every: Duration, mut stop: watch::Receiver<bool>) {
    let mut checked = 0;
    while next(every, &mut stop).await {
        if !leads(&api) {
            continue;
        }
        let newest = api.shared.reader.view().compacted();
        // After a restart the newest one only is known.
        let mut points = api.shared.hashes.points();
        if !points.contains(&newest) {
            points.insert(0, newest);
        }
        for point in points.into_iter().filter(|point| *point > checked) {
            match compare_compaction(&api, point).await {
                Ok(Compared::Unsure) => continue,
                Ok(Compared::Equal) => checked = checked.max(point),
                Ok(Compared::Differ(suspects)) => {
                    for suspect in suspects {
                        raise(&api, suspect).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "failed to check the hash of a compaction"),
            }
            break;
        }
    }
}

/// Waits; false once the member stops.
async fn next(every: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(every, stop.wait_for(|&stop| stop)).await.is_err()
}

fn leads(api: &Api) -> bool {
    api.shared.standing().leader == api.shared.member_id
}

async fn compare(api: &Arc<Api>) -> Result<(), ApiError> {
    let before = own_hash(api, 0).await?;
    let Identity { member_id, cluster_id } = identity(api);
    let peers = ask_peers(member_id, cluster_id, &api.shared.cluster(), before.revision).await;
    // Whatever the followers had applied when they answered, this member has applied now.
    api.barrier.pass(clock::now() + api.limits.request_timeout).await?;
    let after = own_hash(api, 0).await?;
    let answered: Vec<(u64, PeerHash)> =
        peers.iter().filter_map(|peer| Some((peer.id, *peer.hash.as_ref().ok()?))).collect();
    if let Some(suspect) = judge::followers(member_id, before, after, &answered) {
        raise(api, suspect).await;
    }
    tracing::info!(number_of_peers_checked = answered.len(), "finished peer corruption check");
    Ok(())
}

async fn compare_compaction(api: &Arc<Api>, point: i64) -> Result<Compared, ApiError> {
    let (view, hashes) = (api.shared.reader.view().resting(stint::rest), Arc::clone(&api.shared.hashes));
    let (own, kept) = beside(api, move || {
        let kept = hashes.at(point, stint::rest)?.map(Hash::from);
        // Behind the newest point there is nothing but what was kept.
        Ok(match kept.filter(|_| view.compacted() != point) {
            Some(kept) => (kept, None),
            None => (hash_at(&view, point)?, kept),
        })
    })
    .await?;
    let Identity { member_id, cluster_id } = identity(api);
    let peers = ask_peers(member_id, cluster_id, &api.shared.cluster(), point).await;
    if peers.is_empty() {
        return Ok(Compared::Equal);
    }
    let answers: Vec<(u64, Option<PeerHash>)> =
        peers.iter().map(|peer| (peer.id, peer.hash.as_ref().ok().copied())).collect();
    let answers = judge::comparable(answers, own, kept);
    Ok(judge::compaction(member_id, own, &answers))
}

/// Each other member's hash at `revision`, asked of all at once.
async fn ask_peers(own: u64, cluster_id: u64, cluster: &Cluster, revision: i64) -> Vec<PeerAnswer> {
    let mut asked = tokio::task::JoinSet::new();
    for member in cluster.members.values().filter(|member| member.id != own && !member.peer_urls.is_empty()) {
        let (id, urls) = (member.id, member.peer_urls.clone());
        asked.spawn(async move {
            let hash = ask::hash_of(&urls, cluster_id, revision).await;
            PeerAnswer { id, urls, hash }
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|answer| answer.id);
    answers
}

async fn own_hash(api: &Arc<Api>, revision: i64) -> Result<Hash, ApiError> {
    let view = api.shared.reader.view().resting(stint::rest);
    beside(api, move || Ok(hash_at(&view, revision)?)).await
}

fn hash_at(view: &View, revision: i64) -> Result<Hash, ketch_mvcc::ReadError> {
    Ok(view.hash(revision)?.into())
}

impl From<StoreHash> for Hash {
    fn from(found: StoreHash) -> Self {
        let StoreHash { hash, compact_revision, hash_revision } = found;
        Hash { hash: folded(hash), compact_revision, revision: hash_revision }
    }
}

fn identity(api: &Api) -> Identity {
    Identity { cluster_id: api.shared.cluster_id, member_id: api.shared.member_id }
}

/// Raises `CORRUPT` for `member`; 0 stands for the whole cluster.
async fn raise(api: &Api, member: u64) {
    tracing::error!(member = %format_args!("{member:x}"), "members hold different data: raising the alarm CORRUPT");
    let alarm = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: member,
        alarm: AlarmType::Corrupt as i32,
    };
    let command = InternalRaftRequest { alarm: Some(alarm), ..InternalRaftRequest::default() };
    let deadline = clock::now() + api.limits.request_timeout;
    if let Err(error) = api.proposer.propose(&Caller::default(), command, deadline).await {
        tracing::error!(?error, "failed to raise the alarm CORRUPT");
    }
}
