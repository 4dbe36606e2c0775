//! The nodes of a script, their storages and the messages between them.

use std::collections::VecDeque;

use ketch_raft::{
    ApplyTiming, Body, ConfState, Config, Entry, Fetched, HardState, Index, MemoryStorage, Message, Node,
    NodeId, Pacing, Payload, ReadMode, Ready, RefusedChange, SnapshotMeta, Storage, StorageError, Term,
};

use crate::datadriven::Directive;
use crate::describe;
use crate::output::Output;
use crate::work::{AppendWork, ApplyWork, Letter};

pub(crate) fn run(directives: &[Directive]) -> Vec<String> {
    let mut env = Env::default();
    directives.iter().map(|directive| env.handle(directive)).collect()
}

/// A log in memory that always offers the state machine's newest state as the snapshot.
pub(crate) struct ScriptStorage {
    pub(crate) memory: MemoryStorage,
    /// The state machine after each entry, metadata only.
    pub(crate) history: Vec<SnapshotMeta>,
}

impl ScriptStorage {
    pub(crate) fn newest(&self) -> SnapshotMeta {
        self.history.last().cloned().unwrap_or_default()
    }
}

impl Storage for ScriptStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.memory.initial_state()
    }

    fn entries(&self, low: Index, high: Index, max_bytes: u64) -> Result<Fetched, StorageError> {
        self.memory.entries(low, high, max_bytes)
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        self.memory.term(index)
    }

    fn first_index(&self) -> Index {
        self.memory.first_index()
    }

    fn last_index(&self) -> Index {
        self.memory.last_index()
    }

    fn snapshot(&self, _at_least: Index, _to: NodeId) -> Result<SnapshotMeta, StorageError> {
        Ok(self.newest())
    }
}

pub(crate) struct Member {
    pub(crate) node: Node<ScriptStorage>,
    pub(crate) is_async: bool,
    pub(crate) append_work: VecDeque<AppendWork>,
    pub(crate) apply_work: VecDeque<ApplyWork>,
    /// Last printed.
    hard_state: HardState,
}

#[derive(Default)]
pub(crate) struct Env {
    pub(crate) members: Vec<Member>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) output: Output,
}

/// The options that `add-nodes` starts from: no limits, nothing but plain raft, one step at a time.
pub(crate) fn plain_config() -> Config {
    Config {
        election_ticks: 3,
        heartbeat_ticks: 1,
        pre_vote: false,
        check_quorum: false,
        max_append_bytes: u64::MAX,
        max_applying_bytes: u64::MAX,
        max_uncommitted_bytes: 0,
        max_inflight_messages: i32::MAX as usize,
        reads: ReadMode::Quorum,
        apply: ApplyTiming::WithPersist,
        pacing: Pacing::Stepwise,
        refused_change: RefusedChange::AppendEmpty,
        step_down_on_removal: false,
        ..Config::default()
    }
}

impl Env {
    pub(crate) fn member(&mut self, id: NodeId) -> &mut Member {
        let at = usize::try_from(id).expect("a small id") - 1;
        self.members.get_mut(at).unwrap_or_else(|| panic!("no node {id}"))
    }

    pub(crate) fn add_node(
        &mut self,
        template: &Config,
        is_async: bool,
        snapshot: &SnapshotMeta,
    ) -> Result<(), String> {
        let id = self.members.len() as u64 + 1;
        let mut memory = MemoryStorage::new();
        if snapshot.index > 0 {
            memory.apply_snapshot(snapshot.clone());
        }
        let storage = ScriptStorage { memory, history: vec![snapshot.clone()] };
        let apply = if is_async { ApplyTiming::AfterPersist } else { ApplyTiming::WithPersist };
        let config = Config { id, apply, ..template.clone() };
        let tracer = Box::new(self.output.clone());
        let mut node = Node::with_tracer(config, storage, tracer).map_err(|fault| fault.to_string())?;
        ketch_raft::testing::forget_promise(&mut node);
        let hard_state = node.hard_state();
        let (append_work, apply_work) = (VecDeque::new(), VecDeque::new());
        self.members.push(Member { node, is_async, append_work, apply_work, hard_state });
        Ok(())
    }

