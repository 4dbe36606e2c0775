//! What can go wrong, and what that means for a write.

use std::fmt;

use ketch_proto::rpc_error::RpcError;
use ketch_proto::tonic::{Code, Status, transport};

/// Why a call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Not a URL.
    Endpoint(String),
    /// No connection.
    Connect(transport::Error),
    /// The server refused, or the answer was lost.
    Status(Status),
}

/// What became of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It never left this process.
    NotSent,
    /// The server refused it; it has changed nothing.
    Rejected,
    /// It may have happened or may still happen.
    Unknown,
}

impl Error {
    /// The etcd error, if it is one.
    pub fn rpc_error(&self) -> Option<RpcError> {
        match self {
            Error::Status(status) => RpcError::from_message(status.message()),
            Error::Endpoint(_) | Error::Connect(_) => None,
        }
    }

    /// Whether the request may have had an effect.
    pub fn outcome(&self) -> Outcome {
        let Some(error) = self.rpc_error() else {
            return if matches!(self, Error::Status(_)) { Outcome::Unknown } else { Outcome::NotSent };
        };
        match error.code() {
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated => Outcome::Rejected,
            // Timeouts, lost leaders, and a full etcd, which writes first and complains then.
            _ => Outcome::Unknown,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Endpoint(url) => write!(f, "{url:?} is not a URL"),
            Error::Connect(error) => write!(f, "cannot connect: {error}"),
            Error::Status(status) => write!(f, "{}: {}", status.code(), status.message()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Endpoint(_) => None,
            Error::Connect(error) => Some(error),
            Error::Status(status) => Some(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        let outcome = |error: RpcError| Error::Status(error.into()).outcome();
        assert_eq!(outcome(RpcError::LeaseNotFound), Outcome::Rejected);
        assert_eq!(outcome(RpcError::TimedOut), Outcome::Unknown);
        assert_eq!(outcome(RpcError::NoSpace), Outcome::Unknown);
        assert_eq!(Error::Status(Status::unavailable("connection reset")).outcome(), Outcome::Unknown);
        assert_eq!(Error::Endpoint(String::new()).outcome(), Outcome::NotSent);
    }
}
