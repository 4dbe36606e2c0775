//! The `KeyValue` wire encoding, written and read in place.
//!
//! The store keeps every version as the protobuf encoding of etcd's `mvccpb.KeyValue`, so an answer is spliced
//! from stored bytes. Field numbers: key 1, create_revision 2, mod_revision 3, version 4, value 5, lease 6; all
//! integers are varints, zero values and empty bytes are left out, fields are in ascending order. That makes the
//! encoding canonical: one key-value has exactly one form, byte for byte the one etcd writes.

use bytes::{BufMut, Bytes, BytesMut};

/// The longest varint.
const VARINT_BYTES_MAX: usize = 10;

const KEY: u8 = 0x0a;
const CREATE_REVISION: u8 = 0x10;
const MOD_REVISION: u8 = 0x18;
const VERSION: u8 = 0x20;
const VALUE: u8 = 0x2a;
const LEASE: u8 = 0x30;

/// The fields of a key-value, borrowed from its encoding or about to be encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Revision of the put that created the key's present life; 0 in a tombstone.
    pub create_revision: i64,
    /// Revision of this version.
    pub mod_revision: i64,
    /// How many puts the key has seen since its creation, this one included; 0 in a tombstone.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease the key is attached to; 0 for none.
    pub lease: i64,
}

/// Appends the encoding of `fields` to `out`.
pub fn encode(fields: &Fields<'_>, out: &mut impl BufMut) {
    put_bytes(KEY, fields.key, out);
    put_integer(CREATE_REVISION, fields.create_revision, out);
    put_integer(MOD_REVISION, fields.mod_revision, out);
    put_integer(VERSION, fields.version, out);
    put_bytes(VALUE, fields.value, out);
    put_integer(LEASE, fields.lease, out);
}

/// Encodings are cut from blocks of this many bytes, so that a put does not allocate.
const ARENA_BYTES: usize = 64 << 10;

/// Encodes `fields` into a piece of `arena` of its own.
pub(crate) fn encode_shared(fields: &Fields<'_>, arena: &mut BytesMut) -> Bytes {
    let len = encoded_len_max(fields);
    if arena.capacity() - arena.len() < len {
        *arena = BytesMut::with_capacity(len.max(ARENA_BYTES));
    }
    encode(fields, arena);
    arena.split().freeze()
}

/// An upper bound of the encoded length of `fields`, for reserving space.
pub fn encoded_len_max(fields: &Fields<'_>) -> usize {
    6 * (1 + VARINT_BYTES_MAX) + fields.key.len() + fields.value.len()
}

/// Reads an encoding in place. Unknown fields are skipped; `None` when the bytes are no protobuf message.
pub fn decode(wire: &[u8]) -> Option<Fields<'_>> {
    let mut fields = Fields::default();
    let mut rest = wire;
    while let Some((&tag, after)) = rest.split_first() {
        rest = after;
        match tag {
            KEY => fields.key = take_bytes(&mut rest)?,
            CREATE_REVISION => fields.create_revision = take_varint(&mut rest)? as i64,
            MOD_REVISION => fields.mod_revision = take_varint(&mut rest)? as i64,
            VERSION => fields.version = take_varint(&mut rest)? as i64,
            VALUE => fields.value = take_bytes(&mut rest)?,
            LEASE => fields.lease = take_varint(&mut rest)? as i64,
            other => skip(other, &mut rest)?,
        }
    }
    Some(fields)
}

/// Appends `value` as a varint.
pub(crate) fn put_varint(mut value: u64, out: &mut impl BufMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Takes a varint from the front of `rest`; `None` when it is cut or too long.
pub(crate) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in rest.iter().enumerate().take(VARINT_BYTES_MAX) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *rest = &rest[i + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends `bytes` with its length in front.
pub(crate) fn put_prefixed(bytes: &[u8], out: &mut impl BufMut) {
    put_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

/// Takes a length-prefixed byte string from the front of `rest`.
pub(crate) fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(rest)?).ok()?;
    if len > rest.len() {
        return None;
    }
    let (bytes, after) = rest.split_at(len);
    *rest = after;
    Some(bytes)
}

fn put_bytes(tag: u8, bytes: &[u8], out: &mut impl BufMut) {
    if !bytes.is_empty() {
        out.put_u8(tag);
        put_prefixed(bytes, out);
    }
}

fn put_integer(tag: u8, value: i64, out: &mut impl BufMut) {
    if value != 0 {
        out.put_u8(tag);
        put_varint(value as u64, out);
    }
}

/// Skips one unknown field whose tag's first byte is `tag`.
fn skip(tag: u8, rest: &mut &[u8]) -> Option<()> {
    if tag & 0x80 != 0 {
        take_varint(rest)?;
    }
    let len = match tag & 7 {
        0 => return take_varint(rest).map(|_| ()),
        1 => 8,
        2 => return take_bytes(rest).map(|_| ()),
        5 => 4,
        _ => return None,
    };
    *rest = rest.get(len..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(fields: &Fields<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(fields, &mut out);
        assert!(out.len() <= encoded_len_max(fields));
        out
    }

    #[test]
    fn the_bytes_are_those_etcd_writes() {
        let fields =
            Fields { key: b"k", create_revision: 2, mod_revision: 300, version: 1, value: b"vv", lease: -1 };
        let expected = [
            0x0a, 1, b'k', 0x10, 2, 0x18, 0xac, 2, 0x20, 1, 0x2a, 2, b'v', b'v', 0x30, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ];
        assert_eq!(encoded(&fields), expected);
        assert_eq!(decode(&expected), Some(fields));
    }

    #[test]
    fn empty_fields_are_left_out() {
        assert!(encoded(&Fields::default()).is_empty());
        assert_eq!(decode(&[]), Some(Fields::default()));
    }

    #[test]
    fn every_cut_of_an_encoding_is_read_without_panic() {
        let bytes = encoded(&Fields {
            key: b"key",
            create_revision: i64::MAX,
            mod_revision: i64::MIN,
            version: 7,
            value: &[7; 200],
            lease: 1,
        });
        for cut in 0..bytes.len() {
            let _ = decode(&bytes[..cut]);
        }
        assert_eq!(decode(&bytes[..2]), None);
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let mut bytes = vec![0x38, 5, 0x42, 2, 1, 2, 0x4d, 0, 0, 0, 0, 0x82, 0x01, 1, 9];
        bytes.extend(encoded(&Fields { key: b"k", ..Fields::default() }));
        assert_eq!(decode(&bytes).map(|f| f.key), Some(&b"k"[..]));
    }
}
