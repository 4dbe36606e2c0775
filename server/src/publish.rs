//! What a member tells its cluster before it serves: its name and client URLs, and, if it is alone, the cluster version if
//! none is agreed yet. Both go through raft.

use std::sync::Arc;
use std::time::Duration;

use ketch_proto::etcdserverpb::InternalRaftRequest;
use ketch_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest};

use crate::api::Api;
use crate::caller::Caller;
use crate::clock;
use crate::config::Url;
use crate::propose::{ProposeError, Proposer};
use crate::state::Shared;
use crate::versions;

/// How long one attempt may take before the next one.
const ATTEMPT: Duration = Duration::from_secs(7);

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Publishes the member's attributes and the cluster version, and returns once both are agreed.
///
/// # Errors
/// One line, if the member stopped meanwhile.
pub async fn until_ready(api: &Arc<Api>, name: &str, client_urls: &[Url]) -> Result<(), String> {
    let client_urls = client_urls.iter().map(Url::to_string).collect();
    let attributes = Attributes { name: name.to_owned(), client_urls };
    let request =
        ClusterMemberAttrSetRequest { member_id: api.shared.member_id, member_attributes: Some(attributes) };
    let command = InternalRaftRequest {
        cluster_member_attr_set: Some(Box::new(request)),
        ..InternalRaftRequest::default()
    };
    let (proposer, shared) = (&api.proposer, &*api.shared);
    propose(proposer, shared, &command, ATTEMPT).await?;
    let cluster = api.shared.cluster();
    let alone = cluster.members.len() == 1;
    // In a cluster of several the leader asks all of them first, see `versions`.
    if let Some(version) = versions::own().filter(|_| alone).and_then(|own| versions::due(&cluster, own)) {
        propose(proposer, shared, &versions::command(version), ATTEMPT).await?;
    }
    Ok(())
}

/// Setting the same thing twice changes nothing, so an unknown outcome is simply tried again.
pub(crate) async fn propose(
    proposer: &Proposer,
    shared: &Shared,
    command: &InternalRaftRequest,
    attempt: Duration,
) -> Result<(), String> {
    let mut installed = shared.installed.subscribe();
    loop {
        let deadline = clock::now() + attempt;
        let caller = Caller::default();
        let outcome = tokio::select! {
            outcome = proposer.propose(&caller, command.clone(), deadline) => outcome,
            // The snapshot may hold what was proposed: then no answer comes.
            Ok(()) = installed.changed() => continue,
        };
        match outcome {
            Ok(_) => return Ok(()),
            Err(ProposeError::Stopped) => return Err("the member stopped before it was ready".into()),
            Err(ProposeError::TooLarge) => {
                return Err("--max-request-bytes is too small for the member's own attributes".into());
            }
            // Normal for a moment after a crash: the store is catching up with the log.
            Err(ProposeError::TooMany) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                tracing::warn!(?error, "failed to publish the member's attributes, trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
