//! `Maintenance.Status`: what a member says of itself.

use std::sync::Arc;

use ketch_proto::etcdserverpb::{AlarmMember, AlarmType, DowngradeInfo, StatusRequest, StatusResponse};
use ketch_proto::rpc_error::RpcError;

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::{version, versions};

/// `Maintenance.Status`.
pub async fn status(
    api: Arc<Api>,
    _context: Context,
    _request: StatusRequest,
) -> Result<StatusResponse, ApiError> {
    let shared = &api.shared;
    let standing = shared.standing();
    let sizes = shared.reader.sizes();
    let cluster = shared.cluster();
    let mut errors = Vec::new();
    if standing.leader == 0 {
        errors.push(RpcError::NoLeader.message().to_owned());
    }
    errors.extend(shared.alarms().iter().map(describe));
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
        storage_version: versions::storage(&cluster),
        db_size_quota: api.limits.quota.bytes(),
        downgrade_info: Some(DowngradeInfo {
            enabled: cluster.downgrade.enabled,
            target_version: cluster.downgrade.target.clone(),
        }),
    })
}

/// An alarm in the text form of protocol buffers: fields that are zero are left out.
fn describe(alarm: &AlarmMember) -> String {
    let kind = AlarmType::try_from(alarm.alarm)
        .map_or_else(|_| alarm.alarm.to_string(), |kind| kind.as_str_name().to_owned());
    match alarm.member_id {
        0 => format!("alarm:{kind}"),
        id => format!("memberID:{id} alarm:{kind}"),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_in_words() {
        let describe = |member_id, alarm| describe(&AlarmMember { member_id, alarm });
        assert_eq!(describe(9, 1), "memberID:9 alarm:NOSPACE");
        assert_eq!(describe(0, 2), "alarm:CORRUPT");
        assert_eq!(describe(5, 7), "memberID:5 alarm:7");
    }
}
