//! The only way to write: a command gets a request id, is replicated, applied and answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ketch_proto::etcdserverpb::InternalRaftRequest;
use ketch_raft::{ChangeError, ConfChange, ConfChangeKind, Status};
use tokio::time::Instant;

use crate::apply::answer::{Answer, ApplyError, Outcome};
use crate::apply::command::{self, RequestId};
use crate::apply::tally::Kind;
use crate::caller::Caller;
use crate::clock;
use crate::cluster::Context;
use crate::consensus::core::{Input, Refused};
use crate::consensus::shell::Driver;
use crate::late;
use crate::metrics::Asked;
use crate::peer::Network;
use crate::wait::Sink;

/// How far applying may be behind committing before new commands are refused.
const APPLY_GAP_MAX: u64 = 5000;

/// A change of members that found another one under way is proposed again after this.
const CHANGE_RETRY: Duration = Duration::from_millis(20);

/// Why a write was not carried out, or why nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposeError {
    /// Rejected: the command is larger than the limit.
    TooLarge,
    /// Rejected: too much is waiting already.
    TooMany,
    /// Rejected: the store is full.
    NoSpace,
    /// Rejected or unknown: leadership changed on the way.
    LeaderChanged,
    /// Unknown: no answer within the time limit.
    Timeout,
    /// Unknown: no answer within the time limit, and the leader, or the leader's quorum, was not reached all the time.
    ConnectionLost,
    /// There was no leader all the time, so it went nowhere.
    NoLeader,
    /// Unknown: the member is stopping.
    Stopped,
    /// Committed and refused, the same on every member; nothing changed.
    Refused(ApplyError),
    /// The leader that it went to failed; it was very likely not carried out.
    LeaderFailed,
    /// Another change of members is under way.
    ChangePending,
    /// The change does not fit the members, as raft sees them.
    InvalidChange(ChangeError),
}

/// What a proposed command came to.
pub type Proposed = Result<Outcome, Refused>;

/// A command that can be handed in.
#[derive(Debug)]
pub struct Prepared {
    /// The number under which its outcome is awaited.
    pub serial: u64,
    input: Input,
}

/// The proposing side of a member.
pub struct Proposer {
    driver: Arc<Driver>,
    member: u64,
    boot: u64,
    counter: AtomicU64,
    request_bytes_max: usize,
    reach: Option<Reach>,
}

/// What tells why an answer did not come.
struct Reach {
    network: Arc<Network>,
    election: Duration,
}

impl Proposer {
    /// The proposing side of `member` in its life numbered `boot`.
    #[must_use]
    pub fn new(driver: Arc<Driver>, member: u64, boot: u64, request_bytes_max: usize) -> Proposer {
        Proposer { driver, member, boot, counter: AtomicU64::new(0), request_bytes_max, reach: None }
    }

    /// The same, with what it needs to say why an answer did not come: the network, and how long an election takes.
    #[must_use]
    pub fn over(mut self, network: Arc<Network>, election: Duration) -> Proposer {
        self.reach = Some(Reach { network, election });
        self
    }

    /// Replicates `request` on behalf of `caller` and waits until this member has applied it.
    ///
    /// # Errors
    /// See [`ProposeError`], which says whether the outcome is known.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown: the command may still be applied.
    pub async fn propose(
        &self,
        caller: &Caller,
        request: InternalRaftRequest,
        deadline: Instant,
    ) -> Result<Answer, ProposeError> {
        let timed = self.driver.metrics().requests.time(Asked::Command(Kind::of(&request)));
        let prepared = match self.prepare(caller, request) {
            Err(ProposeError::TooMany) => {
                timed.forget();
                return Err(ProposeError::TooMany);
            }
            prepared => prepared?,
        };
        let outcome = self.submit(prepared.serial, prepared.input, deadline).await;
        timed.end(matches!(outcome, Ok(_) | Err(ProposeError::Refused(_))));
        outcome
    }