    pub(crate) fn process_ready(&mut self, id: NodeId) -> Result<(), String> {
        let output = self.output.clone();
        let member = self.member(id);
        let ready = member.node.ready();
        if let Some(fault) = member.node.fault() {
            return Err(fault.to_string());
        }
        let (said, promised): (Vec<_>, Vec<_>) =
            output.take_sent(id).into_iter().partition(|message| !is_promise(&message.body));
        check_lanes(member, &ready, &said, &promised)?;
        if member.is_async {
            self.accept_async(id, ready, said, promised)
        } else {
            self.accept_sync(id, ready, said, promised)
        }
    }

    /// Prints a Ready, persists, applies, and reports both.
    fn accept_sync(
        &mut self,
        id: NodeId,
        ready: Ready,
        said: Vec<Message>,
        promised: Vec<Message>,
    ) -> Result<(), String> {
        let mut letters = said;
        letters.extend(promised.into_iter().filter(|message| message.to != id));
        let lines: Vec<String> = letters.iter().map(describe::message).collect();
        let text = self.member(id).describe(&ready, &lines);
        self.output.write(&text);
        let member = self.member(id);
        if let Some(persist) = &ready.persist {
            member.store(persist.hard_state, &persist.entries, persist.snapshot.as_ref())?;
        }
        if let Some(apply) = &ready.apply {
            member.apply(&apply.entries)?;
        }
        self.letters.extend(letters.into_iter().map(Letter::Peer));
        let member = self.member(id);
        if let Some(persist) = ready.persist {
            member.node.persisted(persist.token).map_err(|fault| fault.to_string())?;
        }
        if let Some(apply) = ready.apply {
            member.node.applied(apply.token).map_err(|fault| fault.to_string())?;
        }
        // They are on their way already.
        member.node.take_released();
        Ok(())
    }

    /// Prints a Ready and hands its batches to the two threads.
    fn accept_async(
        &mut self,
        id: NodeId,
        mut ready: Ready,
        said: Vec<Message>,
        promised: Vec<Message>,
    ) -> Result<(), String> {
        let mut lines: Vec<String> = said.iter().map(describe::message).collect();
        let (persist, apply) = (ready.persist.take(), ready.apply.take());
        let member = self.member(id);
        let append = persist.map(|persist| {
            let mut responses: Vec<Letter> = promised.into_iter().map(Letter::Peer).collect();
            responses.extend(
                member.node.report_of(&persist.token).map(|report| Letter::Appended { to: id, report }),
            );
            let (hard_state, entries, snapshot) = (persist.hard_state, persist.entries, persist.snapshot);
            AppendWork { node: id, hard_state, entries, snapshot, responses, token: persist.token }
        });
        let apply = apply.map(|apply| ApplyWork {
            response: Letter::Applied { to: id, entries: apply.entries, token: apply.token },
        });
        lines.extend(append.iter().map(|work| work.text(true)));
        lines.extend(apply.iter().map(|work| work.text(true)));
        let text = member.describe_parts(
            &ready,
            append.as_ref().and_then(|work| work.hard_state),
            append.as_ref().map_or(&[], |work| &work.entries),
            append.as_ref().and_then(|work| work.snapshot.as_ref()),
            apply.as_ref().map_or(&[], |work| work.entries()),
            &lines,
        );
        member.append_work.extend(append);
        member.apply_work.extend(apply);
        self.output.write(&text);
        self.letters.extend(said.into_iter().map(Letter::Peer));
        Ok(())
    }
}

pub(crate) fn is_promise(body: &Body) -> bool {
    matches!(body, Body::AppendAnswer { .. } | Body::VoteAnswer { .. } | Body::PreVoteAnswer { .. })
}

