//! `Maintenance.Downgrade`: check a target, begin a job, end it.
//!
//! A job changes what the cluster calls itself: the leader moves the cluster version to the target, and the stored
//! data's version follows. See [`crate::versions`].

use std::sync::Arc;

use ketch_proto::etcdserverpb::{
    DowngradeRequest, DowngradeResponse, InternalRaftRequest, downgrade_request::DowngradeAction,
};
use ketch_proto::membershippb::DowngradeInfoSetRequest;
use ketch_proto::rpc_error::RpcError;

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::versions::ClusterVersion;

/// `Maintenance.Downgrade`.
pub async fn downgrade(
    api: Arc<Api>,
    context: Context,
    request: DowngradeRequest,
) -> Result<DowngradeResponse, ApiError> {
    match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => _ = validate(&api, &context, &request.version).await?,
        Ok(DowngradeAction::Enable) => {
            let target = validate(&api, &context, &request.version).await?;
            tracing::warn!(%target, "beginning a downgrade");
            set(&api, &context, DowngradeInfoSetRequest { enabled: true, ver: target.to_string() }).await?;
        }
        Ok(DowngradeAction::Cancel) => cancel(&api, &context).await,
        Err(_) => return Err(ApiError::UnknownMethod),
    }
    Ok(DowngradeResponse {
        header: Some(api.shared.header(api.shared.reader.view().revision())),
        version: current(&api)?.short(),
    })
}

async fn validate(api: &Api, context: &Context, target: &str) -> Result<ClusterVersion, ApiError> {
    let target = ClusterVersion::parse(target).ok_or(RpcError::WrongDowngradeVersionFormat)?;
    current(api)?;
    api.barrier.pass(context.deadline).await?;
    if target != current(api)?.downgrade_target() {
        return Err(RpcError::InvalidDowngradeTargetVersion.into());
    }
    if api.shared.cluster().downgrade.enabled {
        return Err(RpcError::DowngradeInProcess.into());
    }
    Ok(target)
}

/// As in etcd, that there is nothing to end, or that it could not be ended, is said in the log only.
async fn cancel(api: &Api, context: &Context) {
    let ended = async {
        api.barrier.pass(context.deadline).await?;
        if !api.shared.cluster().downgrade.enabled {
            return Err(RpcError::NoInflightDowngrade.into());
        }
        set(api, context, DowngradeInfoSetRequest::default()).await
    };
    if let Err(error) = ended.await {
        tracing::warn!(%error, "failed to cancel downgrade");
    }
}

async fn set(api: &Api, context: &Context, job: DowngradeInfoSetRequest) -> Result<(), ApiError> {
    let command =
        InternalRaftRequest { downgrade_info_set: Some(Box::new(job)), ..InternalRaftRequest::default() };
    api.proposer.propose(&context.caller, command, context.deadline).await?;
    Ok(())
}

fn current(api: &Api) -> Result<ClusterVersion, ApiError> {
    let version = api.shared.cluster().version.as_deref().and_then(ClusterVersion::parse);
    version.ok_or(RpcError::ClusterVersionUnavailable.into())
}
