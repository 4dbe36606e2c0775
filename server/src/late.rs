//! Why a proposal got no answer in time, as far as this member can tell: etcd's reasons.

use std::time::Duration;

use tokio::time::Instant;

use crate::propose::ProposeError;

/// What a member knows of its leader: who it is, and when that changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader; 0 while none is known.
    pub leader: u64,
    /// Since when it is this one, or none.
    pub since: Option<Instant>,
    /// When a leader was last elected.
    pub elected: Option<Instant>,
}

/// The reason of a proposal made at `start`, where an election takes `election`. `reached` says whether the leader, or a
/// quorum if this member leads, was connected since then.
#[must_use]
pub fn reason(start: Instant, leadership: Leadership, election: Duration, reached: bool) -> ProposeError {
    // A leader that was elected soon after took over from one that failed, and the proposal went to that one.
    if leadership.elected.is_some_and(|elected| start < elected && elected < start + 2 * election) {
        return ProposeError::LeaderFailed;
    }
    if leadership.leader == 0 {
        // One that never found a leader went nowhere.
        let never = leadership.since.is_none_or(|since| since <= start);
        return if never { ProposeError::NoLeader } else { ProposeError::Timeout };
    }
    if reached { ProposeError::Timeout } else { ProposeError::ConnectionLost }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_case() {
        let election = Duration::from_secs(1);
        let start = crate::clock::now();
        let at = |seconds: f64| Some(start + Duration::from_secs(10) + Duration::from_secs_f64(seconds));
        let start = start + Duration::from_secs(10);
        let before = Some(start - Duration::from_secs(5));
        let because = |leader, since, elected, reached| {
            reason(start, Leadership { leader, since, elected }, election, reached)
        };
        assert_eq!(because(1, before, before, true), ProposeError::Timeout);
        assert_eq!(because(1, before, before, false), ProposeError::ConnectionLost);
        assert_eq!(because(2, at(1.5), at(1.5), true), ProposeError::LeaderFailed);
        assert_eq!(because(2, at(3.0), at(3.0), true), ProposeError::Timeout, "too late to be the reason");
        assert_eq!(because(0, before, None, true), ProposeError::NoLeader);
        assert_eq!(because(0, None, None, true), ProposeError::NoLeader, "there never was one");
        assert_eq!(because(0, at(0.5), before, true), ProposeError::Timeout, "it may have been sent");
    }
}
