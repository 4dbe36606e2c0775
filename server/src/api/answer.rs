//! Answers that carry key-values, with an encoder of their own: the pairs are spliced from stored bytes (a
//! `mvccpb.KeyValue` lies in the store exactly as it goes over the wire) rather than decoded and rebuilt.
//!
//! Field numbers are those of `rpc.proto`.

use bytes::BufMut;
use ketch_mvcc::KeyValue;
use ketch_proto::etcdserverpb::ResponseHeader;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::slow::Facts;
use crate::grpc::outgoing::{Outgoing, field_len, pairs_len, put_length};

/// Something that goes over the wire as one protobuf message.
pub trait Answer: Send + 'static {
    /// The message.
    fn into_outgoing(self) -> Outgoing;

    /// What is told of it if it took long, but for its length.
    fn facts(&self) -> Facts {
        Facts::default()
    }
}

impl<M: Message + 'static> Answer for M {
    fn into_outgoing(self) -> Outgoing {
        Outgoing::plain(&self)
    }
}

/// Answers `Range`.
#[derive(Debug, Default)]
pub struct RangeAnswer {
    /// Header (field 1); inside a transaction it names the revision only.
    pub header: ResponseHeader,
    /// The pairs (field 2).
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut the answer short (field 3).
    pub more: bool,
    /// How many keys the range has, whatever the limit and filters (field 4).
    pub count: i64,
}

/// One message of `RangeStream`'s answer.
#[derive(Debug, Default)]
pub struct RangeChunk {
    /// The pairs.
    pub kvs: Vec<KeyValue>,
    /// What only the last message has.
    pub last: Option<LastOfRange>,
}

/// What the last message of a [`RangeChunk`] stream says about all of them.
#[derive(Debug, Default)]
pub struct LastOfRange {
    /// The header, with the revision at which the stream began.
    pub header: ResponseHeader,
    /// Whether the limit cut the answer short.
    pub more: bool,
    /// How many keys the range has.
    pub count: i64,
}

/// Answers `Put`.
#[derive(Debug, Default)]
pub struct PutAnswer {
    /// Header (field 1).
    pub header: ResponseHeader,
    /// The pair before (field 2).
    pub prev: Option<KeyValue>,
}

/// Answers `DeleteRange`.
#[derive(Debug, Default)]
pub struct DeleteAnswer {
    /// Header (field 1).
    pub header: ResponseHeader,
    /// How many keys went (field 2).
    pub deleted: i64,
    /// The pairs before (field 3).
    pub prev_kvs: Vec<KeyValue>,
}

/// Answers `Txn`.
#[derive(Debug, Default)]
pub struct TxnAnswer {
    /// Header (field 1).
    pub header: ResponseHeader,
    /// Whether the comparisons held (field 2).
    pub succeeded: bool,
    /// One answer an operation (field 3).
    pub ops: Vec<OpAnswer>,
}

/// The answer of one operation of a transaction (`ResponseOp`).
#[derive(Debug)]
pub enum OpAnswer {
    /// Field 1.
    Range(RangeAnswer),
    /// Field 2.
    Put(PutAnswer),
    /// Field 3.
    Delete(DeleteAnswer),
    /// Field 4.
    Txn(TxnAnswer),
}

impl Answer for RangeAnswer {
    fn facts(&self) -> Facts {
        Facts { count: self.count, pairs: self.kvs.len(), ..Facts::default() }
    }

    fn into_outgoing(self) -> Outgoing {
        let mut head = Vec::new();
        put_header(&self.header, &mut head);
        let mut tail = Vec::new();
        put_varint(3, u64::from(self.more), &mut tail);
        put_varint(4, self.count as u64, &mut tail);
        Outgoing::pairs(&head, 2, self.kvs, &tail)
    }
}

impl Answer for RangeChunk {
    fn into_outgoing(self) -> Outgoing {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        if let Some(last) = &self.last {
            put_header(&last.header, &mut head);
            put_varint(3, u64::from(last.more), &mut tail);
            put_varint(4, last.count as u64, &mut tail);
        }
        // RangeStreamResponse.range_response is field 1.
        let mut outer = Vec::new();
        put_length(1, head.len() + pairs_len(2, &self.kvs) + tail.len(), &mut outer);
        outer.extend_from_slice(&head);
        Outgoing::pairs(&outer, 2, self.kvs, &tail)
    }
}

