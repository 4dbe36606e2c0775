//! Decoding of replicated commands that refuses what it does not know.
//!
//! Protobuf readers skip unknown fields in silence. For a committed raft entry that would be a disaster: a
//! member that skips a field, or a whole command, of a newer version applies something else than its peers
//! do, and nobody notices. [`decode_internal_raft_request`] therefore first walks the bytes against the table
//! of known fields, nested messages included, and only then decodes. A member must stop on any error.
//!
//! Values of enums are left alone: numbers without a name are legal in protobuf, and the messages give them
//! a meaning (a comparison with an unknown operator holds, for example).

use std::fmt;

use bytes::Bytes;
use prost::Message as _;

use crate::etcdserverpb::InternalRaftRequest;

mod known {
    //! The generated table.
    use super::{Kind, Message};
    include!("gen/known_fields.rs");
}

/// How deep transactions may be nested (1: no nesting) so that the command that carries them can certainly
/// be decoded again. Protobuf readers give up at 100 nested messages, and each transaction takes two.
pub const TXN_DEPTH_MAX: usize = 49;

/// Nested messages that the decoder accepts.
const DEPTH_MAX: usize = 100;

/// Place of `InternalRaftRequest` in the table.
const ROOT: usize = 0;

/// Fields of `InternalRaftRequest` that are not commands: `ID` and `header`.
const NOT_COMMANDS: [u32; 2] = [1, 100];

/// One message of the table.
#[derive(Debug)]
struct Message {
    name: &'static str,
    /// Ordered by number.
    fields: &'static [(u32, Kind)],
}

/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Varint,
    Fixed64,
    /// No command has such a field today; the reader knows the wire type all the same.
    #[allow(dead_code, reason = "depends on the generated table")]
    Fixed32,
    Bytes,
    Text,
    /// Index into the table.
    Message(usize),
}

impl Kind {
    /// The wire type that the field must have.
    const fn wire_type(self) -> u8 {
        match self {
            Kind::Varint => 0,
            Kind::Fixed64 => 1,
            Kind::Bytes | Kind::Text | Kind::Message(_) => 2,
            Kind::Fixed32 => 5,
        }
    }
}

/// Why a replicated command must not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StrictError {
    /// A field that this version does not know.
    UnknownField {
        /// Full name of the message.
        message: &'static str,
        /// Number of the field.
        field: u32,
    },
    /// A known field with another wire type than it should have.
    WireType {
        /// Full name of the message.
        message: &'static str,
        /// Number of the field.
        field: u32,
        /// The wire type found.
        found: u8,
    },
    /// The bytes end in the middle of something, or are no protobuf at all.
    Malformed {
        /// Full name of the message.
        message: &'static str,
    },
    /// Messages nested too deeply.
    TooDeep,
    /// No command is set.
    NoCommand,
    /// More than one command is set.
    SeveralCommands {
        /// Field numbers of two of them.
        fields: (u32, u32),
    },
    /// The fields are known but do not decode, for example text that is not UTF-8.
    Decode(prost::DecodeError),
}

impl fmt::Display for StrictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StrictError::UnknownField { message, field } => {
                write!(f, "unknown field {field} in {message}: written by a newer version")
            }
            StrictError::WireType { message, field, found } => {
                write!(f, "field {field} of {message} has wire type {found}")
            }
            StrictError::Malformed { message } => write!(f, "malformed {message}"),
            StrictError::TooDeep => f.write_str("messages nested too deeply"),
            StrictError::NoCommand => f.write_str("no command is set"),
            StrictError::SeveralCommands { fields: (first, second) } => {
                write!(f, "several commands are set: fields {first} and {second}")
            }
            StrictError::Decode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StrictError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StrictError::Decode(error) => Some(error),
            _ => None,
        }
    }
}

