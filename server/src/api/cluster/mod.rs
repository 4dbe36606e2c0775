//! The Cluster service: who is in it, and changes of that. Headers name no revision, as etcd's.

mod rules;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ketch_proto::etcdserverpb as pb;
use ketch_proto::rpc_error::RpcError;
use ketch_raft::ConfChangeKind;

use super::Api;
use super::context::Context;
use super::error::ApiError;
use crate::apply::answer::Answer;
use crate::cluster::{self, Member, id};
use crate::config::Url;

/// `Cluster.MemberList`.
pub async fn list(
    api: Arc<Api>,
    context: Context,
    request: pb::MemberListRequest,
) -> Result<pb::MemberListResponse, ApiError> {
    if request.linearizable {
        api.barrier.pass(context.deadline).await?;
    }
    let members = to_wire(api.shared.cluster().members.values());
    Ok(pb::MemberListResponse { header: Some(api.shared.header(0)), members })
}

/// `Cluster.MemberAdd`: a voter, or a learner. Its id depends on its URLs, the cluster's token (which etcd leaves out
/// here) and the second.
pub async fn add(
    api: Arc<Api>,
    context: Context,
    request: pb::MemberAddRequest,
) -> Result<pb::MemberAddResponse, ApiError> {
    let peer_urls = urls(&request.peer_urls).ok_or(RpcError::MemberBadURLs)?;
    rules::may_add(&api, request.is_learner)?;
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let member = Member {
        id: id::member_id(&peer_urls, "", Some(i64::try_from(second).unwrap_or_default())),
        peer_urls,
        is_learner: request.is_learner,
        name: String::new(),
        client_urls: Vec::new(),
    };
    let kind = if request.is_learner { ConfChangeKind::AddLearner } else { ConfChangeKind::AddVoter };
    let max_learners = request.is_learner.then_some(api.limits.learners_max);
    let about = cluster::Context { max_learners, ..cluster::Context::of(member.clone()) };
    let members = change(&api, &context, kind, about).await?;
    Ok(pb::MemberAddResponse {
        header: Some(api.shared.header(0)),
        member: to_wire([&member]).pop(),
        members,
    })
}

/// `Cluster.MemberRemove`.
pub async fn remove(
    api: Arc<Api>,
    context: Context,
    request: pb::MemberRemoveRequest,
) -> Result<pb::MemberRemoveResponse, ApiError> {
    rules::may_remove(&api, request.id)?;
    let about = cluster::Context::of(named(request.id, Vec::new()));
    let members = change(&api, &context, ConfChangeKind::Remove, about).await?;
    Ok(pb::MemberRemoveResponse { header: Some(api.shared.header(0)), members })
}

/// `Cluster.MemberUpdate`: other peer URLs. As in etcd they are not looked at.
pub async fn update(
    api: Arc<Api>,
    context: Context,
    request: pb::MemberUpdateRequest,
) -> Result<pb::MemberUpdateResponse, ApiError> {
    let about = cluster::Context::of(named(request.id, request.peer_urls));
    let members = change(&api, &context, ConfChangeKind::Update, about).await?;
    Ok(pb::MemberUpdateResponse { header: Some(api.shared.header(0)), members })
}

/// `Cluster.MemberPromote`: only the leader knows how far the learner is; others ask it.
pub async fn promote(
    api: Arc<Api>,
    context: Context,
    request: pb::MemberPromoteRequest,
) -> Result<pb::MemberPromoteResponse, ApiError> {
    let members = match promote_here(&api, &context, request.id).await {
        Err(ApiError::Rpc(RpcError::NotLeader)) => rules::promote_there(&api, &context, request.id).await?,
        verdict => verdict?,
    };
    Ok(pb::MemberPromoteResponse { header: Some(api.shared.header(0)), members })
}

/// Promotes a learner on the leader.
///
/// # Errors
/// [`RpcError::NotLeader`] elsewhere; a learner that is not there, or not far enough.
pub async fn promote_here(api: &Api, context: &Context, id: u64) -> Result<Vec<pb::Member>, ApiError> {
    let verdict = try_promote(api, context, id).await;
    match &verdict {
        Ok(_) => api.metrics.member.count_promotion(None),
        Err(ApiError::Rpc(RpcError::NotLeader)) => {}
        Err(error) => api.metrics.member.count_promotion(Some(reason(error))),
    }
    verdict
}

/// Why a learner was not promoted, in the words that etcd's metric has for it.
fn reason(error: &ApiError) -> String {
    match error {
        ApiError::Rpc(RpcError::MemberNotFound) => "membership: ID not found".to_owned(),
        ApiError::Rpc(RpcError::MemberNotLearner) => {
            "membership: can only promote a learner member".to_owned()
        }
        other => other.to_string(),
    }
}

async fn try_promote(api: &Api, context: &Context, id: u64) -> Result<Vec<pb::Member>, ApiError> {
    rules::may_promote(api, context, id).await?;
    let about = cluster::Context { is_promote: true, ..cluster::Context::of(named(id, Vec::new())) };
    change(api, context, ConfChangeKind::AddVoter, about).await
}

async fn change(
    api: &Api,
    context: &Context,
    kind: ConfChangeKind,
    about: cluster::Context,
) -> Result<Vec<pb::Member>, ApiError> {
    match api.proposer.change(kind, about, context.deadline).await? {
        Answer::Members(members) => Ok(to_wire(&members)),
        _ => Err(ApiError::mismatched()),
    }
}

fn named(id: u64, peer_urls: Vec<String>) -> Member {
    Member { id, peer_urls, is_learner: false, name: String::new(), client_urls: Vec::new() }
}

/// Peer URLs as etcd takes them: at least one, each well formed, sorted.
fn urls(given: &[String]) -> Option<Vec<String>> {
    let mut urls = given
        .iter()
        .map(|url| Url::parse(url).map(|url| url.to_string()))
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    urls.sort();
    (!urls.is_empty()).then_some(urls)
}

fn to_wire<'a>(members: impl IntoIterator<Item = &'a Member>) -> Vec<pb::Member> {
    let members = members.into_iter().map(|member| pb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    });
    members.collect()
}
