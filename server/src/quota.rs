//! The space quota: what a request may add to the store, asked before it is proposed.
//!
//! A request that does not fit is refused, and this member's `NOSPACE` alarm is raised through raft; from then on every
//! member refuses such commands until the alarm is lowered. Nothing of this is looked at when a command is
//! applied. Beside the quota there is a reserve of real disk space, kept for the logs and for what compaction
//! must write to give space back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ketch_proto::etcdserverpb::{
    AlarmRequest, AlarmType, InternalRaftRequest, PutRequest, RequestOp, TxnRequest,
    alarm_request::AlarmAction, request_op::Request,
};
use ketch_wal::Disk;

use crate::clock::Stopwatch;
use crate::config::size_text;
use crate::propose::{ProposeError, Proposer};
use crate::state::Shared;

/// The quota when the flag is 0.
const DEFAULT_BYTES: i64 = 2 << 30;
/// A larger quota is served, with a warning: restarts and snapshots take their time.
const SUGGESTED_BYTES_MAX: i64 = 8 << 30;
/// What a pair is estimated to take beside key and value, as etcd estimates it.
const PAIR_OVERHEAD: u64 = 256;
/// What a lease is estimated to take.
const LEASE_BYTES: u64 = 64;
/// Free bytes of the disk below which nothing is taken that makes the store grow; on a small disk a part of it.
const RESERVE_BYTES: u64 = 64 << 20;
const RESERVE_PART: u64 = 16;
/// How often the disk is asked.
const RESERVE_EVERY: Duration = Duration::from_secs(1);

/// etcd's name of the one quota that says something.
const NAME: &str = "v3-applier";

/// The quota in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    flag: i64,
}

impl Quota {
    /// The quota that `--quota-backend-bytes` asks for.
    #[must_use]
    pub fn of_flag(flag: i64) -> Quota {
        Quota { flag }
    }

    /// The quota as Status and metrics name it, in bytes: negative when there is none.
    #[must_use]
    pub fn bytes(&self) -> i64 {
        if self.flag == 0 { DEFAULT_BYTES } else { self.flag }
    }

    /// Whether a store of `used` bytes may take `cost` more.
    #[must_use]
    pub fn allows(&self, used: u64, cost: u64) -> bool {
        let Ok(limit) = u64::try_from(self.bytes()) else { return true };
        cost == 0 || used.saturating_add(cost) < limit
    }

    /// Says in the log what is in force.
    pub fn log(&self) {
        let bytes = self.bytes();
        if bytes < 0 {
            tracing::info!(quota_name = NAME, quota_size_bytes = bytes, "disabled backend quota");
            return;
        }
        let size = size_text(bytes.unsigned_abs());
        if bytes > SUGGESTED_BYTES_MAX {
            tracing::warn!(
                quota_name = NAME,
                quota_size_bytes = bytes,
                quota_size = size,
                quota_maximum_size_bytes = SUGGESTED_BYTES_MAX,
                quota_maximum_size = size_text(SUGGESTED_BYTES_MAX.unsigned_abs()),
                "quota exceeds the maximum value"
            );
        }
        let default = if self.flag == 0 { " with default value" } else { "" };
        tracing::info!(
            quota_name = NAME,
            quota_size_bytes = bytes,
            quota_size = size,
            "enabled backend quota{default}"
        );
    }
}

/// What a command is estimated to add to the store, in bytes: 0 if it does not make it grow.
#[must_use]
pub fn cost(command: &InternalRaftRequest) -> u64 {
    if let Some(put) = &command.put {
        put_cost(put)
    } else if let Some(txn) = &command.txn {
        txn_cost(txn)
    } else if command.lease_grant.is_some() {
        LEASE_BYTES
    } else {
        0
    }
}

/// The cost of a put.
#[must_use]
pub fn put_cost(put: &PutRequest) -> u64 {
    PAIR_OVERHEAD + (put.key.len() + put.value.len()) as u64
}

/// The cost of a transaction: that of its dearer branch.
#[must_use]
pub fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| ops.iter().map(op_cost).sum::<u64>();
    branch(&txn.success).max(branch(&txn.failure))
}

fn op_cost(op: &RequestOp) -> u64 {
    match &op.request {
        Some(Request::RequestPut(put)) => put_cost(put),
        Some(Request::RequestTxn(txn)) => txn_cost(txn),
        _ => 0,
    }
}

/// Whether there is room for a request of `cost`.
#[must_use]
pub fn fits(shared: &Shared, quota: Quota, cost: u64) -> bool {
    cost == 0 || (quota.allows(shared.used_bytes(), cost) && !shared.disk_is_short())
}

/// Whether a request of `cost` may be proposed. If not, this member's `NOSPACE` alarm is raised before the refusal is
/// answered.
///
/// # Errors
/// [`ProposeError::NoSpace`]. That the alarm could not be raised does not change the answer.
pub async fn admit(
    proposer: &Proposer,
    shared: &Shared,
    quota: Quota,
    cost: u64,
    deadline: tokio::time::Instant,
) -> Result<(), ProposeError> {
    if fits(shared, quota, cost) {
        return Ok(());
    }
    raise(proposer, shared, quota, deadline).await;
    Err(ProposeError::NoSpace)
}

