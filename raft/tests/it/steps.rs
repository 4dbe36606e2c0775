//! The commands of transcripts that take more than a line.

use std::collections::VecDeque;

use super::{
    ConfChange, ConfState, Config, Directive, Member, MemoryStorage, Message, Node, NodeId, Outcome, Pacing,
    Payload, ReadMode, Ready, SnapshotMeta, Storage, Transition, World, describe, text,
};
use ketch_raft::{ConfChangeKind, ConfChangeSingle};

impl World {
    pub(super) fn nodes(&mut self, d: &Directive) -> Outcome {
        let flag = |key| d.value(key) == Some("true");
        let number = |key, default: u64| d.value(key).and_then(|v| v.parse().ok()).unwrap_or(default);
        let ids = |key| {
            let list = d.args.iter().find(|arg| arg.key == key);
            list.map(|arg| arg.values.iter().filter_map(|id| id.parse().ok()).collect()).unwrap_or_default()
        };
        let learners: Vec<NodeId> = ids("learners");
        let count = d.number(0);
        let voters: Vec<NodeId> = match ids("voters") {
            none if none.is_empty() => (1..=count).filter(|id| !learners.contains(id)).collect(),
            some => some,
        };
        for id in 1..=count {
            let reads = if flag("lease") { ReadMode::Lease { max_drift_ticks: 1 } } else { ReadMode::Quorum };
            let config = Config {
                id,
                election_ticks: 10,
                heartbeat_ticks: 1,
                seed: id,
                pre_vote: flag("prevote"),
                check_quorum: flag("checkquorum") || flag("lease"),
                reads,
                pacing: if flag("stepwise") { Pacing::Stepwise } else { Pacing::Gathered },
                max_uncommitted_bytes: number("uncommitted", 0),
                max_inflight_messages: number("inflight", 256) as usize,
                max_append_bytes: number("append", 1 << 20),
                max_applying_bytes: number("applying", 1 << 20),
                disable_forwarding: flag("noforward"),
                step_down_on_removal: !flag("stay"),
                ..Config::default()
            };
            let members = ConfState { learners: learners.clone(), ..ConfState::of_voters(voters.clone()) };
            let mut disk = MemoryStorage::new();
            disk.set_conf_state(members.clone());
            let node = Node::new(config.clone(), disk.clone()).map_err(text)?;
            let (persists, applies) = (VecDeque::new(), VecDeque::new());
            self.members.push(Member {
                node: Some(node),
                config,
                disk,
                persists,
                applies,
                applied: 0,
                members,
                reads: 0,
            });
        }
        Ok(())
    }

    pub(super) fn change(&mut self, id: NodeId, d: &Directive) -> Outcome {
        let steps: Vec<ConfChangeSingle> = d.args[1..]
            .iter()
            .filter(|arg| arg.values.is_empty())
            .filter_map(|arg| {
                let kind = match arg.key.chars().next()? {
                    'v' => ConfChangeKind::AddVoter,
                    'l' => ConfChangeKind::AddLearner,
                    'r' => ConfChangeKind::Remove,
                    _ => ConfChangeKind::Update,
                };
                Some(ConfChangeSingle { kind, node: arg.key[1..].parse().ok()? })
            })
            .collect();
        let transition = match d.value("transition") {
            Some("explicit") => Transition::Explicit,
            Some("implicit") => Transition::Implicit,
            _ => Transition::Auto,
        };
        self.node(id)?.propose_conf_change(ConfChange::new(transition, steps)).map_err(text)
    }

    /// Prints the lanes of one Ready; messages leave, batches wait for `persist` and `apply`.
    pub(super) fn ready(&mut self, id: NodeId) -> Outcome {
        let ready = self.node(id)?.ready();
        if let Some(fault) = self.node(id)?.fault().cloned() {
            return Err(format!("fault: {fault}"));
        }
        let Ready { soft, send, persist, apply, reads, .. } = ready;
        if let Some(soft) = soft {
            self.say(format!("{:?}, leader {}", soft.role, soft.leader));
        }
        for message in &send {
            self.say(format!("send {}", describe::message(message)));
        }
        if let Some(batch) = &persist {
            let sync = if batch.must_sync { "sync" } else { "no sync" };
            let hard =
                batch.hard_state.map(|hard| format!(" {}", describe::hard_state(hard))).unwrap_or_default();
            let entries: String =
                batch.entries.iter().map(|entry| format!(" [{}]", describe::entry(entry))).collect();
            let snapshot =
                batch.snapshot.as_ref().map(|meta| format!(" snapshot {}", meta.index)).unwrap_or_default();
            self.say(format!("persist ({sync}){hard}{snapshot}{entries}"));
        }
        if let Some(batch) = &apply {
            let entries: String =
                batch.entries.iter().map(|entry| format!(" [{}]", describe::entry(entry))).collect();
            let snapshot =
                batch.snapshot.as_ref().map(|meta| format!(" snapshot {}", meta.index)).unwrap_or_default();
            self.say(format!("apply{snapshot}{entries}"));
        }
        for read in reads {
            self.say(format!("read {} of {} from index {}", read.id.counter, read.id.node, read.index));
        }
        let cut = self.cut.clone();
        self.letters
            .extend(send.into_iter().filter(|m: &Message| !cut.contains(&m.from) && !cut.contains(&m.to)));
        let member = self.member(id);
        member.persists.extend(persist);
        member.applies.extend(apply);
        Ok(())
    }

