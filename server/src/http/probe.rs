//! What the endpoints need to know of the member behind them.

use std::pin::Pin;

/// The outcome of a read that a probe asked for. The error is what a client would be told.
pub type ReadFuture<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// An alarm that is raised on some member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The store is full.
    NoSpace,
    /// Members disagree about the data.
    Corrupt,
    /// One that this version does not know, by its number.
    Unknown(i32),
}

impl Alarm {
    /// The alarm's name on the wire, as `?exclude=` takes it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::NoSpace => "NOSPACE".to_owned(),
            Self::Corrupt => "CORRUPT".to_owned(),
            Self::Unknown(number) => number.to_string(),
        }
    }

    /// What a health check says of it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoSpace => "ALARM NOSPACE",
            Self::Corrupt => "ALARM CORRUPT",
            Self::Unknown(_) => "ALARM UNKNOWN",
        }
    }
}

/// What `/version` answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versions {
    /// The version the members agreed on, `3.7.0`; `None` before they have.
    pub cluster: Option<String>,
    /// The version of the stored data, `3.7.0`; `None` before it is known.
    pub storage: Option<String>,
}

/// A member, as far as a health check can see it.
///
/// Reads must end by themselves within the member's request timeout: the endpoints wait as long as they take.
pub trait Probe: Send + Sync + 'static {
    /// Whether this member knows a leader.
    fn has_leader(&self) -> bool;
    /// Whether this member is a learner.
    fn is_learner(&self) -> bool;
    /// The alarms that are raised.
    fn alarms(&self) -> Vec<Alarm>;
    /// Versions of the cluster and its data.
    fn versions(&self) -> Versions;
    /// A read of this member's own state.
    fn serializable_read(&self) -> ReadFuture<'_>;
    /// A read that the cluster has to confirm.
    fn linearizable_read(&self) -> ReadFuture<'_>;
}
