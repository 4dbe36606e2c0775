//! After a restart: everything that must be there is there.

use ketch_proto::etcdserverpb::RangeRequest;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::tonic::Code;
use ketch_proto::tonic::transport::Channel;

use crate::harness::random::Random;

use super::history::{Ask, Change, Event, History, Sight};
use super::life::see;

/// Changes of earlier lives that are read again.
const SAMPLE: usize = 50;

/// Compares the server with what the clients know; finds out what became of the unanswered requests.
pub(super) async fn check(client: &mut KvClient<Channel>, history: &mut History, random: &mut Random) {
    let now = see(client, 0).await.unwrap();
    assert!(now.revision >= history.highest, "revision {} after {}", now.revision, history.highest);
    for event in std::mem::take(&mut history.open) {
        settle(history, &event, &now);
    }
    assert_eq!(now.keys.keys().collect::<Vec<_>>(), history.keys.keys().collect::<Vec<_>>());
    for (key, held) in &now.keys {
        assert_eq!(held, &history.keys[key], "{key}: found is left, expected right");
    }
    history.highest = now.revision;
    check_term(client, history).await;

    let newest = history.checked;
    for index in newest..history.changes.len() {
        check_change(client, history, &history.changes[index]).await;
    }
    for _ in 0..SAMPLE.min(newest) {
        let index = usize::try_from(random.next() % newest as u64).unwrap();
        check_change(client, history, &history.changes[index]).await;
    }
    history.checked = history.changes.len();
    for sight in std::mem::take(&mut history.sights) {
        if let Some(found) = at_revision(client, history, sight.revision).await {
            assert_eq!(found, sight, "revision {} changed its content", sight.revision);
        }
    }
}

/// Did an unanswered request happen? Its value is its own, so the store tells.
fn settle(history: &mut History, event: &Event, now: &Sight) {
    let revision = match &event.ask {
        Ask::Put { key, value } => now.keys.get(key).filter(|held| held.value == *value),
        Ask::PutAll { keys, value } => now.keys.get(&keys[0]).filter(|held| held.value == *value),
        Ask::Delete { prefix } => {
            if !now.keys.keys().any(|key| key.starts_with(prefix)) {
                history.apply(&event.ask, now.revision);
            }
            return;
        }
        Ask::Compact { .. } => return,
    };
    if let Some(held) = revision {
        history.apply(&event.ask, held.revision);
    }
}

async fn check_term(client: &mut KvClient<Channel>, history: &mut History) {
    let any = RangeRequest { key: "any".into(), ..Default::default() };
    let term = client.range(any).await.unwrap().into_inner().header.unwrap().raft_term;
    assert!(term > history.term, "term {term} after {}", history.term);
    history.term = term;
}

/// An acknowledged change shows at its revision.
async fn check_change(client: &mut KvClient<Channel>, history: &History, change: &Change) {
    let Change { revision, key, value } = change;
    let request = RangeRequest { key: key.clone().into(), revision: *revision, ..Default::default() };
    match client.range(request).await {
        Ok(response) => {
            assert!(*revision >= history.compacted, "revision {revision} can be read, but was compacted");
            let kvs = response.into_inner().kvs;
            let found = kvs.first().map(|kv| (kv.value.as_ref(), kv.mod_revision));
            let expected = value.as_ref().map(|value| (value.as_bytes(), *revision));
            assert!(found == expected, "{key} at revision {revision} is not what was acknowledged");
        }
        Err(status) => {
            assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
            assert!(*revision < history.maybe_compacted, "acknowledged revision {revision}: {status:?}");
        }
    }
}

/// All keys at a revision, unless it was compacted.
async fn at_revision(client: &mut KvClient<Channel>, history: &History, revision: i64) -> Option<Sight> {
    match see(client, revision).await {
        Ok(sight) => Some(sight),
        Err(status) => {
            assert!(revision < history.maybe_compacted, "revision {revision}: {status:?}");
            None
        }
    }
}
