//! Progress notices that come by themselves.

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::tonic::transport::Channel;

use crate::harness::watch::{WatchStream, create, is_progress, progress, revision};

use super::{Pair, runtime};

/// Notices that are awaited.
const NOTICES: usize = 3;

fn watch(watch_id: i64, progress_notify: bool, start_revision: i64) -> WatchRequest {
    create(WatchCreateRequest {
        key: "k".into(),
        watch_id,
        progress_notify,
        start_revision,
        ..Default::default()
    })
}

async fn put(channel: &Channel) -> i64 {
    let put = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
    KvClient::new(channel.clone()).put(put).await.unwrap().into_inner().header.unwrap().revision
}

/// What three watches of one stream are told: one with notices, one without, one that waits for the future.
async fn told(channel: Channel) -> Vec<String> {
    let first = put(&channel).await;
    let mut stream = WatchStream::open(channel.clone(), watch(1, true, 0)).await.unwrap();
    stream.send(watch(2, false, 0));
    stream.send(watch(3, true, first + 2));
    let mut from = 0;
    for _ in 0..NOTICES {
        from = 1 + stream.until("notice", from, is_progress).await;
    }
    let second = put(&channel).await;
    stream.until("event", 0, |response| revision(response) == second && !response.events.is_empty()).await;
    // At a revision that it has come to, the third one is told too.
    let third = put(&channel).await;
    for id in [1, 3] {
        let notice = |response: &WatchResponse| {
            is_progress(response) && response.watch_id == id && revision(response) == third
        };
        stream.until("notice behind the events", 0, notice).await;
    }
    let mut told: Vec<String> =
        stream.log.iter().map(|response| format!("{}: {response:?}", response.watch_id)).collect();
    // How often each was told is a matter of time, and so is the order of different watches.
    told.sort();
    told.dedup();
    told
}

#[test]
fn notices_are_the_same() {
    let flags = ["--watch-progress-notify-interval=100ms", "--unsafe-no-fsync"];
    let Some(pair) = Pair::start_with("notices_are_the_same", &flags) else { return };
    runtime().block_on(async {
        let [etcd, ketch] = pair.channels().await;
        let (expected, found) = tokio::join!(told(etcd), told(ketch));
        assert_eq!(found, expected, "ketch is left, etcd right");
        assert!(
            !found.iter().any(|told| told.starts_with("2: ") && told.contains("events: [], created: false"))
        );
    });
}

/// How often a stream states its progress: asked once while a watch waits for the future, and once afterwards.
async fn stated(channel: Channel) -> Vec<String> {
    let now = put(&channel).await;
    let mut stream = WatchStream::open(channel.clone(), watch(1, false, now + 3)).await.unwrap();
    stream.until("created", 0, |response| response.created).await;
    stream.send(progress());
    for _ in 0..4 {
        put(&channel).await;
    }
    stream.until("event", 0, |response| revision(response) == now + 4 && !response.events.is_empty()).await;
    stream.send(progress());
    stream.until("progress", 0, |response| is_progress(response) && revision(response) == now + 4).await;
    let told = stream.log.iter().filter(|response| is_progress(response));
    told.map(|response| format!("{response:?}")).collect()
}

#[test]
fn progress_is_not_stated_while_a_watch_waits_for_the_future() {
    let Some(pair) = Pair::start("progress_is_not_stated_while_a_watch_waits_for_the_future") else { return };
    runtime().block_on(async {
        let [etcd, ketch] = pair.channels().await;
        let expected = stated(etcd).await;
        assert_eq!(expected.len(), 1, "{expected:?}");
        assert_eq!(stated(ketch).await, expected, "ketch is left, etcd right");
    });
}
