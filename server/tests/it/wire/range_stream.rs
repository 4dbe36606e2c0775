//! Streamed ranges, message by message: how many pairs each has, and what the last one says.

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::tonic::transport::Channel;

use super::{Pair, runtime};
use crate::harness::process::Instance;
use crate::harness::programs;

/// Values small and large, so that messages grow, stay and shrink.
fn values() -> impl Iterator<Item = (String, usize)> {
    let small = (0..300).map(|number| (format!("a/{number:03}"), number % 7));
    let middle = (0..60).map(|number| (format!("b/{number:03}"), 60_000 + number * 1000));
    let large = (0..12).map(|number| (format!("c/{number:03}"), 1_400_000));
    small.chain(middle).chain(large).chain((0..60).map(|number| (format!("d/{number:03}"), 10)))
}

async fn fill(kv: &mut KvClient<Channel>) {
    for (key, bytes) in values() {
        let value = vec![b'v'; bytes].into();
        kv.put(PutRequest { key: key.into(), value, ..Default::default() }).await.unwrap();
    }
    for (key, range_end) in [("a/100", "a/120"), ("b/010", "b/015")] {
        let delete =
            DeleteRangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
        kv.delete_range(delete).await.unwrap();
    }
}

/// What there is to say of each message, and how the stream ended.
async fn chunks(kv: &mut KvClient<Channel>, request: RangeRequest) -> Vec<String> {
    let mut stream = match kv.range_stream(request).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return vec![format!("{:?}: {}", status.code(), status.message())],
    };
    let mut told = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(chunk)) => {
                let RangeResponse { header, kvs, more, count } = chunk.range_response.unwrap();
                let ends = [kvs.first(), kvs.last()].map(|kv| kv.map(|kv| kv.key.clone()));
                let bytes: usize = kvs.iter().map(|kv| kv.value.len()).sum();
                let pairs = kvs.len();
                told.push(format!(
                    "{pairs} pairs {ends:?}, {bytes} bytes, {header:?}, more {more}, count {count}"
                ));
            }
            Ok(None) => return told,
            Err(status) => {
                told.push(format!("{:?}: {}", status.code(), status.message()));
                return told;
            }
        }
    }
}

/// Every request that a stream may be asked for.
fn requests() -> Vec<RangeRequest> {
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let part = RangeRequest { key: "a/050".into(), range_end: "b/030".into(), ..Default::default() };
    let mut requests = vec![
        RangeRequest { keys_only: true, ..all.clone() },
        RangeRequest { serializable: true, ..part.clone() },
        RangeRequest { key: "a/001".into(), ..Default::default() },
        RangeRequest { key: "none".into(), ..Default::default() },
        RangeRequest { key: "x".into(), range_end: "y".into(), ..Default::default() },
        RangeRequest { key: "y".into(), range_end: "x".into(), ..Default::default() },
        RangeRequest::default(),
    ];
    for limit in [-1, 0, 1, 9, 10, 11, 29, 30, 31, 70, 100, 400, 1 << 40] {
        requests.push(RangeRequest { limit, ..all.clone() });
        requests.push(RangeRequest { limit, count_only: true, ..part.clone() });
    }
    for revision in [-1, 1, 2, 12, 13, 150, 330, 373, 1 << 40] {
        for limit in [0, 15] {
            requests.push(RangeRequest { revision, limit, ..all.clone() });
        }
        requests.push(RangeRequest { revision, count_only: true, ..all.clone() });
    }
    for sort_order in 0..4 {
        for sort_target in 0..6 {
            // Without an order etcd sorts each message by the target, and skips or repeats keys between messages.
            if sort_order != 0 || sort_target == 0 {
                requests.push(RangeRequest { sort_order, sort_target, ..part.clone() });
            }
            for limit in [0, 1, 3, 9] {
                let (key, range_end) = ("a/095".into(), "a/100".into());
                let few =
                    RangeRequest { key, range_end, limit, sort_order, sort_target, ..Default::default() };
                requests.extend([RangeRequest { keys_only: true, ..few.clone() }, few]);
            }
        }
    }
    requests.extend([
        RangeRequest { min_mod_revision: 5, ..part.clone() },
        RangeRequest { max_mod_revision: 5, ..part.clone() },
        RangeRequest { min_create_revision: 5, ..part.clone() },
        RangeRequest { max_create_revision: -5, ..part },
    ]);
    requests
}

