//! What a change of members must not do to the quorum (`--strict-reconfig-check`). Asked before proposing, on the member
//! that is asked; what the replicated members themselves forbid is checked when the change is applied.

use std::time::Duration;

use ketch_proto::etcdserverpb as pb;
use ketch_proto::rpc_error::RpcError;

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::cluster::Member;

/// For so long a peer must have been connected to count as healthy.
const HEALTHY: Duration = Duration::from_secs(5);
/// A learner may vote once it has this share of the leader's log, in hundredths.
const READY_PERCENT: u64 = 90;

/// A further voter must leave a quorum of members that are started. A further member, learner or voter, needs as many
/// connected ones as there must be once it votes.
///
/// # Errors
/// etcd's.
pub(super) fn may_add(api: &Api, is_learner: bool) -> Result<(), RpcError> {
    if !api.limits.strict_reconfig {
        return Ok(());
    }
    let cluster = api.shared.cluster();
    let voters: Vec<&Member> = cluster.voters().collect();
    let started = started(&voters);
    // One member alone may always grow, or a lost cluster could never be rebuilt.
    let rebuilds = started == 1 && voters.len() == 1;
    if !is_learner && !rebuilds && started < quorum(voters.len() + 1) {
        return Err(RpcError::MemberNotEnoughStarted);
    }
    if voters.len() > 1 && connected(api, &voters) < quorum(voters.len() + 1) {
        return Err(RpcError::Unhealthy);
    }
    Ok(())
}

/// What stays after a removal must be a quorum of members that are started, and connected if the removed one is up.
///
/// # Errors
/// etcd's.
pub(super) fn may_remove(api: &Api, id: u64) -> Result<(), RpcError> {
    let cluster = api.shared.cluster();
    if !api.limits.strict_reconfig || cluster.members.get(&id).is_some_and(|member| member.is_learner) {
        return Ok(());
    }
    let voters: Vec<&Member> = cluster.voters().collect();
    let others: Vec<&Member> = voters.iter().copied().filter(|member| member.id != id).collect();
    if started(&others) < quorum(others.len()) {
        return Err(RpcError::MemberNotEnoughStarted);
    }
    if id != api.shared.member_id && api.network.connected_since(id).is_none() {
        return Ok(());
    }
    let active = connected(api, &voters);
    if active.saturating_sub(1) < 1 + voters.len().saturating_sub(1) / 2 {
        return Err(RpcError::Unhealthy);
    }
    Ok(())
}

/// A learner may vote once it has nearly all of the leader's log, and a quorum is started with it.
///
/// # Errors
/// etcd's; [`RpcError::NotLeader`] where nobody can tell.
pub(super) async fn may_promote(api: &Api, context: &Context, id: u64) -> Result<(), ApiError> {
    if api.shared.standing().leader != api.shared.member_id {
        return Err(RpcError::NotLeader.into());
    }
    api.barrier.pass(context.deadline).await?;
    let status = api.proposer.status();
    let matched = |wanted: u64| {
        status.progress.iter().find(|(peer, _)| *peer == wanted).map(|(_, progress)| progress.match_index)
    };
    let Some(own) = matched(status.id) else { return Err(RpcError::NotLeader.into()) };
    let learner = matched(id).ok_or(RpcError::MemberNotFound)?;
    if learner.saturating_mul(100) < own.saturating_mul(READY_PERCENT) {
        return Err(RpcError::LearnerNotReady.into());
    }
    let cluster = api.shared.cluster();
    let voters: Vec<&Member> = cluster.voters().collect();
    if api.limits.strict_reconfig && started(&voters) + 1 < quorum(voters.len() + 1) {
        return Err(RpcError::MemberNotEnoughStarted.into());
    }
    Ok(())
}

/// Asks the leader to promote the learner `id`, over its peer URLs.
///
/// # Errors
/// The leader's verdict; a timeout while there is none.
pub(super) async fn promote_there(
    api: &Api,
    context: &Context,
    id: u64,
) -> Result<Vec<pb::Member>, ApiError> {
    let mut leader = api.shared.leader_changed.subscribe();
    let asked = async {
        loop {
            let Ok(found) = leader.wait_for(|&leader| leader != 0).await.map(|leader| *leader) else {
                return Err(RpcError::ServerStopped.into());
            };
            let urls = api.shared.cluster().members.get(&found).map(|member| member.peer_urls.clone());
            match crate::peer::ask::promote(&urls.unwrap_or_default(), id).await {
                Ok(members) => return Ok(members),
                Err(Some(verdict)) => return Err(verdict.into()),
                Err(None) => tokio::time::sleep(RETRY).await,
            }
        }
    };
    let late = || match api.shared.standing().leader {
        0 => RpcError::NoLeader,
        _ => RpcError::TimedOut,
    };
    tokio::time::timeout_at(context.deadline, asked).await.unwrap_or_else(|_elapsed| Err(late().into()))
}

/// The leader did not answer: it is asked again, or the next one, after this.
const RETRY: Duration = Duration::from_millis(100);

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

/// A member that has told its name has been started.
fn started(members: &[&Member]) -> usize {
    members.iter().filter(|member| !member.name.is_empty()).count()
}

fn connected(api: &Api, members: &[&Member]) -> usize {
    let own = api.shared.member_id;
    members.iter().filter(|member| member.id == own || api.network.connected_for(member.id, HEALTHY)).count()
}
