//! Who asks. Every request carries its caller from the listener through propose, read and apply; as long as
//! there is no authentication, everybody is anonymous.

use tonic::metadata::MetadataMap;

/// The identity behind a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user's name; empty while authentication is off.
    pub user: String,
    /// The revision of the auth store that the identity was checked against; 0 while it is off.
    pub auth_revision: u64,
}

impl Caller {
    /// The caller that a request's metadata names. A token is ignored while authentication is off, as etcd
    /// does.
    #[must_use]
    pub fn of(_metadata: &MetadataMap) -> Caller {
        Caller::default()
    }
}