/// Decodes one replicated command. Byte fields of the result share the memory of `bytes`.
///
/// # Errors
///
/// Any of [`StrictError`]; whoever applies committed entries must then stop rather than go on without it.
///
/// ```
/// use ketch_proto::etcdserverpb::{InternalRaftRequest, PutRequest};
/// use ketch_proto::prost::Message;
/// use ketch_proto::strict::{StrictError, decode_internal_raft_request};
///
/// let put = PutRequest { key: "a".into(), ..Default::default() };
/// let command = InternalRaftRequest { put: Some(put), ..Default::default() };
/// let mut bytes = command.encode_to_vec();
/// assert_eq!(decode_internal_raft_request(&bytes.clone().into()), Ok(command));
///
/// bytes.extend_from_slice(&[0x78, 1]); // field 15, a varint
/// let error = decode_internal_raft_request(&bytes.into()).unwrap_err();
/// assert!(matches!(error, StrictError::UnknownField { field: 15, .. }));
/// ```
pub fn decode_internal_raft_request(bytes: &Bytes) -> Result<InternalRaftRequest, StrictError> {
    let mut command = None;
    walk(ROOT, bytes, 0, &mut |field| {
        if NOT_COMMANDS.contains(&field) {
            return Ok(());
        }
        match command.replace(field) {
            Some(first) => Err(StrictError::SeveralCommands { fields: (first, field) }),
            None => Ok(()),
        }
    })?;
    if command.is_none() {
        return Err(StrictError::NoCommand);
    }
    // From `Bytes`, not from a slice: keys and values are then shared rather than copied.
    InternalRaftRequest::decode(bytes.clone()).map_err(StrictError::Decode)
}

/// Checks one message and everything in it; `seen` hears of each field of the outermost message.
fn walk(
    index: usize,
    bytes: &[u8],
    depth: usize,
    seen: &mut dyn FnMut(u32) -> Result<(), StrictError>,
) -> Result<(), StrictError> {
    if depth > DEPTH_MAX {
        return Err(StrictError::TooDeep);
    }
    let message = &known::MESSAGES[index];
    let malformed = StrictError::Malformed { message: message.name };
    let mut rest = bytes;
    while !rest.is_empty() {
        let (field, wire_type) = tag(&mut rest).ok_or_else(|| malformed.clone())?;
        let position = message
            .fields
            .binary_search_by_key(&field, |(number, _)| *number)
            .map_err(|_| StrictError::UnknownField { message: message.name, field })?;
        let kind = message.fields[position].1;
        if kind.wire_type() != wire_type {
            return Err(StrictError::WireType { message: message.name, field, found: wire_type });
        }
        let content = content(kind, &mut rest).ok_or_else(|| malformed.clone())?;
        if depth == 0 {
            seen(field)?;
        }
        if let Kind::Message(nested) = kind {
            walk(nested, content, depth + 1, seen)?;
        }
    }
    Ok(())
}

/// Field number and wire type.
fn tag(rest: &mut &[u8]) -> Option<(u32, u8)> {
    let tag = u32::try_from(varint(rest)?).ok()?;
    let field = tag >> 3;
    (field != 0).then_some((field, (tag & 7) as u8))
}

/// Steps over a field's content and returns it without its length.
fn content<'a>(kind: Kind, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = match kind {
        Kind::Varint => {
            varint(rest)?;
            0
        }
        Kind::Fixed64 => 8,
        Kind::Fixed32 => 4,
        Kind::Bytes | Kind::Text | Kind::Message(_) => usize::try_from(varint(rest)?).ok()?,
    };
    let (content, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(content)
}

/// A base-128 number of at most ten bytes that fits 64 bits.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        if shift == 63 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_at_the_edges() {
        let mut max: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(varint(&mut max), Some(u64::MAX));
        let mut over: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(varint(&mut over), None);
        let mut cut: &[u8] = &[0x80];
        assert_eq!(varint(&mut cut), None);
    }

    #[test]
    fn the_table_starts_at_the_root_and_is_ordered() {
        assert_eq!(known::MESSAGES[ROOT].name, "etcdserverpb.InternalRaftRequest");
        for message in &known::MESSAGES {
            assert!(message.fields.is_sorted_by_key(|(number, _)| *number), "{}", message.name);
        }
    }
}
