//! The Maintenance service, as far as it goes: Status, and Alarm to look at alarms.

use std::sync::Arc;

use ketch_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DowngradeInfo, InternalRaftRequest, StatusRequest, StatusResponse,
    alarm_request::AlarmAction,
};
use ketch_proto::rpc_error::RpcError;

use super::Api;
use super::context::Context;
use super::error::ApiError;
use crate::apply::answer::Answer;
use crate::version;

/// `Maintenance.Status`.
pub async fn status(
    api: Arc<Api>,
    _context: Context,
    _request: StatusRequest,
) -> Result<StatusResponse, ApiError> {
    let shared = &api.shared;
    let standing = shared.standing();
    let sizes = shared.reader.sizes();
    let mut errors = Vec::new();
    if standing.leader == 0 {
        errors.push(RpcError::NoLeader.message().to_owned());
    }
    errors.extend(
        shared
            .alarms()
            .iter()
            .map(|alarm| format!("memberID:{} alarm:{} ", alarm.member_id, alarm.alarm().as_str_name())),
    );
    Ok(StatusResponse {
        header: Some(shared.header(shared.reader.view().revision())),
        version: version::SERVER.to_owned(),
        db_size: signed(sizes.logical_bytes),
        leader: standing.leader,
        raft_index: standing.commit,
        raft_term: standing.term,
        raft_applied_index: shared.applied(),
        errors,
        db_size_in_use: signed(sizes.in_use_bytes),
        is_learner: standing.is_learner,
        storage_version: version::STORAGE.to_owned(),
        db_size_quota: api.limits.quota_bytes,
        downgrade_info: Some(DowngradeInfo::default()),
    })
}

/// `Maintenance.Alarm`: looking only. Like etcd's it goes through the log, so it sees what is agreed.
pub async fn alarm(
    api: Arc<Api>,
    context: Context,
    request: AlarmRequest,
) -> Result<AlarmResponse, ApiError> {
    if request.action != AlarmAction::Get as i32 {
        return Err(ApiError::Unimplemented("ketch: Maintenance.Alarm can only GET in this version".into()));
    }
    let command = InternalRaftRequest { alarm: Some(request), ..InternalRaftRequest::default() };
    match api.proposer.propose(&context.caller, command, context.deadline).await? {
        Answer::Alarm(alarms) => {
            let header = api.shared.header(api.shared.reader.view().revision());
            Ok(AlarmResponse { header: Some(header), alarms })
        }
        _ => Err(ApiError::Store("a command was answered by another command's answer".into())),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