/// What the lanes hold back is exactly: the promises, and the votes asked for.
fn check_lanes(member: &Member, ready: &Ready, said: &[Message], promised: &[Message]) -> Result<(), String> {
    let waits = |message: &&Message| matches!(message.body, Body::Vote { .. });
    let held: Vec<&Message> = said.iter().filter(waits).chain(promised).collect();
    let waiting =
        ready.persist.as_ref().map(|persist| member.node.waiting_for(&persist.token)).unwrap_or_default();
    if held.iter().copied().ne(waiting.iter()) {
        return Err(format!("the persist lane holds {waiting:?} instead of {held:?}"));
    }
    let at_once: Vec<&Message> = said.iter().filter(|message| !waits(message)).collect();
    if at_once.iter().copied().ne(ready.send.iter()) {
        return Err(format!("the send lane holds {:?} instead of {at_once:?}", ready.send));
    }
    Ok(())
}

impl Member {
    fn describe(&mut self, ready: &Ready, messages: &[String]) -> String {
        let persist = ready.persist.as_ref();
        let applied = ready.apply.as_ref().map_or(&[][..], |apply| &apply.entries);
        self.describe_parts(
            ready,
            persist.and_then(|persist| persist.hard_state),
            persist.map_or(&[], |persist| &persist.entries),
            persist.and_then(|persist| persist.snapshot.as_ref()),
            applied,
            messages,
        )
    }

    fn describe_parts(
        &mut self,
        ready: &Ready,
        hard_state: Option<HardState>,
        entries: &[Entry],
        snapshot: Option<&SnapshotMeta>,
        committed: &[Entry],
        messages: &[String],
    ) -> String {
        let before = self.hard_state;
        self.hard_state = hard_state.unwrap_or(before);
        let must_sync =
            !entries.is_empty() || (before.term, before.vote) != (self.hard_state.term, self.hard_state.vote);
        let mut text = String::new();
        let mut block = |line: String| text += &line;
        if let Some(soft) = ready.soft {
            block(describe::soft_state(soft) + "\n");
        }
        if let Some(hard) = hard_state {
            block(format!("HardState {}\n", describe::hard_state(hard)));
        }
        if !ready.reads.is_empty() {
            let reads: Vec<String> =
                ready.reads.iter().map(|read| format!("{{{} []}}", read.index)).collect();
            block(format!("ReadStates [{}]\n", reads.join(" ")));
        }
        if !entries.is_empty() {
            block("Entries:\n".to_string() + &describe::entries(entries));
        }
        if let Some(meta) = snapshot {
            block(format!("Snapshot {}\n", describe::snapshot(meta)));
        }
        if !committed.is_empty() {
            block("CommittedEntries:\n".to_string() + &describe::entries(committed));
        }
        if !messages.is_empty() {
            block(format!("Messages:\n{}\n", messages.join("\n")));
        }
        if text.is_empty() {
            "<empty Ready>".to_string()
        } else {
            format!("Ready MustSync={must_sync}:\n{text}")
        }
    }

    pub(crate) fn store(
        &mut self,
        hard_state: Option<HardState>,
        entries: &[Entry],
        snapshot: Option<&SnapshotMeta>,
    ) -> Result<(), String> {
        let storage = self.node.storage_mut();
        if let Some(hard_state) = hard_state {
            storage.memory.set_hard_state(hard_state);
        }
        if let Some(meta) = snapshot {
            if !entries.is_empty() {
                return Err("can't apply snapshot and entries at the same time".to_string());
            }
            if storage.memory.last_index() != 0 && meta.index < storage.memory.first_index() {
                return Err("requested index is older than the existing snapshot".to_string());
            }
            storage.memory.apply_snapshot(meta.clone());
            return Ok(());
        }
        storage.memory.append(entries).map_err(|error| error.to_string())
    }

    pub(crate) fn apply(&mut self, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let mut conf_state = self.node.storage().newest().conf_state;
            if let Payload::ConfChange(change) = &entry.payload {
                conf_state = self.node.apply_conf_change(change).map_err(|fault| fault.to_string())?;
            }
            let snapshot = SnapshotMeta { index: entry.index, term: entry.term, conf_state };
            self.node.storage_mut().history.push(snapshot);
        }
        Ok(())
    }
}
