//! `Maintenance.MoveLeader`.

use std::sync::Arc;

use ketch_proto::etcdserverpb::{MoveLeaderRequest, MoveLeaderResponse};
use ketch_proto::rpc_error::RpcError;

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;

/// `Maintenance.MoveLeader`. Only the leader can, only to a voting member; to itself there is nothing to do, and a
/// cluster of one has nobody else.
pub async fn move_leader(
    api: Arc<Api>,
    _context: Context,
    request: MoveLeaderRequest,
) -> Result<MoveLeaderResponse, ApiError> {
    let own = api.shared.member_id;
    if api.shared.standing().leader != own {
        return Err(RpcError::NotLeader.into());
    }
    match api.shared.cluster().members.get(&request.target_id) {
        Some(member) if !member.is_learner && member.id == own => Ok(MoveLeaderResponse { header: None }),
        Some(member) if !member.is_learner => Err(ApiError::Unimplemented(
            "ketch: Maintenance.MoveLeader to another member is not implemented in this version".into(),
        )),
        _ => Err(RpcError::BadLeaderTransferee.into()),
    }
}
