//! The standard gRPC health service (`grpc.health.v1`): the server as a whole, under the empty name.

use std::sync::Arc;

use ketch_proto::healthpb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};

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

/// What a healthy server says. A server that cannot serve has stopped.
#[must_use]
pub fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving as i32 }
}
