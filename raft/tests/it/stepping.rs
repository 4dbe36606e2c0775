//! Any sequence of messages, requests and reports into one member, from bytes: it may refuse, it may fault, it never
//! panics. The fuzz target `raft_step` is this file with a fuzzer in front.

use bytes::Bytes;
use ketch_raft::{
    Body, ConfChange, ConfChangeKind, ConfState, Config, Entry, EntryId, MemoryStorage, Message, Node,
    Payload, ReadId, Rejection, SnapshotMeta,
};

/// Small numbers from single bytes; 0xFF and 0xFE stand for the extremes.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        Some(match self.byte()? {
            0xFF => u64::MAX,
            0xFE => u64::MAX >> 2,
            byte => u64::from(byte % 16),
        })
    }

    fn entries(&mut self, after: u64) -> Option<Vec<Entry>> {
        let count = self.byte()? % 4;
        (0..u64::from(count))
            .map(|i| {
                let term = self.number()?;
                let payload = match self.byte()? {
                    0 => Payload::ConfChange(ConfChange::single(ConfChangeKind::Remove, self.number()?)),
                    1 => Payload::ConfChange(ConfChange::single(ConfChangeKind::AddVoter, self.number()?)),
                    2 => Payload::ConfChange(ConfChange::leave()),
                    size => Payload::Normal(Bytes::from(vec![0; usize::from(size)])),
                };
                Some(Entry { term, index: after.wrapping_add(i + 1), payload })
            })
            .collect()
    }

    fn body(&mut self) -> Option<Body> {
        let kind = self.byte()? % 14;
        let (index, log_term) = (self.number()?, self.number()?);
        let commit = EntryId { term: log_term, index };
        let flag = self.byte()? & 1 == 1;
        let id = ReadId { node: log_term, boot: 1, counter: index };
        Some(match kind {
            0 => Body::Propose { entries: self.entries(0)? },
            1 => Body::Append { index, log_term, entries: self.entries(index)?, commit: self.number()? },
            2 => Body::AppendAnswer {
                index,
                rejection: flag.then_some(Rejection { hint: self.number()?, log_term }),
            },
            3 => Body::Vote { index, log_term, transfer: flag, commit },
            4 => Body::VoteAnswer { reject: flag, commit },
            5 => Body::PreVote { index, log_term, commit },
            6 => Body::PreVoteAnswer { reject: flag, commit },
            7 => Body::Heartbeat { commit: index, round: log_term },
            8 => Body::HeartbeatAnswer { round: index },
            9 => {
                let mut conf_state = ConfState::of_voters(vec![1, self.number()?]);
                if flag {
                    conf_state.voters_outgoing = vec![self.number()?, 2];
                }
                Body::Snapshot { meta: SnapshotMeta { index, term: log_term, conf_state } }
            }
            10 => Body::TransferLeader,
            11 => Body::TimeoutNow,
            12 => Body::ReadIndex { id },
            _ => Body::ReadIndexAnswer { id, index },
        })
    }
}

/// Reads `bytes` as a sequence of inputs for one member and gives them to it.
pub(crate) fn run(bytes: &[u8]) {
    let _ = play(&mut Input(bytes));
}

fn play(input: &mut Input<'_>) -> Option<()> {
    let config = Config { id: 1, election_ticks: 3, ..Config::default() };
    let mut node = Node::new(config, MemoryStorage::with_voters([1, 2, 3])).ok()?;
    loop {
        match input.byte()? % 8 {
            0 => node.tick(),
            1 => drop(node.campaign()),
            2 => drop(node.propose(Bytes::from_static(b"x"))),
            3 => drop(node.transfer_leader(input.number()?)),
            4 => {
                let ready = node.ready();
                if let Some(persist) = ready.persist {
                    if let Some(meta) = persist.snapshot {
                        node.storage_mut().apply_snapshot(meta);
                    }
                    let _ = node.storage_mut().append(&persist.entries);
                    let _ = node.persisted(persist.token);
                }
                if let Some(apply) = ready.apply {
                    for entry in &apply.entries {
                        if let Payload::ConfChange(change) = &entry.payload {
                            let _ = node.apply_conf_change(change);
                        }
                    }
                    let _ = node.applied(apply.token);
                }
            }
            _ => {
                let (from, term) = (input.number()?, input.number()?);
                let body = input.body()?;
                let _ = node.step(Message { from, to: 1, term, body });
            }
        }
    }
}
