//! What etcd's errors mean here.

use std::error::Error as _;

use etcd_client::Error;

use crate::store::StoreError;

/// gRPC's codes, as far as they are told apart here (the numbers of grpc/status).
mod code {
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const UNAUTHENTICATED: i32 = 16;
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
}

/// Why etcd did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// That revision is forgotten.
    Compacted,
    /// That revision has not happened yet.
    Future,
    /// There is no such lease.
    NoLease,
    /// The answer is too large.
    TooLarge,
    /// Who we are may not, or what we asked cannot be; other members would say the same.
    Refused(String),
    /// This member cannot, another may.
    Unavailable(String),
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        let Error::GRpcStatus(status) = error else {
            return match error {
                Error::InvalidArgs(_) | Error::InvalidUri(_) => Self::Refused(error.to_string()),
                // What the client makes of an answer that leaves it no time.
                Error::LeaseKeepAliveError(problem) if problem == "lease not found" => {
                    Self::NoLease
                }
                _ => Self::Unavailable(deepest(error)),
            };
        };
        let message = status.message();
        match i32::from(status.code()) {
            code::OUT_OF_RANGE if message.contains("future revision") => Self::Future,
            code::OUT_OF_RANGE if message.contains("compacted") => Self::Compacted,
            code::OUT_OF_RANGE if message.contains("too large") => Self::TooLarge,
            code::RESOURCE_EXHAUSTED if message.contains("larger than max") => Self::TooLarge,
            code::NOT_FOUND if message.contains("lease not found") => Self::NoLease,
            code::PERMISSION_DENIED | code::UNAUTHENTICATED | code::INVALID_ARGUMENT => {
                Self::Refused(message.to_owned())
            }
            _ => Self::Unavailable(deepest(error)),
        }
    }

    /// Whether another member may answer otherwise.
    pub(super) const fn is_of_member(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The same, with the member that it is about.
    pub(super) fn at(self, endpoint: &str) -> Self {
        match self {
            Self::Unavailable(problem) if !problem.contains(endpoint) => {
                Self::Unavailable(format!("etcd at {endpoint}: {problem}"))
            }
            other => other,
        }
    }

    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Refused(problem) => StoreError::Unavailable(format!("etcd refuses: {problem}")),
            Self::Unavailable(problem) => StoreError::Unavailable(problem),
            // Where these mean something else, they do not come here.
            Self::Compacted => StoreError::Unavailable("the revision is forgotten".to_owned()),
            Self::Future => StoreError::Unavailable("a member lags behind".to_owned()),
            Self::NoLease => StoreError::Unavailable("there is no such lease".to_owned()),
            Self::TooLarge => StoreError::Unavailable("the answer is too large".to_owned()),
        }
    }
}

/// The first cause of an error, which says more than those around it.
fn deepest(error: &Error) -> String {
    let status = match error {
        Error::GRpcStatus(status) => Some(status),
        _ => None,
    };
    let mut source = status.map_or_else(|| error.source(), |status| status.source());
    let mut text = status.map_or_else(|| error.to_string(), |status| status.message().to_owned());
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}
