//! Bytes → raft message.

use bytes::Bytes;
use ketch_proto::raftpb::{EntryType, MessageType};
use ketch_raft::{Body, ConfState, Entry, EntryId, Message, Payload, ReadId, Rejection, SnapshotMeta};

use super::field::{self, entry};
use super::wire::{next_field, read_numbers};
use super::{CAMPAIGN_TRANSFER, DecodeError};
use crate::consensus::conf_change;

/// The fields of a message before its type gives them a meaning.
#[derive(Default)]
struct Fields {
    kind: u64,
    to: u64,
    from: u64,
    term: u64,
    log_term: u64,
    index: u64,
    entries: Vec<Entry>,
    commit: u64,
    snapshot: Option<SnapshotMeta>,
    reject: u64,
    reject_hint: u64,
    context: Bytes,
    known_commit: EntryId,
    round: u64,
    read: Option<ReadId>,
}

/// Reads one message. Entries share the memory of `bytes`.
///
/// # Errors
/// Whatever this version would not have written is refused.
pub fn decode(bytes: Bytes) -> Result<Message, DecodeError> {
    let fields = fields(bytes)?;
    let (from, to, term) = (fields.from, fields.to, fields.term);
    Ok(Message { from, to, term, body: body(fields)? })
}

fn fields(mut bytes: Bytes) -> Result<Fields, DecodeError> {
    let mut fields = Fields::default();
    while let Some((number, value)) = next_field(&mut bytes)? {
        match number {
            field::TYPE => fields.kind = value.number()?,
            field::TO => fields.to = value.number()?,
            field::FROM => fields.from = value.number()?,
            field::TERM => fields.term = value.number()?,
            field::LOG_TERM => fields.log_term = value.number()?,
            field::INDEX => fields.index = value.number()?,
            field::ENTRIES => fields.entries.push(read_entry(value.bytes()?)?),
            field::COMMIT => fields.commit = value.number()?,
            field::SNAPSHOT => fields.snapshot = Some(read_snapshot(value.bytes()?)?),
            field::REJECT => fields.reject = value.number()?,
            field::REJECT_HINT => fields.reject_hint = value.number()?,
            field::CONTEXT => fields.context = value.bytes()?,
            field::KNOWN_COMMIT => {
                let [term, index] = read_words("EntryId", value.bytes()?)?;
                fields.known_commit = EntryId { term, index };
            }
            field::ROUND => fields.round = value.number()?,
            field::READ => {
                let [node, boot, counter] = read_words("ReadId", value.bytes()?)?;
                fields.read = Some(ReadId { node, boot, counter });
            }
            unknown => return Err(DecodeError::UnknownField("raftpb.Message", unknown)),
        }
    }
    Ok(fields)
}

fn body(fields: Fields) -> Result<Body, DecodeError> {
    let Fields { kind, log_term, index, entries, commit, known_commit, round, .. } = fields;
    let known = i32::try_from(kind).ok().and_then(|kind| MessageType::try_from(kind).ok());
    let reject = match fields.reject {
        0 => false,
        1 => true,
        _ => return Err(DecodeError::Invalid("reject")),
    };
    let read = fields.read.ok_or(DecodeError::Missing("read"));
    Ok(match known.ok_or(DecodeError::UnknownType(kind))? {
        MessageType::MsgProp => Body::Propose { entries },
        MessageType::MsgApp => Body::Append { index, log_term, entries, commit },
        MessageType::MsgAppResp => {
            let rejection = reject.then_some(Rejection { hint: fields.reject_hint, log_term });
            Body::AppendAnswer { index, rejection }
        }
        MessageType::MsgVote => {
            let transfer = match &fields.context[..] {
                b"" => false,
                context if context == CAMPAIGN_TRANSFER => true,
                _ => return Err(DecodeError::Invalid("context")),
            };
            Body::Vote { index, log_term, transfer, commit: known_commit }
        }
        MessageType::MsgVoteResp => Body::VoteAnswer { reject, commit: known_commit },
        MessageType::MsgPreVote => Body::PreVote { index, log_term, commit: known_commit },
        MessageType::MsgPreVoteResp => Body::PreVoteAnswer { reject, commit: known_commit },
        MessageType::MsgHeartbeat => Body::Heartbeat { commit, round },
        MessageType::MsgHeartbeatResp => Body::HeartbeatAnswer { round },
        MessageType::MsgSnap => {
            Body::Snapshot { meta: fields.snapshot.ok_or(DecodeError::Missing("snapshot"))? }
        }
        MessageType::MsgTransferLeader => Body::TransferLeader,
        MessageType::MsgTimeoutNow => Body::TimeoutNow,
        MessageType::MsgReadIndex => Body::ReadIndex { id: read? },
        MessageType::MsgReadIndexResp => Body::ReadIndexAnswer { id: read?, index },
        // The rest stays within a member.
        _ => return Err(DecodeError::UnknownType(kind)),
    })
}

