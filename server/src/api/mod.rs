//! The gRPC face of a member: one file per service, requests validated and converted here, nothing decided.
//!
//! [`router`] finds the method; each service's file holds plain functions from (context, request) to an
//! answer; [`error`] is the only place that names a gRPC code.

pub mod answer;
pub mod cluster;
pub mod context;
pub mod error;
pub mod express;
pub mod health;
pub mod kv;
pub mod maintenance;
pub mod range;
pub mod range_stream;
pub mod router;
pub mod slow;
pub mod streams;
pub mod validate;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use crate::aside::Aside;
use crate::metrics::Metrics;
use crate::peer::Network;
use crate::propose::{ProposeError, Proposer};
use crate::quota::{self, Quota};
use crate::read::ReadBarrier;
use crate::state::Shared;

/// The limits that the API enforces; they are consulted before proposing, never when applying.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Operations in one branch of a transaction (`--max-txn-ops`).
    pub txn_ops_max: usize,
    /// Bytes of one replicated command (`--max-request-bytes`).
    pub request_bytes_max: usize,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// A call of one request and one answer that takes longer is logged (`--warning-unary-request-duration`).
    pub warn_after: Duration,
    /// A read that takes longer is logged as well, as one of those of `slow::apply` (`--warning-apply-duration`).
    pub warn_apply_after: Duration,
    /// Learners that the cluster may have (`--max-learners`).
    pub learners_max: usize,
    /// Whether changes of members that endanger the quorum are refused (`--strict-reconfig-check`).
    pub strict_reconfig: bool,
    /// The space quota (`--quota-backend-bytes`).
    pub quota: Quota,
}

impl Limits {
    /// Bytes of one message of a client: the largest command and room for what is around it.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.request_bytes_max + (512 << 10)
    }
}

/// What every service works with.
pub struct Api {
    /// The member's published state.
    pub shared: Arc<Shared>,
    /// The way to the peers.
    pub network: Arc<Network>,
    /// The way to write.
    pub proposer: Proposer,
    /// The way to read what is agreed.
    pub barrier: ReadBarrier,
    /// The limits in force.
    pub limits: Limits,
    /// The member's metrics.
    pub metrics: Arc<Metrics>,
    /// The streaming calls that are open.
    pub streams: Arc<streams::OpenStreams>,
    /// What all watch streams share.
    pub watches: Arc<watch::Watches>,
    /// The threads for what is large.
    pub aside: Arc<Aside>,
}

impl Api {
    /// Whether a request that adds about `cost` bytes to the store may go on. As in etcd this is asked before
    /// anything else about the request.
    ///
    /// # Errors
    /// [`ProposeError::NoSpace`].
    pub async fn admit(&self, context: &context::Context, cost: u64) -> Result<(), ProposeError> {
        quota::admit(&self.proposer, &self.shared, self.limits.quota, cost, context.deadline).await
    }
}
