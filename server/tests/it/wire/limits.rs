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
