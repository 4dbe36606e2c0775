//! The records of the raft log: what one `ketch-wal` record of this log holds.
//!
//! ```text
//! kind 1  entry        term u64 LE │ index u64 LE │ payload kind u8 │ payload
//! kind 2  hard state   term u64 LE │ vote u64 LE │ commit u64 LE
//! kind 3  snapshot     term u64 LE │ index u64 LE │ raftpb.ConfState
//! ```
//!
//! The payload kinds are 0 (a command: the bytes of an `InternalRaftRequest`, or nothing for the entry by
//! which a leader opens its term) and 1 (a `raftpb.ConfChangeV2`). An entry whose index is not above its
//! predecessor's replaces everything from its index on, as in etcd's log (reference, section 9.3). A snapshot record
//! replaces everything: the log begins anew after its index.

use bytes::Bytes;
use ketch_raft::{Entry, HardState, Payload, SnapshotMeta};
use ketch_wal::Batch;
use prost::Message;

use super::conf_change::{self, conf_state_from_wire, conf_state_to_wire};

/// The record kind of a raft entry.
pub const KIND_ENTRY: u8 = 1;
/// The record kind of a hard state.
pub const KIND_HARD_STATE: u8 = 2;
/// The record kind of a snapshot that was received in place of the log.
pub const KIND_SNAPSHOT: u8 = 3;

const PAYLOAD_COMMAND: u8 = 0;
const PAYLOAD_CONF_CHANGE: u8 = 1;
const ENTRY_HEAD: usize = 8 + 8 + 1;
const HARD_STATE_LEN: usize = 24;
const SNAPSHOT_HEAD: usize = 16;

/// What one record of the raft log says.
#[derive(Debug, Clone, PartialEq)]
pub enum LogRecord {
    /// One entry.
    Entry(Entry),
    /// Term, vote and commit index as of this place in the log.
    HardState(HardState),
    /// The log begins anew after this; the state it stands for is staged.
    Snapshot(SnapshotMeta),
}

/// A record of the log that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// The record's kind is not one of ours.
    UnknownKind(u8),
    /// The record is shorter or longer than its kind allows.
    Length {
        /// The record's kind.
        kind: u8,
        /// Its length in bytes.
        len: usize,
    },
    /// The entry's payload kind is not one of ours.
    UnknownPayload(u8),
    /// The payload of a configuration change does not decode.
    ConfChange(String),
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "unknown record kind {kind} in the raft log"),
            Self::Length { kind, len } => {
                write!(f, "record of kind {kind} has an impossible length of {len} bytes")
            }
            Self::UnknownPayload(kind) => write!(f, "unknown payload kind {kind} in a raft entry"),
            Self::ConfChange(why) => write!(f, "configuration change does not decode: {why}"),
        }
    }
}

impl std::error::Error for RecordError {}

/// Adds `entry` to `batch` as one record.
pub fn push_entry(batch: &mut Batch, entry: &Entry) {
    let mut head = [0; ENTRY_HEAD];
    head[..8].copy_from_slice(&entry.term.to_le_bytes());
    head[8..16].copy_from_slice(&entry.index.to_le_bytes());
    match &entry.payload {
        Payload::Normal(command) => {
            head[16] = PAYLOAD_COMMAND;
            batch.push(KIND_ENTRY, &[&head, command]);
        }
        Payload::ConfChange(change) => {
            head[16] = PAYLOAD_CONF_CHANGE;
            batch.push(KIND_ENTRY, &[&head, &conf_change::encode(change)]);
        }
    }
}

/// Adds `state` to `batch` as one record.
pub fn push_hard_state(batch: &mut Batch, state: &HardState) {
    let mut bytes = [0; HARD_STATE_LEN];
    bytes[..8].copy_from_slice(&state.term.to_le_bytes());
    bytes[8..16].copy_from_slice(&state.vote.to_le_bytes());
    bytes[16..].copy_from_slice(&state.commit.to_le_bytes());
    batch.push(KIND_HARD_STATE, &[&bytes]);
}

