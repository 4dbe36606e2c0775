//! What a change of members must not do to the quorum (`--strict-reconfig-check`). Asked before proposing, on the member
//! that is asked; what the replicated members themselves forbid is checked when the change is applied.

use std::time::Duration;

use ketch_proto::etcdserverpb as pb;
use ketch_proto::rpc_error::RpcError;

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::apply::cluster::Cluster;
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
    let progress: Vec<_> = status.progress.iter().map(|(peer, of)| (*peer, of.match_index)).collect();
    let cluster = api.shared.cluster();
    has_enough(&progress, status.id, &cluster, id)?;
    let voters: Vec<&Member> = cluster.voters().collect();
    if api.limits.strict_reconfig && started(&voters) + 1 < quorum(voters.len() + 1) {
        return Err(RpcError::MemberNotEnoughStarted.into());
    }
    Ok(())
}

/// Whether the member `id` has nearly all of the leader's log. `progress` is what raft, as the member `own`, knows of each peer: a
/// member that was added a moment ago is in the cluster before raft has heard of it.
fn has_enough(progress: &[(u64, u64)], own: u64, cluster: &Cluster, id: u64) -> Result<(), RpcError> {
    let matched = |wanted: u64| progress.iter().find(|(peer, _)| *peer == wanted).map(|&(_, index)| index);
    let own = matched(own).ok_or(RpcError::NotLeader)?;
    let of_id = match matched(id) {
        Some(index) => index,
        None if cluster.members.contains_key(&id) => 0,
        None => return Err(RpcError::MemberNotFound),
    };
    if of_id.saturating_mul(100) < own.saturating_mul(READY_PERCENT) {
        return Err(RpcError::LearnerNotReady);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_that_raft_has_not_heard_of_yet_is_not_ready_rather_than_unknown() {
        let member = |id, is_learner| Member {
            id,
            peer_urls: Vec::new(),
            is_learner,
            name: String::new(),
            client_urls: Vec::new(),
        };
        let members = [(1, member(1, false)), (2, member(2, true))].into_iter().collect();
        let cluster = Cluster { members, ..Cluster::default() };
        let asked = |progress: &[(u64, u64)], id| has_enough(progress, 1, &cluster, id);
        assert_eq!(asked(&[(1, 100)], 2), Err(RpcError::LearnerNotReady));
        assert_eq!(asked(&[(1, 100)], 3), Err(RpcError::MemberNotFound));
        assert_eq!(asked(&[(1, 100), (2, 89)], 2), Err(RpcError::LearnerNotReady));
        assert_eq!(asked(&[(1, 100), (2, 90)], 2), Ok(()));
        assert_eq!(asked(&[], 2), Err(RpcError::NotLeader));
    }
}