    /// Makes a command of `request`, to be handed in with [`start`](Self::start).
    ///
    /// # Errors
    /// It is rejected.
    pub fn prepare(&self, caller: &Caller, request: InternalRaftRequest) -> Result<Prepared, ProposeError> {
        let shared = self.driver.shared();
        if shared.standing().commit > shared.applied() + APPLY_GAP_MAX {
            return Err(ProposeError::TooMany);
        }
        let id = self.next_id();
        let command = command::encode(id, caller, request);
        if command.len() > self.request_bytes_max {
            return Err(ProposeError::TooLarge);
        }
        Ok(Prepared { serial: id.serial, input: Input::Propose { id: id.serial, command } })
    }

    /// Hands in what was prepared, each with the name under which `sink` takes what it came to; see
    /// [`verdict`](Self::verdict). Who no longer waits says so with [`leave`](Self::leave).
    pub fn start(&self, prepared: Vec<(u32, Prepared)>, sink: &Arc<dyn Sink<Proposed>>) {
        for (name, prepared) in &prepared {
            self.driver.proposals().register_sink(prepared.serial, Arc::clone(sink), *name);
        }
        self.driver.submit_all(prepared.into_iter().map(|(_, prepared)| prepared.input));
    }

    /// Nobody waits any more for what was handed in under this number. It may still be carried out.
    pub fn leave(&self, serial: u64) {
        self.driver.proposals().leave(serial);
    }

    /// Puts a change of members through raft and waits until it is applied here. Its context names the member.
    ///
    /// # Errors
    /// As those of [`propose`](Self::propose); also a change that raft or the members' rules refuse.
    pub async fn change(
        &self,
        kind: ConfChangeKind,
        context: Context,
        deadline: Instant,
    ) -> Result<Answer, ProposeError> {
        let node = context.member.id;
        loop {
            let id = self.next_id();
            let change = ConfChange {
                context: Context { request: Some(id), ..context.clone() }.to_json().into(),
                ..ConfChange::single(kind, node)
            };
            match self.submit(id.serial, Input::Change { id: id.serial, change }, deadline).await {
                // One at a time: the other one is applied soon, or will never be.
                Err(ProposeError::ChangePending) if clock::now() < deadline => {
                    tokio::time::sleep(CHANGE_RETRY).await;
                }
                verdict => return verdict,
            }
        }
    }

    /// Hands leadership over to `to` and waits until it leads. Only the leader can.
    ///
    /// # Errors
    /// [`ProposeError::Timeout`] if it does not lead by the deadline.
    pub async fn transfer(&self, to: u64, deadline: Instant) -> Result<(), ProposeError> {
        self.driver.submit(Input::Transfer { to });
        let shared = self.driver.shared();
        let mut leader = shared.leader_changed.subscribe();
        let led = leader.wait_for(|&leader| leader == to);
        match tokio::time::timeout_at(deadline, led).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_closed)) => Err(ProposeError::Stopped),
            Err(_elapsed) => Err(ProposeError::Timeout),
        }
    }

    /// What an operator sees of raft.
    #[must_use]
    pub fn status(&self) -> Status {
        self.driver.status()
    }

    fn next_id(&self) -> RequestId {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        RequestId::new(self.member, self.boot, counter)
    }

    async fn submit(&self, serial: u64, input: Input, deadline: Instant) -> Result<Answer, ProposeError> {
        let start = clock::now();
        let mut waiting = self.driver.proposals().register(serial);
        self.driver.submit(input);
        match tokio::time::timeout_at(deadline, waiting.value()).await {
            Ok(value) => self.verdict(value),
            Err(_elapsed) => Err(self.late(start)),
        }
    }

    /// What a command came to; `None` stands for a member that stops.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub fn verdict(&self, value: Option<Proposed>) -> Result<Answer, ProposeError> {
        let error = match value {
            Some(Ok(Ok(answer))) => return Ok(answer),
            Some(Ok(Err(refusal))) => return Err(ProposeError::Refused(refusal)),
            Some(Err(Refused::TooMany)) => ProposeError::TooMany,
            Some(Err(Refused::LeaderChanged)) => ProposeError::LeaderChanged,
            Some(Err(Refused::Lost)) => ProposeError::LeaderFailed,
            Some(Err(Refused::ChangePending)) => ProposeError::ChangePending,
            Some(Err(Refused::InvalidChange(error))) => ProposeError::InvalidChange(error),
            None => ProposeError::Stopped,
        };
        self.driver.metrics().proposals_failed.inc();
        Err(error)
    }

    /// Why there is no answer in time to what was handed in at `start`.
    #[must_use]
    pub fn late(&self, start: Instant) -> ProposeError {
        self.driver.metrics().proposals_failed.inc();
        self.why_late(start)
    }
}

