//! Raft's messages as bytes: `raftpb.Message`, with fields of our own (from 10000 on) for what raftpb lacks.
//!
//! | message | raftpb | beyond etcd's meaning |
//! | --- | --- | --- |
//! | vote, pre-vote | `index`, `logTerm`; `context` = `CampaignTransfer` when the leader asked for it | `known_commit` |
//! | their answers | `reject` | `known_commit` |
//! | heartbeat, answer | `commit` | `heartbeat_round` instead of a read's context |
//! | read index, answer | `index` in the answer | `read` instead of bytes in `entries` |
//! | snapshot | `snapshot.metadata`; the content follows it on the bulk lane | |
//!
//! Writing copies no large payload, reading copies none at all: entries share the memory of the frame they came in.
//! Reading is strict: a field, a type or a payload that this version does not know is an error, never skipped.

mod decode;
mod encode;
mod wire;

use std::fmt;

pub use decode::decode;
pub(crate) use encode::encode;
pub(crate) use wire::Pieces;

/// The context of a vote that the leader asked for, as in etcd.
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

/// Field numbers of `raftpb.Message`.
mod field {
    pub(super) const TYPE: u64 = 1;
    pub(super) const TO: u64 = 2;
    pub(super) const FROM: u64 = 3;
    pub(super) const TERM: u64 = 4;
    pub(super) const LOG_TERM: u64 = 5;
    pub(super) const INDEX: u64 = 6;
    pub(super) const ENTRIES: u64 = 7;
    pub(super) const COMMIT: u64 = 8;
    pub(super) const SNAPSHOT: u64 = 9;
    pub(super) const REJECT: u64 = 10;
    pub(super) const REJECT_HINT: u64 = 11;
    pub(super) const CONTEXT: u64 = 12;
    pub(super) const KNOWN_COMMIT: u64 = 10_000;
    pub(super) const ROUND: u64 = 10_001;
    pub(super) const READ: u64 = 10_002;
    /// Of `raftpb.Entry`.
    pub(super) mod entry {
        pub(in super::super) const TYPE: u64 = 1;
        pub(in super::super) const TERM: u64 = 2;
        pub(in super::super) const INDEX: u64 = 3;
        pub(in super::super) const DATA: u64 = 4;
    }
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early.
    Short,
    /// A number is longer than 64 bits.
    Varint,
    /// A field has another wire type than it should.
    WireType,
    /// A field that this version does not know, by message and number.
    UnknownField(&'static str, u64),
    /// A message type that is never sent, or that this version does not know.
    UnknownType(u64),
    /// An entry type that this version does not know.
    UnknownEntry(u64),
    /// A field that the message's type cannot do without.
    Missing(&'static str),
    /// A value that means nothing.
    Invalid(&'static str),
    /// The payload of a configuration change does not decode.
    ConfChange(String),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("a raft message ends too early"),
            Self::Varint => f.write_str("a number in a raft message is too long"),
            Self::WireType => f.write_str("a field of a raft message has the wrong wire type"),
            Self::UnknownField(message, field) => write!(f, "unknown field {field} in {message}"),
            Self::UnknownType(kind) => write!(f, "unknown type {kind} of a raft message"),
            Self::UnknownEntry(kind) => write!(f, "unknown type {kind} of a raft entry"),
            Self::Missing(field) => write!(f, "a raft message lacks {field}"),
            Self::Invalid(field) => write!(f, "a raft message has an impossible {field}"),
            Self::ConfChange(why) => write!(f, "a configuration change does not decode: {why}"),
        }
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests;