/// An answer that is encoded whole.
pub(super) trait Encode {
    /// How many bytes [`encode`](Self::encode) writes.
    fn encoded_len(&self) -> usize;
    /// Writes the message.
    fn encode(&self, out: &mut impl BufMut);
}

impl Encode for RangeAnswer {
    fn encoded_len(&self) -> usize {
        header_len(&self.header)
            + pairs_len(2, &self.kvs)
            + varint_len(3, u64::from(self.more))
            + varint_len(4, self.count as u64)
    }

    fn encode(&self, out: &mut impl BufMut) {
        put_header(&self.header, out);
        for kv in &self.kvs {
            put_bytes(2, kv.as_wire(), out);
        }
        put_varint(3, u64::from(self.more), out);
        put_varint(4, self.count as u64, out);
    }
}

impl Answer for PutAnswer {
    fn into_outgoing(self) -> Outgoing {
        Outgoing::encoded(self.encoded_len(), |out| self.encode(out))
    }
}

impl Encode for PutAnswer {
    fn encoded_len(&self) -> usize {
        header_len(&self.header) + self.prev.as_ref().map_or(0, |kv| field_len(2, kv.as_wire().len()))
    }

    fn encode(&self, out: &mut impl BufMut) {
        put_header(&self.header, out);
        if let Some(kv) = &self.prev {
            put_bytes(2, kv.as_wire(), out);
        }
    }
}

impl Answer for DeleteAnswer {
    fn facts(&self) -> Facts {
        Facts { count: self.deleted, ..Facts::default() }
    }

    fn into_outgoing(self) -> Outgoing {
        Outgoing::encoded(self.encoded_len(), |out| self.encode(out))
    }
}

impl Encode for DeleteAnswer {
    fn encoded_len(&self) -> usize {
        header_len(&self.header) + varint_len(2, self.deleted as u64) + pairs_len(3, &self.prev_kvs)
    }

    fn encode(&self, out: &mut impl BufMut) {
        put_header(&self.header, out);
        put_varint(2, self.deleted as u64, out);
        for kv in &self.prev_kvs {
            put_bytes(3, kv.as_wire(), out);
        }
    }
}

impl Answer for TxnAnswer {
    fn facts(&self) -> Facts {
        Facts { succeeded: self.succeeded, ..Facts::default() }
    }

    fn into_outgoing(self) -> Outgoing {
        Outgoing::encoded(self.encoded_len(), |out| self.encode(out))
    }
}

impl Encode for TxnAnswer {
    fn encoded_len(&self) -> usize {
        let ops: usize = self.ops.iter().map(|op| field_len(3, op.encoded_len())).sum();
        header_len(&self.header) + varint_len(2, u64::from(self.succeeded)) + ops
    }

    fn encode(&self, out: &mut impl BufMut) {
        put_header(&self.header, out);
        put_varint(2, u64::from(self.succeeded), out);
        for op in &self.ops {
            put_length(3, op.encoded_len(), out);
            op.encode(out);
        }
    }
}

impl OpAnswer {
    fn encoded_len(&self) -> usize {
        match self {
            Self::Range(answer) => field_len(1, answer.encoded_len()),
            Self::Put(answer) => field_len(2, answer.encoded_len()),
            Self::Delete(answer) => field_len(3, answer.encoded_len()),
            Self::Txn(answer) => field_len(4, answer.encoded_len()),
        }
    }

    fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Range(answer) => put_message(1, answer, out),
            Self::Put(answer) => put_message(2, answer, out),
            Self::Delete(answer) => put_message(3, answer, out),
            Self::Txn(answer) => put_message(4, answer, out),
        }
    }
}

fn header_len(header: &ResponseHeader) -> usize {
    field_len(1, header.encoded_len())
}

fn put_header(header: &ResponseHeader, out: &mut impl BufMut) {
    put_length(1, header.encoded_len(), out);
    header.encode_raw(out);
}

fn put_message(field: u32, answer: &impl Encode, out: &mut impl BufMut) {
    put_length(field, answer.encoded_len(), out);
    answer.encode(out);
}

fn put_bytes(field: u32, bytes: &[u8], out: &mut impl BufMut) {
    put_length(field, bytes.len(), out);
    out.put_slice(bytes);
}

/// A zero is the field's absence.
fn varint_len(field: u32, value: u64) -> usize {
    if value == 0 { 0 } else { key_len(field) + encoded_len_varint(value) }
}

fn put_varint(field: u32, value: u64, out: &mut impl BufMut) {
    if value != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(value, out);
    }
}
