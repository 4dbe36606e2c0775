//! A message on its way out: encoded whole when it is small, otherwise spliced from stored bytes piece by piece as
//! the connection takes them.

use std::vec;

use bytes::{BufMut, Bytes, BytesMut};
use ketch_mvcc::KeyValue;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::HEAD_BYTES;

/// The longest message that is sent, as in etcd.
pub const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;
/// A piece is about this large: enough that its own cost is nothing, little enough that thousands of slow clients
/// hold no memory to speak of.
const PIECE_BYTES: usize = 64 << 10;
/// A pair from this size on is handed out as the store holds it, without a copy.
const SHARED_BYTES: usize = 16 << 10;

/// One message, head included, as pieces.
#[derive(Debug)]
pub struct Outgoing {
    /// What comes before the pairs, or the whole message.
    head: Bytes,
    /// Pairs that are not copied before they are sent.
    pairs: vec::IntoIter<KeyValue>,
    /// The field that each pair is.
    field: u32,
    /// A pair that goes out next, as it is.
    shared: Option<Bytes>,
    /// What comes behind the pairs.
    tail: Bytes,
    len: usize,
}

impl Outgoing {
    /// A message of `len` bytes that `encode` writes; one that is too long to be sent is not even made.
    pub fn encoded(len: usize, encode: impl FnOnce(&mut BytesMut)) -> Outgoing {
        if len > MESSAGE_BYTES_MAX {
            return Outgoing::whole(Bytes::new(), len);
        }
        let mut out = BytesMut::with_capacity(HEAD_BYTES + len);
        put_head(len, &mut out);
        encode(&mut out);
        Outgoing::whole(out.freeze(), len)
    }

    /// A message that prost encodes.
    pub fn plain(message: &impl Message) -> Outgoing {
        Outgoing::encoded(message.encoded_len(), |out| message.encode_raw(out))
    }

    /// A message of `head`, then `pairs` (each as field `field`), then `tail`.
    pub fn pairs(head: &[u8], field: u32, pairs: Vec<KeyValue>, tail: &[u8]) -> Outgoing {
        let len = head.len() + pairs_len(field, &pairs) + tail.len();
        let mut out =
            BytesMut::with_capacity(HEAD_BYTES + head.len() + if len <= PIECE_BYTES { len } else { 0 });
        put_head(len, &mut out);
        out.put_slice(head);
        if len <= PIECE_BYTES {
            pairs.iter().for_each(|pair| put_pair(field, pair.as_wire(), &mut out));
            out.put_slice(tail);
            return Outgoing::whole(out.freeze(), len);
        }
        let (head, tail) = (out.freeze(), Bytes::copy_from_slice(tail));
        Outgoing { head, pairs: pairs.into_iter(), field, shared: None, tail, len }
    }

    /// A message that was taken as its only piece, once more.
    #[must_use]
    pub fn again(piece: Bytes) -> Outgoing {
        let len = piece.len().saturating_sub(HEAD_BYTES);
        Outgoing::whole(piece, len)
    }

    /// Whether it is one piece.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.pairs.len() == 0 && self.shared.is_none() && self.tail.is_empty()
    }

    fn whole(head: Bytes, len: usize) -> Outgoing {
        Outgoing { head, pairs: Vec::new().into_iter(), field: 0, shared: None, tail: Bytes::new(), len }
    }

    /// The length of the message in bytes, without its head.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a message without bytes is a message")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The next piece; `None` behind the last.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        if self.is_whole() {
            return Some(std::mem::take(&mut self.head)).filter(|head| !head.is_empty());
        }
        if let Some(pair) = self.shared.take() {
            return Some(pair);
        }
        let mut piece = BytesMut::with_capacity(PIECE_BYTES + SHARED_BYTES);
        piece.put_slice(&std::mem::take(&mut self.head));
        while piece.len() < PIECE_BYTES {
            let Some(pair) = self.pairs.next() else {
                piece.put_slice(&std::mem::take(&mut self.tail));
                break;
            };
            let wire = pair.as_wire();
            if wire.len() >= SHARED_BYTES {
                put_length(self.field, wire.len(), &mut piece);
                self.shared = Some(wire.clone());
                break;
            }
            put_pair(self.field, wire, &mut piece);
        }
        Some(piece.freeze())
    }
}

fn put_head(len: usize, out: &mut BytesMut) {
    out.put_u8(0);
    // The router refuses to send what has no length here.
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

fn put_pair(field: u32, wire: &[u8], out: &mut BytesMut) {
    put_length(field, wire.len(), out);
    out.put_slice(wire);
}

/// Writes the tag and length of a field of `len` bytes.
pub fn put_length(field: u32, len: usize, out: &mut impl BufMut) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// How many bytes `pairs` take as fields of number `field`.
#[must_use]
pub fn pairs_len(field: u32, pairs: &[KeyValue]) -> usize {
    pairs.iter().map(|pair| field_len(field, pair.as_wire().len())).sum()
}

/// How many bytes a field of `len` bytes takes.
#[must_use]
pub fn field_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

#[cfg(test)]
mod tests {
    use ketch_proto::mvccpb;

    use super::*;

    fn pair(number: usize, value: usize) -> KeyValue {
        let (key, value) = (number.to_be_bytes().to_vec(), vec![b'v'; value]);
        let pair = mvccpb::KeyValue { key: key.into(), value: value.into(), ..Default::default() };
        KeyValue::from_wire(pair.encode_to_vec().into()).unwrap()
    }

    fn drain(mut outgoing: Outgoing) -> (Vec<u8>, usize) {
        let (mut all, mut largest) = (Vec::new(), 0);
        while let Some(piece) = outgoing.next_piece() {
            assert!(!piece.is_empty(), "a piece has bytes");
            largest = largest.max(piece.len());
            all.extend_from_slice(&piece);
        }
        assert!(outgoing.next_piece().is_none());
        (all, largest)
    }

    #[test]
    fn what_is_too_long_is_not_made() {
        let message = Outgoing::encoded(usize::MAX, |_| unreachable!("made"));
        assert_eq!(message.len(), usize::MAX);
    }

    #[test]
    fn pieces_are_the_message_whatever_its_size() {
        for (count, size) in
            [(0, 0), (1, 10), (3, 20_000), (1000, 300), (1000, 16_384), (40, 1 << 20), (1, 65_500)]
        {
            let pairs: Vec<_> = (0..count).map(|number| pair(number, size)).collect();
            let mut message = b"head".to_vec();
            for pair in &pairs {
                put_length(2, pair.as_wire().len(), &mut message);
                message.extend_from_slice(pair.as_wire());
            }
            message.extend_from_slice(b"tail");
            let (bytes, largest) = drain(Outgoing::pairs(b"head", 2, pairs, b"tail"));
            assert_eq!(bytes[..5], [&[0][..], &(message.len() as u32).to_be_bytes()].concat());
            assert_eq!(bytes[5..], message, "{count} pairs of {size}");
            assert!(largest <= (PIECE_BYTES + SHARED_BYTES + 64).max(size + 32), "{count} pairs of {size}");
        }
    }
}
