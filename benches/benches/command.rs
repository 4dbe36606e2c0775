//! Encoding and decoding a replicated put: what every write pays on every member.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ketch_proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use ketch_proto::prost::Message;
use ketch_proto::strict::decode_internal_raft_request;

fn command() -> InternalRaftRequest {
    let header = RequestHeader { id: 1 << 40, member_id: 0x8e9e_05c5_2164_694d, ..Default::default() };
    let put = PutRequest { key: vec![b'k'; 24].into(), value: vec![b'v'; 256].into(), ..Default::default() };
    InternalRaftRequest { header: Some(header), put: Some(put), ..Default::default() }
}

fn benches(c: &mut Criterion) {
    let command = command();
    let bytes = Bytes::from(command.encode_to_vec());
    let mut group = c.benchmark_group("command");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode", |b| {
        let mut buffer = BytesMut::with_capacity(4096);
        b.iter(|| {
            buffer.clear();
            command.encode(&mut buffer).expect("the buffer grows");
            black_box(buffer.len())
        });
    });
    group.bench_function("decode", |b| b.iter(|| InternalRaftRequest::decode(black_box(bytes.clone()))));
    group.bench_function("decode strictly", |b| b.iter(|| decode_internal_raft_request(black_box(&bytes))));
    group.finish();
}

criterion_group!(command_benches, benches);
criterion_main!(command_benches);
