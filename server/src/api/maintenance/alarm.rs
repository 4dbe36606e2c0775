//! `Maintenance.Alarm`: raise, lower or list. All of it goes through the log, so a list is what is agreed.

use std::sync::Arc;

use ketch_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, InternalRaftRequest, alarm_request::AlarmAction,
};

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::apply::answer::Answer;

/// `Maintenance.Alarm`.
pub async fn alarm(
    api: Arc<Api>,
    context: Context,
    request: AlarmRequest,
) -> Result<AlarmResponse, ApiError> {
    // Refused before it is replicated: no member could apply it.
    if AlarmAction::try_from(request.action).is_err() {
        return Err(ApiError::UnknownMethod);
    }
    if request.action != AlarmAction::Get as i32 {
        tracing::warn!(
            action = request.action,
            alarm = request.alarm,
            member_id = request.member_id,
            "alarm"
        );
    }
    let command = InternalRaftRequest { alarm: Some(request), ..InternalRaftRequest::default() };
    match api.proposer.propose(&context.caller, command, context.deadline).await? {
        Answer::Alarm(alarms) => {
            let header = api.shared.header(api.shared.reader.view().revision());
            Ok(AlarmResponse { header: Some(header), alarms })
        }
        _ => Err(ApiError::mismatched()),
    }
}