#[test]
fn streams_come_in_equal_messages() {
    let Some(pair) = Pair::start_with("streams_come_in_equal_messages", &["--unsafe-no-fsync"]) else {
        return;
    };
    runtime().block_on(async {
        let [etcd, ketch] = pair.channels().await;
        let [mut etcd, mut ketch] =
            [etcd, ketch].map(|channel| KvClient::new(channel).max_decoding_message_size(usize::MAX));
        tokio::join!(fill(&mut etcd), fill(&mut ketch));
        let mut messages = 0;
        for request in requests() {
            let mut expected = chunks(&mut etcd, request.clone()).await;
            let mut told = chunks(&mut ketch, request.clone()).await;
            messages += expected.len();
            if request.sort_order == 0 && request.sort_target != 0 && request.limit > 0 {
                // etcd counts on from the last key of the sorted message.
                for message in expected.iter_mut().chain(&mut told) {
                    message.truncate(message.find(", count").unwrap_or(message.len()));
                }
            }
            assert_eq!(told, expected, "ketch is left: {request:?}");
        }
        assert!(messages > 100, "{messages}");
        for server in [&mut etcd, &mut ketch] {
            server.compact(CompactionRequest { revision: 400, physical: true }).await.unwrap();
        }
        for revision in [399, 400, 401] {
            let request =
                RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..Default::default() };
            assert_eq!(chunks(&mut ketch, request.clone()).await, chunks(&mut etcd, request).await);
        }
    });
}

#[test]
fn a_sorted_stream_of_many_messages_has_every_key_once() {
    let dir = tempfile::tempdir().unwrap();
    let ketch = Instance::new(programs::ketch(), dir.path());
    let _process = ketch.start_settled();
    runtime().block_on(async {
        let mut kv = KvClient::connect(ketch.url()).await.unwrap();
        for number in 0..200 {
            let (key, value) = (format!("{number:03}").into(), format!("{:03}", 999 - number).into());
            kv.put(PutRequest { key, value, ..Default::default() }).await.unwrap();
        }
        let request = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            sort_target: range_request::SortTarget::Value as i32,
            ..Default::default()
        };
        let mut stream = kv.range_stream(request).await.unwrap().into_inner();
        let mut keys = Vec::new();
        let mut messages = 0;
        while let Some(chunk) = stream.message().await.unwrap() {
            let kvs = chunk.range_response.unwrap().kvs;
            assert!(kvs.is_sorted_by_key(|kv| &kv.value), "a message is not sorted: {kvs:?}");
            keys.extend(kvs.into_iter().map(|kv| kv.key));
            messages += 1;
        }
        assert!(messages > 3, "{messages}");
        keys.sort();
        let expected: Vec<Vec<u8>> = (0..200).map(|number| format!("{number:03}").into_bytes()).collect();
        assert_eq!(keys, expected);
    });
}

#[test]
fn messages_follow_the_largest_request() {
    let flags = ["--unsafe-no-fsync", "--max-request-bytes=5000"];
    let Some(pair) = Pair::start_with("messages_follow_the_largest_request", &flags) else { return };
    runtime().block_on(async {
        let mut servers = pair.channels().await.map(KvClient::new);
        for kv in &mut servers {
            for number in 0..400 {
                // Long ones in the middle.
                let bytes = if (150..250).contains(&number) { 4000 } else { 20 };
                let (key, value) = (format!("{number:03}").into(), vec![b'v'; bytes].into());
                kv.put(PutRequest { key, value, ..Default::default() }).await.unwrap();
            }
        }
        for limit in [0, 200, 333] {
            let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), limit, ..Default::default() };
            let [etcd, ketch] = &mut servers;
            let expected = chunks(etcd, all.clone()).await;
            assert!(expected.len() >= 5, "{expected:?}");
            assert_eq!(chunks(ketch, all).await, expected, "ketch is left, limit {limit}");
        }
    });
}
