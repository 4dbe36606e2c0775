//! The Cluster service, as far as it goes: MemberList.

use std::sync::Arc;

use ketch_proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};

use super::Api;
use super::context::Context;
use super::error::ApiError;

/// `Cluster.MemberList`. Its header names no revision, as etcd's.
pub async fn list(
    api: Arc<Api>,
    context: Context,
    request: MemberListRequest,
) -> Result<MemberListResponse, ApiError> {
    if request.linearizable {
        api.barrier.pass(context.deadline).await?;
    }
    let cluster = api.shared.cluster();
    let members = cluster.members.values().map(|member| Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    });
    Ok(MemberListResponse { header: Some(api.shared.header(0)), members: members.collect() })
}