/// Adds the record of a snapshot to `batch`.
pub fn push_snapshot(batch: &mut Batch, snapshot: &SnapshotMeta) {
    let mut head = [0; SNAPSHOT_HEAD];
    head[..8].copy_from_slice(&snapshot.term.to_le_bytes());
    head[8..].copy_from_slice(&snapshot.index.to_le_bytes());
    let members = conf_state_to_wire(&snapshot.conf_state).encode_to_vec();
    batch.push(KIND_SNAPSHOT, &[&head, &members]);
}

/// Reads one record of the raft log.
///
/// # Errors
/// A record that this version did not write is refused, never skipped.
pub fn decode(kind: u8, data: &Bytes) -> Result<LogRecord, RecordError> {
    match kind {
        KIND_ENTRY => decode_entry(data).map(LogRecord::Entry),
        KIND_HARD_STATE => decode_hard_state(data).map(LogRecord::HardState),
        KIND_SNAPSHOT => decode_snapshot(data).map(LogRecord::Snapshot),
        other => Err(RecordError::UnknownKind(other)),
    }
}

fn decode_snapshot(data: &Bytes) -> Result<SnapshotMeta, RecordError> {
    let wrong = RecordError::Length { kind: KIND_SNAPSHOT, len: data.len() };
    let (Some(term), Some(index), Some(members)) = (word(data, 0), word(data, 8), data.get(SNAPSHOT_HEAD..))
    else {
        return Err(wrong);
    };
    let members = ketch_proto::raftpb::ConfState::decode(members)
        .map_err(|error| RecordError::ConfChange(error.to_string()))?;
    Ok(SnapshotMeta { index, term, conf_state: conf_state_from_wire(members) })
}

fn decode_entry(data: &Bytes) -> Result<Entry, RecordError> {
    let wrong = RecordError::Length { kind: KIND_ENTRY, len: data.len() };
    let (Some(term), Some(index), Some(&payload_kind)) = (word(data, 0), word(data, 8), data.get(16)) else {
        return Err(wrong);
    };
    let rest = data.slice(ENTRY_HEAD..);
    let payload = match payload_kind {
        PAYLOAD_COMMAND => Payload::Normal(rest),
        PAYLOAD_CONF_CHANGE => {
            Payload::ConfChange(conf_change::decode(rest).map_err(RecordError::ConfChange)?)
        }
        other => return Err(RecordError::UnknownPayload(other)),
    };
    Ok(Entry { term, index, payload })
}

fn decode_hard_state(data: &Bytes) -> Result<HardState, RecordError> {
    match (word(data, 0), word(data, 8), word(data, 16)) {
        (Some(term), Some(vote), Some(commit)) if data.len() == HARD_STATE_LEN => {
            Ok(HardState { term, vote, commit })
        }
        _ => Err(RecordError::Length { kind: KIND_HARD_STATE, len: data.len() }),
    }
}

fn word(data: &[u8], at: usize) -> Option<u64> {
    data.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_long_and_unknown_records_are_refused() {
        let entry = Bytes::from(vec![0; ENTRY_HEAD]);
        assert!(matches!(decode(KIND_ENTRY, &entry), Ok(LogRecord::Entry(_))));
        for len in 0..ENTRY_HEAD {
            assert!(decode(KIND_ENTRY, &entry.slice(..len)).is_err(), "an entry of {len} bytes");
        }
        let state = Bytes::from(vec![1; HARD_STATE_LEN + 1]);
        assert!(decode(KIND_HARD_STATE, &state).is_err());
        assert!(decode(KIND_HARD_STATE, &state.slice(..HARD_STATE_LEN)).is_ok());
        assert_eq!(decode(77, &entry), Err(RecordError::UnknownKind(77)));
        let mut odd = vec![0; ENTRY_HEAD];
        odd[16] = 9;
        assert_eq!(decode(KIND_ENTRY, &odd.into()), Err(RecordError::UnknownPayload(9)));
    }
}
