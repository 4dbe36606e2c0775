//! Raft message → bytes.

use bytes::Bytes;
use ketch_proto::raftpb::{EntryType, MessageType};
use ketch_raft::{Body, Entry, EntryId, Message, Payload, ReadId, SnapshotMeta};
use prost::Message as _;

use super::CAMPAIGN_TRANSFER;
use super::field::{self, entry};
use super::wire::{Pieces, bytes_len, number_len};
use crate::consensus::conf_change::{self, conf_state_to_wire};

/// Appends `message` to `out`.
pub(crate) fn encode(message: &Message, out: &mut Pieces) {
    out.number(field::TYPE, kind(&message.body) as u64);
    out.number(field::TO, message.to);
    out.number(field::FROM, message.from);
    out.number(field::TERM, message.term);
    body(&message.body, out);
}

fn kind(body: &Body) -> MessageType {
    match body {
        Body::Propose { .. } => MessageType::MsgProp,
        Body::Append { .. } => MessageType::MsgApp,
        Body::AppendAnswer { .. } => MessageType::MsgAppResp,
        Body::Vote { .. } => MessageType::MsgVote,
        Body::VoteAnswer { .. } => MessageType::MsgVoteResp,
        Body::PreVote { .. } => MessageType::MsgPreVote,
        Body::PreVoteAnswer { .. } => MessageType::MsgPreVoteResp,
        Body::Heartbeat { .. } => MessageType::MsgHeartbeat,
        Body::HeartbeatAnswer { .. } => MessageType::MsgHeartbeatResp,
        Body::Snapshot { .. } => MessageType::MsgSnap,
        Body::TransferLeader => MessageType::MsgTransferLeader,
        Body::TimeoutNow => MessageType::MsgTimeoutNow,
        Body::ReadIndex { .. } => MessageType::MsgReadIndex,
        Body::ReadIndexAnswer { .. } => MessageType::MsgReadIndexResp,
    }
}

fn body(body: &Body, out: &mut Pieces) {
    match body {
        Body::Propose { entries } => entries.iter().for_each(|entry| put_entry(entry, out)),
        Body::Append { index, log_term, entries, commit } => {
            out.number(field::LOG_TERM, *log_term);
            out.number(field::INDEX, *index);
            entries.iter().for_each(|entry| put_entry(entry, out));
            out.number(field::COMMIT, *commit);
        }
        Body::AppendAnswer { index, rejection } => {
            out.number(field::INDEX, *index);
            if let Some(rejection) = rejection {
                out.number(field::REJECT, 1);
                out.number(field::REJECT_HINT, rejection.hint);
                out.number(field::LOG_TERM, rejection.log_term);
            }
        }
        Body::Vote { index, log_term, transfer, commit } => {
            out.number(field::LOG_TERM, *log_term);
            out.number(field::INDEX, *index);
            if *transfer {
                out.bytes(field::CONTEXT, &Bytes::from_static(CAMPAIGN_TRANSFER));
            }
            put_commit(*commit, out);
        }
        Body::PreVote { index, log_term, commit } => {
            out.number(field::LOG_TERM, *log_term);
            out.number(field::INDEX, *index);
            put_commit(*commit, out);
        }
        Body::VoteAnswer { reject, commit } | Body::PreVoteAnswer { reject, commit } => {
            out.number(field::REJECT, u64::from(*reject));
            put_commit(*commit, out);
        }
        Body::Heartbeat { commit, round } => {
            out.number(field::COMMIT, *commit);
            out.number(field::ROUND, *round);
        }
        Body::HeartbeatAnswer { round } => out.number(field::ROUND, *round),
        Body::Snapshot { meta } => put_snapshot(meta, out),
        Body::TransferLeader | Body::TimeoutNow => {}
        Body::ReadIndex { id } => put_read(*id, out),
        Body::ReadIndexAnswer { id, index } => {
            out.number(field::INDEX, *index);
            put_read(*id, out);
        }
    }
}

fn put_entry(entry: &Entry, out: &mut Pieces) {
    let (kind, data) = match &entry.payload {
        Payload::Normal(data) => (EntryType::EntryNormal, data.clone()),
        Payload::ConfChange(change) => {
            (EntryType::EntryConfChangeV2, Bytes::from(conf_change::encode(change)))
        }
    };
    let kind = kind as u64;
    let len = number_len(entry::TYPE, kind)
        + number_len(entry::TERM, entry.term)
        + number_len(entry::INDEX, entry.index)
        + bytes_len(entry::DATA, data.len());
    out.head(field::ENTRIES, len);
    out.number(entry::TYPE, kind);
    out.number(entry::TERM, entry.term);
    out.number(entry::INDEX, entry.index);
    out.bytes(entry::DATA, &data);
}

fn put_commit(commit: EntryId, out: &mut Pieces) {
    if commit != EntryId::default() {
        out.head(field::KNOWN_COMMIT, number_len(1, commit.term) + number_len(2, commit.index));
        out.number(1, commit.term);
        out.number(2, commit.index);
    }
}

fn put_read(read: ReadId, out: &mut Pieces) {
    let ReadId { node, boot, counter } = read;
    out.head(field::READ, number_len(1, node) + number_len(2, boot) + number_len(3, counter));
    out.number(1, node);
    out.number(2, boot);
    out.number(3, counter);
}

fn put_snapshot(meta: &SnapshotMeta, out: &mut Pieces) {
    let snapshot = ketch_proto::raftpb::Snapshot {
        data: Bytes::new(),
        metadata: Some(ketch_proto::raftpb::SnapshotMetadata {
            conf_state: Some(conf_state_to_wire(&meta.conf_state)),
            index: meta.index,
            term: meta.term,
        }),
    };
    out.bytes(field::SNAPSHOT, &Bytes::from(snapshot.encode_to_vec()));
}