    /// The oldest batch becomes durable.
    pub(super) fn persist(&mut self, id: NodeId) -> Outcome {
        let member = self.member(id);
        let batch = member.persists.pop_front().ok_or("nothing to persist")?;
        let node = member.node.as_mut().ok_or("down")?;
        for log in [&mut member.disk, node.storage_mut()] {
            if let Some(meta) = &batch.snapshot {
                log.apply_snapshot(meta.clone());
            }
            log.append(&batch.entries).map_err(text)?;
            if let Some(hard_state) = batch.hard_state {
                log.set_hard_state(hard_state);
            }
        }
        node.persisted(batch.token).map_err(text)
    }

    /// The oldest batch is applied, durably.
    pub(super) fn apply(&mut self, id: NodeId) -> Outcome {
        let member = self.member(id);
        let batch = member.applies.pop_front().ok_or("nothing to apply")?;
        let node = member.node.as_mut().ok_or("down")?;
        for entry in &batch.entries {
            member.applied = entry.index;
            if let Payload::ConfChange(change) = &entry.payload {
                member.members = node.apply_conf_change(change).map_err(text)?;
            }
        }
        if let Some(SnapshotMeta { index, conf_state, .. }) = batch.snapshot {
            member.applied = index;
            member.members = conf_state;
        }
        node.applied(batch.token).map_err(text)
    }

    pub(super) fn deliver(&mut self, id: NodeId, kind: Option<&str>) -> Outcome {
        let chosen = |letter: &Message| {
            letter.to == id && kind.is_none_or(|kind| describe::message_type(&letter.body) == kind)
        };
        let (taken, kept) = std::mem::take(&mut self.letters).into_iter().partition(chosen);
        self.letters = kept;
        let taken: Vec<Message> = taken;
        for letter in taken {
            let line = describe::message(&letter);
            let Ok(node) = self.node(id) else { continue };
            let outcome = node.step(letter);
            let refused = outcome.err().map(|error| format!(" refused: {error}")).unwrap_or_default();
            let fault = self.node(id)?.fault().map(|fault| format!(" fault: {fault}")).unwrap_or_default();
            self.say(format!("{line}{refused}{fault}"));
        }
        Ok(())
    }

    pub(super) fn compact(&mut self, id: NodeId, index: u64) -> Outcome {
        let member = self.member(id);
        let (applied, members) = (member.applied, member.members.clone());
        let node = member.node.as_mut().ok_or("down")?;
        for log in [&mut member.disk, node.storage_mut()] {
            log.create_snapshot(applied, members.clone()).map_err(text)?;
            log.compact(index).map_err(text)?;
        }
        Ok(())
    }

    pub(super) fn log(&mut self, id: NodeId) -> Outcome {
        let entries: Vec<String> = self.member(id).disk.all().iter().map(describe::entry).collect();
        self.say(if entries.is_empty() { "empty".to_string() } else { entries.join("\n") });
        Ok(())
    }

    pub(super) fn status(&mut self, id: NodeId) -> Outcome {
        let line = match &self.member(id).node {
            None => format!("{id}: down"),
            Some(node) => {
                let s = node.status();
                let fault = node.fault().map(|fault| format!(" fault: {fault}")).unwrap_or_default();
                format!(
                    "{id}: {:?} term {} leader {} commit {} applied {} persisted {} last {} {}{fault}",
                    s.role,
                    s.term,
                    s.leader,
                    s.commit,
                    s.applied,
                    s.persisted,
                    node.storage().last_index().max(s.last_index),
                    s.conf_state
                )
            }
        };
        self.say(line);
        Ok(())
    }

    pub(super) fn progress(&mut self, id: NodeId) -> Outcome {
        for (peer, progress) in self.node(id)?.status().progress {
            self.say(format!("{peer}: {progress}"));
        }
        Ok(())
    }
}
