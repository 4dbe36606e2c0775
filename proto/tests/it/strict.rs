//! Strict decoding: everything known passes, everything unknown is refused, nothing panics.

use bytes::Bytes;
use ketch_proto::etcdserverpb::request_op::Request;
use ketch_proto::etcdserverpb::*;
use ketch_proto::membershippb;
use ketch_proto::prost::Message;
use ketch_proto::strict::{StrictError, TXN_DEPTH_MAX, decode_internal_raft_request as decode};
use proptest::prelude::*;

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: "v".into(), lease: -3, prev_kv: true, ..Default::default() }
}

fn header() -> Option<RequestHeader> {
    Some(RequestHeader { id: 7, username: "u".into(), auth_revision: 2, member_id: u64::MAX })
}

fn txn_of_depth(depth: usize) -> TxnRequest {
    let leaf = RequestOp { request: Some(Request::RequestPut(put("leaf"))) };
    let mut txn = TxnRequest { success: vec![leaf], ..Default::default() };
    for _ in 1..depth {
        let op = RequestOp { request: Some(Request::RequestTxn(txn)) };
        txn = TxnRequest { success: vec![op], ..Default::default() };
    }
    txn
}

fn check(command: InternalRaftRequest) {
    let bytes = Bytes::from(command.encode_to_vec());
    assert_eq!(decode(&bytes).as_ref(), Ok(&command));
}

#[test]
fn known_commands_pass() {
    check(InternalRaftRequest { header: header(), put: Some(put("a")), ..Default::default() });
    check(InternalRaftRequest { header: header(), txn: Some(txn_of_depth(3)), ..Default::default() });
    let attributes = membershippb::Attributes { name: "n".into(), client_urls: vec!["u".into()] };
    let set = membershippb::ClusterMemberAttrSetRequest { member_id: 1, member_attributes: Some(attributes) };
    check(InternalRaftRequest { cluster_member_attr_set: Some(Box::new(set)), ..Default::default() });
    check(InternalRaftRequest { compaction: Some(CompactionRequest::default()), ..Default::default() });
}

#[test]
fn key_and_value_share_the_entry() {
    let command = InternalRaftRequest { put: Some(put("shared")), ..Default::default() };
    let bytes = Bytes::from(command.encode_to_vec());
    let key = decode(&bytes).unwrap().put.unwrap().key;
    assert!(bytes.as_ptr_range().contains(&key.as_ptr()));
}

#[test]
fn an_unknown_command_is_refused() {
    // Field 12, length-delimited, empty.
    let error = decode(&Bytes::from_static(&[0x62, 0])).unwrap_err();
    assert_eq!(error, StrictError::UnknownField { message: "etcdserverpb.InternalRaftRequest", field: 12 });
    assert!(error.to_string().contains("newer version"));
}

#[test]
fn an_unknown_nested_field_is_refused() {
    let mut put = put("a").encode_to_vec();
    put.extend_from_slice(&[0x38, 1]); // field 7
    let op = [&[0x12, u8::try_from(put.len()).unwrap()], put.as_slice()].concat();
    let txn = [&[0x12, u8::try_from(op.len()).unwrap()], op.as_slice()].concat();
    let command = [&[0x32, u8::try_from(txn.len()).unwrap()], txn.as_slice()].concat();
    let error = decode(&command.into()).unwrap_err();
    assert_eq!(error, StrictError::UnknownField { message: "etcdserverpb.PutRequest", field: 7 });
}

#[test]
fn exactly_one_command() {
    assert_eq!(decode(&Bytes::new()), Err(StrictError::NoCommand));
    let only_header = InternalRaftRequest { header: header(), ..Default::default() };
    assert_eq!(decode(&only_header.encode_to_vec().into()), Err(StrictError::NoCommand));
    let two = InternalRaftRequest {
        put: Some(put("a")),
        compaction: Some(CompactionRequest::default()),
        ..Default::default()
    };
    assert_eq!(decode(&two.encode_to_vec().into()), Err(StrictError::SeveralCommands { fields: (4, 7) }));
}

#[test]
fn wrong_wire_types_and_groups_are_refused() {
    // Field 4 (put) as a varint; field 3 (range) as the start of a group.
    assert!(matches!(decode(&Bytes::from_static(&[0x20, 1])), Err(StrictError::WireType { field: 4, .. })));
    assert!(matches!(decode(&Bytes::from_static(&[0x1b])), Err(StrictError::WireType { field: 3, .. })));
}

#[test]
fn text_must_be_utf8() {
    let bytes = Bytes::from_static(&[0xa2, 0x06, 3, 0x12, 1, 0xff, 0x3a, 0]); // header.username, compaction
    assert!(matches!(decode(&bytes), Err(StrictError::Decode(_))));
}

#[test]
fn transactions_up_to_the_stated_depth_decode() {
    check(InternalRaftRequest {
        header: header(),
        txn: Some(txn_of_depth(TXN_DEPTH_MAX)),
        ..Default::default()
    });
    let deeper = InternalRaftRequest { txn: Some(txn_of_depth(TXN_DEPTH_MAX + 1)), ..Default::default() };
    assert!(decode(&deeper.encode_to_vec().into()).is_err());
}

#[test]
fn every_cut_is_refused() {
    let command = InternalRaftRequest { txn: Some(txn_of_depth(4)), ..Default::default() };
    let bytes = Bytes::from(command.encode_to_vec());
    for cut in 0..bytes.len() {
        assert!(decode(&bytes.slice(..cut)).is_err(), "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes.into());
    }

    /// What passes is a fixed point: encoding the result and decoding it again changes nothing.
    #[test]
    fn flips_are_refused_or_consistent(at in 0usize..60, bit in 0u8..8) {
        let command = InternalRaftRequest { header: header(), txn: Some(txn_of_depth(2)), ..Default::default() };
        let mut bytes = command.encode_to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(decoded) = decode(&bytes.into()) {
            prop_assert_eq!(decode(&decoded.encode_to_vec().into()), Ok(decoded));
        }
    }
}
