//! Header fields from their compressed form (RFC 7541), and those of answers into it.
//!
//! A decoder remembers the fields that its client wants remembered, 4 KiB at most. The encoder asks the client to remember two
//! fields that are in every answer of gRPC, and sends everything else as it is: nothing of it is kept.

mod decode;
mod encode;
mod known;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::HeaderName;

pub use decode::Decoder;
pub use encode::Encoder;

/// The size of the table of remembered fields that every connection begins with (RFC 9113, section 6.5.2), in bytes as the
/// RFC counts them. It is never announced otherwise.
pub const TABLE_BYTES: usize = 4096;
/// What a remembered field counts beside its name and value.
const FIELD_OVERHEAD: usize = 32;

/// The name of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Field(HeaderName),
    /// A name that no request may have.
    Bad(Bytes),
}

impl Name {
    fn of(bytes: Bytes) -> Name {
        match &bytes[..] {
            b":method" => Name::Method,
            b":scheme" => Name::Scheme,
            b":authority" => Name::Authority,
            b":path" => Name::Path,
            name => match HeaderName::from_lowercase(name) {
                Ok(name) => Name::Field(name),
                Err(_) => Name::Bad(bytes),
            },
        }
    }

    fn len(&self) -> usize {
        match self {
            Name::Method | Name::Scheme => ":method".len(),
            Name::Authority => ":authority".len(),
            Name::Path => ":path".len(),
            Name::Field(name) => name.as_str().len(),
            Name::Bad(name) => name.len(),
        }
    }
}

/// One field. What its value may consist of has not been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: Bytes,
}

impl Field {
    /// How much it counts in a table or a list, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.name.len() + self.value.len() + FIELD_OVERHEAD
    }
}

/// The bytes are no header block, or one that does not fit what was remembered: what follows could not be understood either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;
