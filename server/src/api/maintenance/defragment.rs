//! `Maintenance.Defragment`: answered at once, because there is nothing to do.

use std::sync::Arc;

use ketch_mvcc::Sizes;
use ketch_proto::etcdserverpb::{DefragmentRequest, DefragmentResponse};

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;

/// `Maintenance.Defragment`. The store gives space back by itself once it is compacted, without stopping for it.
pub async fn defragment(
    api: Arc<Api>,
    _context: Context,
    _request: DefragmentRequest,
) -> Result<DefragmentResponse, ApiError> {
    nothing_to_defragment(api.shared.reader.sizes());
    Ok(DefragmentResponse { header: None })
}

/// Says so in the log.
pub(crate) fn nothing_to_defragment(sizes: Sizes) {
    tracing::info!(
        logical_bytes = sizes.logical_bytes,
        physical_bytes = sizes.physical_bytes,
        "nothing to defragment: compaction gives space back by itself"
    );
}