impl Proposer {
    fn why_late(&self, start: Instant) -> ProposeError {
        let Some(Reach { network, election }) = &self.reach else { return ProposeError::Timeout };
        let shared = self.driver.shared();
        let leadership = shared.leadership();
        let all_the_time = |id: u64| network.connected_since(id).is_some_and(|since| since < start);
        let reached = if leadership.leader == self.member {
            let cluster = shared.cluster();
            let count = cluster.members.keys().filter(|&&id| id == self.member || all_the_time(id)).count();
            count > cluster.members.len() / 2
        } else {
            all_the_time(leadership.leader)
        };
        late::reason(start, leadership, *election, reached)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ketch_proto::etcdserverpb::PutRequest;
    use ketch_wal::{Disk, SimDisk};

    use super::*;
    use crate::bootstrap::{self, CoreOptions};
    use crate::metrics::Metrics;
    use crate::sim;
    use crate::state::Shared;

    /// A member that nothing drives: what is proposed stays where it is.
    fn proposer(request_bytes_max: usize) -> Proposer {
        let disk: Arc<dyn Disk> = SimDisk::new(1);
        let options = CoreOptions {
            election_ticks: 10,
            pre_vote: true,
            seed: 1,
            unsafe_no_sync: false,
            force_new_cluster: false,
            log_dir: None,
            log_segment_bytes: 64 << 10,
            store: ketch_mvcc::Options::default(),
        };
        let opened = bootstrap::open(&disk, Path::new("/member"), &options, || {
            Ok(bootstrap::First::New(sim::founding()))
        })
        .unwrap();
        let shared =
            Arc::new(Shared::new(1, 1, opened.applier.store().reader(), Arc::clone(opened.applier.hashes())));
        let metrics = Arc::new(Metrics::new());
        let driver = Driver::new(opened.core, opened.log, opened.applier, opened.staging, shared, metrics);
        Proposer::new(Arc::new(driver), 1, 1, request_bytes_max)
    }

    fn put(bytes: usize) -> InternalRaftRequest {
        let put = PutRequest { key: "k".into(), value: vec![0; bytes].into(), ..PutRequest::default() };
        InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() }
    }

    async fn refusal(proposer: &Proposer, request: InternalRaftRequest) -> ProposeError {
        // Already over: what is not refused at once is a timeout.
        let deadline = clock::now() - Duration::from_secs(1);
        proposer.propose(&Caller::default(), request, deadline).await.unwrap_err()
    }

    #[tokio::test]
    async fn too_far_behind_nothing_more_is_taken() {
        let proposer = proposer(1000);
        let shared = Arc::clone(proposer.driver.shared());
        for (commit, applied, expected) in [
            (APPLY_GAP_MAX, 0, ProposeError::Timeout),
            (APPLY_GAP_MAX + 1, 0, ProposeError::TooMany),
            (APPLY_GAP_MAX + 1, 1, ProposeError::Timeout),
        ] {
            shared.set_standing(crate::consensus::core::Standing { commit, ..shared.standing() });
            shared.set_applied(applied);
            assert_eq!(refusal(&proposer, put(1)).await, expected, "{commit} {applied}");
            // The member goes on by itself and publishes its own standing.
        }
    }

    #[tokio::test]
    async fn a_command_above_the_limit_is_refused() {
        let proposer = proposer(1000);
        assert_eq!(refusal(&proposer, put(1000)).await, ProposeError::TooLarge);
        assert_eq!(refusal(&proposer, put(900)).await, ProposeError::Timeout);
    }
}
