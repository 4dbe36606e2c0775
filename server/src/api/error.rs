//! The only place that names a gRPC code: what went wrong inside, and what a client is told.

use std::fmt;

use ketch_mvcc::ReadError;
use ketch_proto::rpc_error::RpcError;
use tonic::{Code, Status};

use crate::apply::answer::ApplyError;
use crate::propose::ProposeError;
use crate::read::BarrierError;

/// Whatever ends a request early.
#[derive(Debug)]
pub enum ApiError {
    /// One of etcd's documented errors.
    Rpc(RpcError),
    /// The client's own deadline passed, or it went away.
    DeadlineExceeded,
    /// The store failed under a read. The member is about to stop.
    Store(String),
    /// The health service does not know the service asked about.
    UnknownService,
    /// A request asks for an action that nobody knows.
    UnknownMethod,
    /// A leader did not hand over in time.
    TransferTimedOut,
    /// Something that this version does not do.
    Unimplemented(String),
}

impl ApiError {
    /// A command is answered by its own kind, always; anything else is a bug of ours.
    #[must_use]
    pub fn mismatched() -> ApiError {
        ApiError::Store("a command was answered by another command's answer".into())
    }
}

impl From<RpcError> for ApiError {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        Self::Rpc(match error {
            ApplyError::KeyNotFound => RpcError::KeyNotFound,
            ApplyError::LeaseNotFound => RpcError::LeaseNotFound,
            ApplyError::TooLarge => RpcError::RequestTooLarge,
            ApplyError::Compacted => RpcError::Compacted,
            ApplyError::FutureRevision => RpcError::FutureRev,
            ApplyError::NoSpace => RpcError::NoSpace,
            ApplyError::Corrupt => RpcError::Corrupt,
            ApplyError::MemberNotFound => RpcError::MemberNotFound,
            ApplyError::MemberExists => RpcError::MemberExist,
            ApplyError::PeerUrlExists => RpcError::PeerURLExist,
            ApplyError::MemberNotLearner => RpcError::MemberNotLearner,
            ApplyError::TooManyLearners => RpcError::TooManyLearners,
        })
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        Self::Rpc(match error {
            ProposeError::TooLarge => RpcError::RequestTooLarge,
            ProposeError::TooMany => RpcError::RequestTooManyRequests,
            ProposeError::NoSpace => RpcError::NoSpace,
            ProposeError::LeaderChanged => RpcError::LeaderChanged,
            ProposeError::Timeout => RpcError::TimedOut,
            ProposeError::Stopped => RpcError::ServerStopped,
            ProposeError::ConnectionLost => RpcError::TimeoutDueToConnectionLost,
            // As in etcd, where it waits for a leader until its time is over.
            ProposeError::NoLeader => return Self::DeadlineExceeded,
            ProposeError::LeaderFailed => RpcError::TimeoutDueToLeaderFail,
            ProposeError::ChangePending => RpcError::TimedOut,
            // The members' own rules come first and have their own words: this is what they let through.
            ProposeError::InvalidChange(_) => RpcError::Unhealthy,
            ProposeError::Refused(refusal) => return refusal.into(),
        })
    }
}

impl From<BarrierError> for ApiError {
    fn from(error: BarrierError) -> Self {
        Self::Rpc(match error {
            BarrierError::Timeout => RpcError::TimedOut,
            BarrierError::Stopped => RpcError::ServerStopped,
        })
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Compacted { .. } => Self::Rpc(RpcError::Compacted),
            ReadError::Future { .. } => Self::Rpc(RpcError::FutureRev),
            ReadError::Fault(fault) => Self::Store(fault.to_string()),
        }
    }
}

impl From<ketch_mvcc::Fault> for ApiError {
    fn from(fault: ketch_mvcc::Fault) -> Self {
        Self::Store(fault.to_string())
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => f.write_str(error.message()),
            Self::DeadlineExceeded => f.write_str("context deadline exceeded"),
            Self::Store(why) => write!(f, "ketch: the store failed: {why}"),
            Self::UnknownService => f.write_str("unknown service"),
            Self::UnknownMethod => f.write_str("etcdserver: unknown method"),
            Self::TransferTimedOut => {
                f.write_str("etcdserver: request timed out, leader transfer took too long")
            }
            Self::Unimplemented(what) => f.write_str(what),
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let code = match &error {
            ApiError::Rpc(error) => return (*error).into(),
            ApiError::DeadlineExceeded => Code::DeadlineExceeded,
            ApiError::Store(_) => Code::DataLoss,
            ApiError::UnknownService => Code::NotFound,
            ApiError::UnknownMethod | ApiError::TransferTimedOut => Code::Unknown,
            ApiError::Unimplemented(_) => Code::Unimplemented,
        };
        Status::new(code, error.to_string())
    }
}

/// An answer that is over the size limit, in the words that etcd's clients know.
#[must_use]
pub fn too_large_to_send(found: usize, limit: usize) -> Status {
    Status::new(
        Code::ResourceExhausted,
        format!("trying to send message larger than max ({found} vs. {limit})"),
    )
}
