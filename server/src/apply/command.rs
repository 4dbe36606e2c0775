//! Commands: what a member replicates. The encoding is etcd's `InternalRaftRequest`; the header's id is the
//! proposing member's boot number and counter, and our field 10000 names the member, so an old entry or
//! another member's can never answer a waiter.

use bytes::Bytes;
use ketch_proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use ketch_proto::strict;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::caller::Caller;

/// The name of a request in flight: unique over members, lives and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId {
    /// The member that proposed it.
    pub member: u64,
    /// Boot number (upper 24 bits) and counter (lower 40 bits).
    pub serial: u64,
}

impl RequestId {
    /// How many bits of the serial number count requests; the rest is the boot number.
    pub const COUNTER_BITS: u32 = 40;

    /// The request numbered `counter` in the life `boot` of `member`.
    #[must_use]
    pub fn new(member: u64, boot: u64, counter: u64) -> RequestId {
        let mask = (1 << Self::COUNTER_BITS) - 1;
        RequestId { member, serial: boot << Self::COUNTER_BITS | counter & mask }
    }
}

/// The bytes to replicate for `request`, proposed as `id` on behalf of `caller`.
#[must_use]
pub fn encode(id: RequestId, caller: &Caller, mut request: InternalRaftRequest) -> Bytes {
    request.header = Some(RequestHeader {
        id: id.serial,
        username: caller.user.clone(),
        auth_revision: caller.auth_revision,
        member_id: id.member,
    });
    let mut bytes = Vec::with_capacity(request.encoded_len());
    // A Vec grows: encoding into it cannot fail.
    let _infallible = request.encode(&mut bytes);
    bytes.into()
}

/// Whether a committed command is a put of a key and a value and nothing else: applying it reads no record, which may lie on the disk, and
/// what it takes is known. One that is and does not look like it was not encoded by [`encode`].
#[must_use]
pub fn is_plain_put(bytes: &Bytes) -> bool {
    let is_plain = |put: PutRequest| {
        let PutRequest { key: _, value: _, lease, prev_kv, ignore_value, ignore_lease } = put;
        lease == 0 && !prev_kv && !ignore_value && !ignore_lease
    };
    bytes.first() == Some(&PUT) && decode(bytes).is_ok_and(|(_, request)| request.put.is_some_and(is_plain))
}

/// Key of the field `put`, the first one of a command that is one: 4, length-delimited.
const PUT: u8 = 4 << 3 | 2;

/// Reads a committed command back.
///
/// # Errors
/// In words, what this version does not understand: an unknown field or command stops the member, since to
/// pass over it would make this member's state differ from the others'.
pub fn decode(bytes: &Bytes) -> Result<(Option<RequestId>, InternalRaftRequest), String> {
    let request = strict::decode_internal_raft_request(bytes).map_err(|error| error.to_string())?;
    let id = request.header.as_ref().map(|header| RequestId { member: header.member_id, serial: header.id });
    Ok((id, request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ketch_proto::etcdserverpb::TxnRequest;

    fn put() -> InternalRaftRequest {
        let put = PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            ..PutRequest::default()
        };
        InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() }
    }

    #[test]
    fn a_command_comes_back_with_its_id() {
        let id = RequestId::new(7, 3, 9);
        let (found, request) = decode(&encode(id, &Caller::default(), put())).unwrap();
        assert_eq!(found, Some(id));
        assert_eq!(request.put, put().put);
    }

    #[test]
    fn a_put_that_reads_nothing_is_told_from_others() {
        let id = RequestId::new(7, 3, 9);
        let caller = Caller { user: "root".into(), auth_revision: 7 };
        assert!(is_plain_put(&encode(id, &caller, put())));
        let with = |change: fn(&mut PutRequest)| {
            let mut request = put();
            request.put.iter_mut().for_each(change);
            encode(id, &caller, request)
        };
        assert!(is_plain_put(&with(|put| put.key = Bytes::new())));
        assert!(!is_plain_put(&with(|put| put.prev_kv = true)));
        assert!(!is_plain_put(&with(|put| put.ignore_value = true)));
        assert!(!is_plain_put(&with(|put| put.ignore_lease = true)));
        assert!(!is_plain_put(&with(|put| put.lease = 7)));
        let txn = InternalRaftRequest { txn: Some(TxnRequest::default()), ..InternalRaftRequest::default() };
        assert!(!is_plain_put(&encode(id, &caller, txn)));
        assert!(!is_plain_put(&Bytes::new()), "the entry that a leader begins with");
    }

    #[test]
    fn ids_of_two_lives_differ() {
        assert_ne!(RequestId::new(7, 1, 5), RequestId::new(7, 2, 5));
        assert_ne!(RequestId::new(7, 1, 5), RequestId::new(8, 1, 5));
        assert_eq!(
            RequestId::new(7, 1, 1 << 40),
            RequestId::new(7, 1, 0),
            "the counter wraps, the boot stays"
        );
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let mut bytes = encode(RequestId::new(1, 1, 1), &Caller::default(), put()).to_vec();
        // Field 9999, varint 1.
        bytes.extend([0xf8, 0xf0, 0x04, 0x01]);
        assert!(decode(&bytes.into()).is_err());
    }
}
