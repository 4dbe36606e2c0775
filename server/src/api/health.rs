//! The standard gRPC health service (`grpc.health.v1`): the server as a whole, under the empty name.

use std::sync::Arc;

use ketch_proto::healthpb::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus,
};
use tokio_stream::{Stream, StreamExt};

use super::Api;
use super::context::Context;
use super::error::ApiError;

/// `Health.Check`.
pub async fn check(
    _api: Arc<Api>,
    _context: Context,
    request: HealthCheckRequest,
) -> Result<HealthCheckResponse, ApiError> {
    if request.service.is_empty() { Ok(serving()) } else { Err(ApiError::UnknownService) }
}

/// `Health.List`: the one service there is.
pub async fn list(
    _api: Arc<Api>,
    _context: Context,
    _request: HealthListRequest,
) -> Result<HealthListResponse, ApiError> {
    Ok(HealthListResponse { statuses: [(String::new(), serving())].into() })
}

/// `Health.Watch`: the state now, and then silence, because it does not change as long as the member serves.
pub async fn watch(
    _api: Arc<Api>,
    _context: Context,
    request: HealthCheckRequest,
) -> Result<impl Stream<Item = Result<HealthCheckResponse, ApiError>> + use<>, ApiError> {
    let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown as i32 };
    let status = if request.service.is_empty() { serving() } else { unknown };
    Ok(tokio_stream::once(Ok(status)).chain(tokio_stream::pending()))
}

/// What a healthy server says. A server that cannot serve has stopped.
#[must_use]
pub fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving as i32 }
}