fn read_entry(mut bytes: Bytes) -> Result<Entry, DecodeError> {
    let (mut kind, mut term, mut index, mut data) = (0, 0, 0, Bytes::new());
    while let Some((number, value)) = next_field(&mut bytes)? {
        match number {
            entry::TYPE => kind = value.number()?,
            entry::TERM => term = value.number()?,
            entry::INDEX => index = value.number()?,
            entry::DATA => data = value.bytes()?,
            unknown => return Err(DecodeError::UnknownField("raftpb.Entry", unknown)),
        }
    }
    let payload = if kind == EntryType::EntryNormal as u64 {
        Payload::Normal(data)
    } else if kind == EntryType::EntryConfChangeV2 as u64 {
        Payload::ConfChange(conf_change::decode(data).map_err(DecodeError::ConfChange)?)
    } else {
        return Err(DecodeError::UnknownEntry(kind));
    };
    Ok(Entry { term, index, payload })
}

/// A message of numbers only, in fields from 1 on.
fn read_words<const N: usize>(name: &'static str, mut bytes: Bytes) -> Result<[u64; N], DecodeError> {
    let mut words = [0; N];
    while let Some((number, value)) = next_field(&mut bytes)? {
        let word = usize::try_from(number).ok().and_then(|number| words.get_mut(number.wrapping_sub(1)));
        *word.ok_or(DecodeError::UnknownField(name, number))? = value.number()?;
    }
    Ok(words)
}

fn read_snapshot(mut bytes: Bytes) -> Result<SnapshotMeta, DecodeError> {
    let mut meta = None;
    while let Some((number, value)) = next_field(&mut bytes)? {
        match number {
            2 => meta = Some(read_metadata(value.bytes()?)?),
            unknown => return Err(DecodeError::UnknownField("raftpb.Snapshot", unknown)),
        }
    }
    meta.ok_or(DecodeError::Missing("snapshot.metadata"))
}

fn read_metadata(mut bytes: Bytes) -> Result<SnapshotMeta, DecodeError> {
    let mut meta = SnapshotMeta::default();
    while let Some((number, value)) = next_field(&mut bytes)? {
        match number {
            1 => meta.conf_state = read_conf_state(value.bytes()?)?,
            2 => meta.index = value.number()?,
            3 => meta.term = value.number()?,
            unknown => return Err(DecodeError::UnknownField("raftpb.SnapshotMetadata", unknown)),
        }
    }
    Ok(meta)
}

fn read_conf_state(mut bytes: Bytes) -> Result<ConfState, DecodeError> {
    let mut state = ConfState::default();
    while let Some((number, value)) = next_field(&mut bytes)? {
        match number {
            1 => read_numbers(value, &mut state.voters)?,
            2 => read_numbers(value, &mut state.learners)?,
            3 => read_numbers(value, &mut state.voters_outgoing)?,
            4 => read_numbers(value, &mut state.learners_next)?,
            5 => {
                state.auto_leave = match value.number()? {
                    0 => false,
                    1 => true,
                    _ => return Err(DecodeError::Invalid("auto_leave")),
                }
            }
            unknown => return Err(DecodeError::UnknownField("raftpb.ConfState", unknown)),
        }
    }
    Ok(state)
}
