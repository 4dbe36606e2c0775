//! Sizes: where a request becomes too large, and answers larger than any request.

use bytes::Bytes;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::tonic::transport::Channel;

use super::{Pair, answer, runtime};

/// `--max-request-bytes`, whose default counts the encoded command.
const REQUEST_BYTES_MAX: usize = 3 << 19;

/// Room for the command around the value.
const MARGIN: usize = 1 << 10;

/// Answers to one script, in order.
async fn drive(channel: Channel) -> Vec<String> {
    let mut kv = KvClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut answers = Vec::new();
    for size in [REQUEST_BYTES_MAX - MARGIN, REQUEST_BYTES_MAX, REQUEST_BYTES_MAX + (256 << 10)] {
        let value = Bytes::from(vec![b'x'; size]);
        let put = PutRequest { key: "large".into(), value, ..Default::default() };
        answers.push(answer(kv.put(put).await));
    }
    // The frame of gRPC has a limit of its own, 512 KiB above.
    let value = Bytes::from(vec![b'x'; REQUEST_BYTES_MAX + (513 << 10)]);
    let too_large = kv.put(PutRequest { key: "large".into(), value, ..Default::default() }).await;
    answers.push(format!("{:?}", too_large.unwrap_err().code()));

    for number in 0..5 {
        let value = Bytes::from(vec![b'a' + number; 1 << 20]);
        let key = format!("part/{number}").into();
        kv.put(PutRequest { key, value, ..Default::default() }).await.unwrap();
    }
    let all = RangeRequest { key: "part/".into(), range_end: "part0".into(), ..Default::default() };
    let found = kv.range(all).await.unwrap().into_inner();
    let sizes: Vec<usize> = found.kvs.iter().map(|kv| kv.value.len()).collect();
    answers.push(format!("{sizes:?} of {}, {:?}", found.count, found.header));
    answers
}

#[test]
fn sizes_have_equal_limits() {
    let Some(pair) = Pair::start("sizes_have_equal_limits") else { return };
    runtime().block_on(async {
        let [etcd, ketch] = pair.channels().await;
        assert_eq!(drive(ketch).await, drive(etcd).await, "ketch is left, etcd right");
    });
}

/// Answers to requests around limits that are far below the usual ones.
async fn drive_small(channel: Channel) -> Vec<String> {
    let mut kv = KvClient::new(channel);
    let mut answers = Vec::new();
    let put = |number: usize, bytes: usize| {
        let value = Bytes::from(vec![b'x'; bytes]);
        PutRequest { key: format!("key{number}").into(), value, ..Default::default() }
    };
    // The command that is replicated counts, and what etcd puts around the request is its own business.
    for bytes in [100, 1900, 2000, 2100] {
        answers.push(answer(kv.put(put(0, bytes)).await));
    }
    // Below what gRPC takes, just there, and above.
    let most = 2000 + (512 << 10);
    for bytes in [most - 100, most - 11, most - 10, most] {
        answers.push(answer(kv.put(put(0, bytes)).await));
    }
    let op = |request| RequestOp { request: Some(request) };
    let puts = |range: std::ops::Range<usize>| -> Vec<RequestOp> {
        range.map(|number| op(request_op::Request::RequestPut(put(number, 1)))).collect()
    };
    let compares = |count| vec![Compare::default(); count];
    for (compare, success, failure) in [
        (0, puts(0..3), puts(0..3)),
        (0, puts(0..4), Vec::new()),
        (0, Vec::new(), puts(0..4)),
        (3, puts(0..1), Vec::new()),
        (4, puts(0..1), Vec::new()),
    ] {
        let compare = compares(compare);
        answers.push(answer(kv.txn(TxnRequest { compare, success, failure }).await));
    }
    // One inside another shares its allowance.
    for inner in 0..4 {
        let nested = TxnRequest { success: puts(5..5 + inner), ..Default::default() };
        let mut success = puts(0..1);
        success.push(op(request_op::Request::RequestTxn(nested)));
        answers.push(answer(kv.txn(TxnRequest { success, ..Default::default() }).await));
    }
    answers
}

#[test]
fn limits_follow_their_flags() {
    let flags = ["--max-request-bytes=2000", "--max-txn-ops=3"];
    let Some(pair) = Pair::start_with("limits_follow_their_flags", &flags) else { return };
    runtime().block_on(async {
        let [etcd, ketch] = pair.channels().await;
        let expected = drive_small(etcd).await;
        for refusal in ["request is too large", "received message larger than max", "too many operations"] {
            assert!(expected.iter().any(|answer| answer.contains(refusal)), "{refusal}: {expected:#?}");
        }
        assert_eq!(drive_small(ketch).await, expected, "ketch is left, etcd right");
    });
}
