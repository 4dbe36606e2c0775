//! `Maintenance.MoveLeader`.

use std::sync::Arc;

use ketch_proto::etcdserverpb::{MoveLeaderRequest, MoveLeaderResponse};
use ketch_proto::rpc_error::RpcError;

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::propose::ProposeError;

/// `Maintenance.MoveLeader`. Only the leader can, only to a voting member; to itself there is nothing to do.
pub async fn move_leader(
    api: Arc<Api>,
    context: Context,
    request: MoveLeaderRequest,
) -> Result<MoveLeaderResponse, ApiError> {
    let own = api.shared.member_id;
    if api.shared.standing().leader != own {
        return Err(RpcError::NotLeader.into());
    }
    match api.shared.cluster().members.get(&request.target_id) {
        Some(member) if !member.is_learner => {}
        _ => return Err(RpcError::BadLeaderTransferee.into()),
    }
    if request.target_id != own {
        api.proposer.transfer(request.target_id, context.deadline).await.map_err(|error| match error {
            ProposeError::Timeout => ApiError::TransferTimedOut,
            other => ApiError::from(other),
        })?;
    }
    Ok(MoveLeaderResponse { header: None })
}