/// Raises this member's alarm, unless it is raised already or another request is at it, which is then waited for.
async fn raise(proposer: &Proposer, shared: &Shared, quota: Quota, deadline: tokio::time::Instant) {
    let nospace = AlarmType::Nospace as i32;
    let is_raised =
        || shared.alarms().iter().any(|alarm| alarm.alarm == nospace && alarm.member_id == shared.member_id);
    if is_raised() {
        return;
    }
    let _one_at_a_time = shared.raising_alarm.lock().await;
    if !is_raised() {
        tracing::warn!(
            used_bytes = shared.used_bytes(),
            quota_size_bytes = quota.bytes(),
            disk_is_short = shared.disk_is_short(),
            "out of space: raising the alarm NOSPACE"
        );
        let alarm = AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: shared.member_id,
            alarm: nospace,
        };
        let command = InternalRaftRequest { alarm: Some(alarm), ..InternalRaftRequest::default() };
        let _whatever = proposer.propose(&crate::caller::Caller::default(), command, deadline).await;
    }
}

/// Looks at the free space of the disk now and then.
#[derive(Debug)]
pub struct Reserve {
    disk: Arc<dyn Disk>,
    dirs: Vec<PathBuf>,
    asked: Option<Stopwatch>,
}

impl Reserve {
    /// The reserve of what is under `dirs`: one that is short is enough.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dirs: Vec<PathBuf>) -> Reserve {
        Reserve { disk, dirs, asked: None }
    }

    /// Asks the disk if it is time to, and tells `shared`. A disk that does not say how full it is counts as empty.
    pub fn look(&mut self, shared: &Shared) {
        if self.asked.is_some_and(|asked| asked.elapsed() < RESERVE_EVERY) {
            return;
        }
        self.asked = Some(Stopwatch::start());
        let spaces: Vec<_> = self.dirs.iter().filter_map(|dir| self.disk.space(dir).ok()).collect();
        let reserve_bytes = |total_bytes| RESERVE_BYTES.min(total_bytes / RESERVE_PART);
        let short = spaces.iter().any(|space| space.free_bytes < reserve_bytes(space.total_bytes));
        if short != shared.disk_is_short() {
            let free_bytes = spaces.iter().map(|space| space.free_bytes).min();
            tracing::warn!(free_bytes, reserve_bytes = RESERVE_BYTES, short, "free space of the disk");
            shared.set_disk_is_short(short);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_the_default_and_negative_none() {
        assert_eq!(Quota::of_flag(0).bytes(), 2 << 30);
        assert!(Quota::of_flag(-1).allows(u64::MAX, 1));
        let quota = Quota::of_flag(53_248);
        assert!(quota.allows(53_248 - 301, 300) && !quota.allows(53_248 - 300, 300));
        assert!(quota.allows(u64::MAX, 0), "what adds nothing always fits");
    }

    #[test]
    fn costs_are_those_of_etcd() {
        let put = |key: &'static str, value: &'static str| PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        };
        let op = |put| RequestOp { request: Some(Request::RequestPut(put)) };
        assert_eq!(put_cost(&put("ab", "c")), 259);
        let inner = TxnRequest { failure: vec![op(put("a", "")), op(put("b", ""))], ..TxnRequest::default() };
        let txn = TxnRequest {
            success: vec![op(put("a", "1"))],
            failure: vec![RequestOp { request: Some(Request::RequestTxn(inner)) }],
            ..TxnRequest::default()
        };
        assert_eq!(txn_cost(&txn), 514, "the dearer branch");
        assert_eq!(txn_cost(&TxnRequest::default()), 0);
    }

    #[test]
    fn a_disk_without_reserve_is_noticed_and_so_is_room() {
        let disk = ketch_wal::SimDisk::new(1);
        let store =
            ketch_mvcc::Store::open(disk.clone(), std::path::Path::new("/s"), ketch_mvcc::Options::default())
                .unwrap();
        let shared = Shared::new(1, 1, store.reader(), Arc::default());
        let look = |capacity| {
            disk.set_capacity(capacity);
            Reserve::new(disk.clone(), vec!["/s".into()]).look(&shared);
            shared.disk_is_short()
        };
        let space = disk.space(std::path::Path::new("/s")).unwrap();
        let used = space.total_bytes - space.free_bytes;
        assert!(!look(None));
        assert!(look(Some(used + used / RESERVE_PART - used / 100)), "a sixteenth of a small disk");
        assert!(!look(Some(used * 2)));
        assert!(!look(Some(2 * RESERVE_PART * RESERVE_BYTES)));
        assert!(look(Some(used)));
        assert!(!look(None));
    }
}
